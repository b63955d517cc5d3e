"""Nothing is lost at QoS 1 and 2, whatever happens to the gateway and the broker; what comes twice is counted.

The same with a hundred kills: `make soak`.
"""

from __future__ import annotations

import random

import pytest

from taktora_trio.transport.domain import Domain
from tests.brokers.sessions import Kind, each_session
from tests.deployment.lossless import open_under_fire
from tests.deployment.lossless_apps import Plan
from tests.mosquitto import Mosquitto

pytestmark = [each_session, pytest.mark.timeout(180)]

KILLS = 12


async def test_outbound_while_the_gateway_is_killed(session: Kind, broker: Mosquitto, domain: Domain) -> None:
    async with open_under_fire(session, Plan(out=(1,)), broker, domain) as fire:
        await fire.kill_gateways(KILLS, random.Random(4))
        out, _ = await fire.finish(30)
    print(out[1])  # noqa: T201 - shown with -s
    assert out[1].is_lossless, out[1]
    assert out[1].repeated <= KILLS * fire.plan.window
