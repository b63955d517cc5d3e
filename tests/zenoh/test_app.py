"""An app with a Zenoh connector, tested as any other: in memory, in one process, and split."""

from __future__ import annotations

import pytest
import trio

from taktora_trio import ConfigError, Connecting, Deployment, Down, Inbound, Outbound, Up, ZenohConnector, ZenohRouting
from taktora_trio.testing import OpenApp, open_app
from tests.zenoh.greenhouse import HEATER, READINGS, Heater, Reading, deployment

of_each_shape = pytest.mark.taktora_shape(
    "memory", pytest.param("in-process", marks=pytest.mark.zenoh), pytest.param("split", marks=pytest.mark.zenoh)
)


@of_each_shape
@pytest.mark.parametrize("declared", ["deployment", "peer"])
async def test_messages_come_and_go_and_faults_pass(open_app: OpenApp, declared: str) -> None:
    async with open_app(f"tests.zenoh.greenhouse:{declared}") as app:
        for number, celsius in enumerate((3.0, 30.0)):
            await app.publish(f"greenhouse/{number}/reading", Reading(celsius))
            sent = await app.expect(HEATER)
            assert (sent.value, sent.topic, sent.guarantee) == (
                Heater(celsius < 10),
                HEATER.routing.address,
                "at most once",
            )
        app.cut()
        await app.wait_for_health(Connecting)
        await app.wait_for_health(Up)
        async with app.unreachable():
            await app.wait_for_health(Connecting)
        await app.wait_for_health(Up)
        app.kill_gateway()
        assert isinstance(await app.wait_for_health(Down), Down)
        await app.wait_for_health(Up)
        await app.publish("greenhouse/1/reading", Reading(4.0))
        assert (await app.expect("greenhouse/*")).value == Heater(on=True)
        assert len(app.sent()) == 3


async def test_what_zenoh_does_not_have_is_said(autojump_clock: trio.testing.MockClock) -> None:
    async with open_app(deployment) as app:
        with pytest.raises(ConfigError, match="Zenoh has no qos"):
            await app.publish("greenhouse/1/reading", Reading(3.0), qos=1)
        with pytest.raises(ConfigError, match="name one of them"):
            await app.publish(READINGS, Reading(3.0))


async def test_what_the_app_asks_others_for_is_no_message_of_its(autojump_clock: trio.testing.MockClock) -> None:
    """Latched values on keys that the app publishes to, too."""
    wants = Inbound("wants", Heater, ZenohRouting("state/**", latched=True))
    has = Outbound("has", Heater, ZenohRouting("state/own", latched=True))
    async with open_app(Deployment("both", None, [ZenohConnector([wants, has])])) as app:
        await app.publish("state/others", Heater(on=True), retain=True)
        async with app.host.open_writer(has) as writer:
            await writer.send(Heater(on=False))
            sent = await app.expect(has)
        assert (sent.topic, sent.retained) == ("state/own", True)
        assert app.sent() == [sent]
