"""Nothing is lost at QoS 1 and 2, whatever happens to the gateway and the broker; what comes twice is counted.

The same with a hundred kills: `make soak`.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from taktora_trio.channels import Inbound
from taktora_trio.connectors.mqtt.routing import MqttRouting
from taktora_trio.health import Degraded
from taktora_trio.transport.domain import Domain
from tests.brokers.live import open_live
from tests.brokers.packets import PUBACK
from tests.brokers.sessions import Kind, each_session
from tests.brokers.tap import open_tap
from tests.deployment.lossless import Figures, open_under_fire
from tests.deployment.lossless_apps import Plan
from tests.mosquitto import Mosquitto, open_mosquitto

pytestmark = [each_session, pytest.mark.chaos, pytest.mark.timeout(180)]

KILLS = {"native": 10, "native-5": 4, "aiomqtt": 3}


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Mosquitto]:
    """It keeps sessions and messages when it is ended by SIGTERM."""
    async with open_mosquitto(tmp_path, ["persistence true", f"persistence_location {tmp_path}/"]) as running:
        yield running


@pytest.mark.parametrize("qos", [1, 2])
async def test_both_directions_while_the_gateway_is_killed(
    session: Kind, qos: int, broker: Mosquitto, domain: Domain
) -> None:
    if qos > session.lasting_qos:
        return await check_that_it_is_refused(session, broker, domain)
    plan = Plan(out=(qos,), into=(qos,), rate=session.pace / qos)
    async with open_under_fire(session, plan, broker, domain) as fire:
        await fire.during(fire.kill_gateways(KILLS[session.name] // qos, random.Random(qos)))
        out, into = await fire.finish(40)
    print(f"out {out[qos]}; in {into[qos]}")  # noqa: T201 - shown with -s
    assert out[qos].is_lossless, out[qos]
    assert into[qos].is_lossless, into[qos]
    return None


async def check_that_it_is_refused(session: Kind, broker: Mosquitto, domain: Domain) -> None:
    """A session that can't do it says so at the start: it does not lose messages later."""
    options = session.options(broker.url)
    channel = Inbound("in", bytes, MqttRouting("lossless/in", qos=2))
    async with open_live([channel], options, domain) as live:
        [event] = await live.until_transitions(1)
        assert isinstance(event.after, Degraded)
        assert "can't do QoS 2 in a persistent session" in event.after.reason


async def test_both_directions_while_the_broker_is_restarted(session: Kind, broker: Mosquitto, domain: Domain) -> None:
    async with open_under_fire(session, Plan(out=(1,), into=(1,), rate=session.pace), broker, domain) as fire:
        await fire.during(fire.restart_broker(broker, 3, random.Random(3)))
        out, into = await fire.finish(40)
    print(f"out {out[1]}; in {into[1]}")  # noqa: T201
    assert out[1].is_lossless, out[1]
    assert into[1].is_lossless, into[1]


async def test_a_slow_reader_stops_the_acknowledgements_and_loses_nothing(
    session: Kind, broker: Mosquitto, domain: Domain
) -> None:
    """What the gateway has acknowledged is what is in shared memory or was read: never more than a window ahead."""
    count, window = 600, 50
    plan = Plan(into=(1,), window=window, pause=0.002, at_once=1, backlog=20_000)
    async with open_tap(broker.port) as tap, open_under_fire(session, plan, broker, domain, url=tap.url) as fire:
        ahead = list[int]()

        def look(kind: int) -> None:
            if kind == PUBACK:
                fire.look()
                ahead.append(tap.up[PUBACK] - len(fire.heard[1]))

        tap.on_up = look
        for number in range(count):
            fire.talker.say("lossless/in/1", b"%d" % number, 1)
        fire.said = count
        _, into = await fire.finish(60)
        assert fire.run.half("gateway"), "it was never started again"
    assert into[1] == Figures(count, lost=0, reordered=0, repeated=0, most=1)
    assert tap.up[PUBACK] >= count
    # What the app has read is known here a little later than the gateway knows it.
    assert max(ahead) <= 2 * window, "acknowledged before the app had room for it"
