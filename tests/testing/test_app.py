"""`open_app` in memory: what a test publishes, expects and breaks."""

from __future__ import annotations

import attrs
import pytest
import trio
from trio.testing import MockClock

from taktora_trio import (
    BackPressure,
    CodecError,
    ConfigError,
    Connecting,
    ConnectorHost,
    Degraded,
    Deployment,
    Down,
    Up,
)
from taktora_trio.testing import NothingCame, open_app
from tests.testing.greenhouse import HEATER, READINGS, Heater, Reading, deployment

NO_APP = attrs.evolve(deployment, app=None)


async def test_what_the_app_publishes_is_expected_in_order(autojump_clock: MockClock) -> None:
    async with open_app(deployment) as app:
        for celsius in (3.0, 20.0):
            await app.publish("greenhouse/east/reading", Reading(celsius))
        first = await app.expect("heater")
        assert (first.topic, first.value, first.channel) == ("greenhouse/heater", Heater(on=True), "heater")
        assert first.payload == b'{"on":true}'
        assert first.guarantee == "at least once"
        assert (await app.expect("greenhouse/+")).value == Heater(on=False)
        assert [sent.value for sent in app.sent(HEATER)] == [Heater(on=True), Heater(on=False)]
        assert app.sent() == app.sent("greenhouse/#")
        assert isinstance(app.health(), Up)


async def test_nothing_came_says_what_came_instead_and_the_health(autojump_clock: MockClock) -> None:
    async with open_app(deployment) as app:
        await app.publish(READINGS.routing.address.replace("+", "west"), Reading(5.0))
        await app.expect(HEATER)
        before = trio.current_time()
        with pytest.raises(NothingCame, match=r"nothing came on 'heater' within 2 s; health: mqtt Up; nothing else"):
            await app.expect("heater", timeout=2)
        assert trio.current_time() - before == 2


@pytest.mark.parametrize(
    ("topic", "said"),
    [
        ("greenhose/east/reading", "did you mean 'greenhouse/+/reading'"),
        ("readings", "is a channel, where a topic belongs: publish to 'greenhouse/+/reading'"),
        ("greenhouse/heater", "is what the app publishes"),
    ],
)
async def test_a_topic_that_the_app_does_not_read(topic: str, said: str, autojump_clock: MockClock) -> None:
    async with open_app(deployment) as app:
        with pytest.raises(ConfigError, match=said.replace("+", r"\+")):
            await app.publish(topic, Reading(3.0))


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("heatre", "did you mean 'heater'"),
        ("greenhouse/+/reading", "is what the app reads"),
        ("elsewhere/#", "it has 'heater' on 'greenhouse/heater'"),
    ],
)
async def test_a_topic_that_the_app_does_not_publish(what: str, said: str, autojump_clock: MockClock) -> None:
    async with open_app(deployment) as app:
        with pytest.raises(ConfigError, match=said):
            await app.expect(what)
        with pytest.raises(ConfigError, match=said):
            app.sent(what)


def test_without_trio_the_error_says_so() -> None:
    with pytest.raises(ConfigError, match="open_app runs on trio"):
        open_app(deployment).__aenter__().__await__().__next__()  # a loop of asyncio's own is no place for other tests


async def test_what_is_neither_a_channel_nor_a_topic(autojump_clock: MockClock) -> None:
    async with open_app(deployment) as app:
        with pytest.raises(ConfigError, match="None is not an inbound channel or a topic"):
            await app.publish(None, Reading(3.0))  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match=r"Reading'> is not an outbound channel, its name or a topic"):
            await app.expect(Reading)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="'heater' is an Outbound: the app publishes it, so expect it"):
            await app.publish(HEATER, Heater(on=True))  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="'readings' is an Inbound: the app reads it, so publish to it"):
            await app.expect(READINGS)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match=r"MQTT has no response_topic: .* are in metadata=Metadata\("):
            await app.publish("greenhouse/east/reading", Reading(3.0), response_topic="to/me")


async def test_a_value_of_another_type_says_what_the_channel_carries(autojump_clock: MockClock) -> None:
    async with open_app(deployment) as app:
        with pytest.raises(CodecError, match=r"channel 'readings' of Reading: .* not Heater"):
            await app.publish("greenhouse/east/reading", Heater(on=True))


async def test_the_apps_own_exception_reaches_the_test_as_itself(autojump_clock: MockClock) -> None:
    failure = ValueError("broken")

    async def fail(host: ConnectorHost) -> None:
        async with host.open_reader(READINGS) as readings:
            await readings.receive()
            raise failure

    with pytest.raises(ValueError, match="broken") as raised:  # noqa: PT012 - the block is what raises
        async with open_app(attrs.evolve(deployment, app=fail)) as app:
            await app.publish("greenhouse/east/reading", Reading(3.0))
            await app.expect("heater", timeout=1000)
    assert raised.value is failure


async def test_the_tests_own_exception_is_in_no_group(autojump_clock: MockClock) -> None:
    with pytest.raises(KeyError, match="mine"):
        async with open_app(deployment):
            raise KeyError("mine")
    with pytest.raises(pytest.fail.Exception):
        async with open_app(deployment):
            pytest.fail("mine")


async def test_an_app_that_returns_ends_well(autojump_clock: MockClock) -> None:
    async def once(host: ConnectorHost) -> None:
        async with host.open_writer(HEATER) as heater:
            await host.wait_for_health(Up)  # what is sent before and not taken at the end is lost, as everywhere
            await heater.send(Heater(on=True))

    async with open_app(attrs.evolve(deployment, app=once)) as app:
        await app.wait_until_ended()
        assert (await app.expect("heater")).value == Heater(on=True)
        assert app.has_ended
        with pytest.raises(NothingCame, match="nothing came on 'heater'; the app has returned"):
            await app.expect("heater")


async def test_a_cut_connection_comes_again_by_its_backoff(autojump_clock: MockClock) -> None:
    async with open_app(deployment) as app:
        await app.wait_for_health(Up)
        app.cut()
        await app.wait_for_health(Connecting)
        await app.wait_for_health(Up)
        await app.publish("greenhouse/east/reading", Reading(3.0))
        await app.expect("heater")


async def test_while_the_broker_is_out_of_reach_what_the_app_sends_waits(autojump_clock: MockClock) -> None:
    async with open_app(NO_APP) as app, app.host.open_writer(HEATER) as heater:
        await app.wait_for_health(Up)
        async with app.unreachable():
            await app.wait_for_health(Connecting)
            await heater.send(Heater(on=True))
            with pytest.raises(NothingCame, match="health: mqtt Connecting"):
                await app.expect("heater", timeout=60)
        assert (await app.expect("heater", timeout=60)).value == Heater(on=True)


async def test_a_refused_login_is_down_until_it_is_revived(autojump_clock: MockClock) -> None:
    async with open_app(deployment) as app:
        await app.wait_for_health(Up)
        async with app.refused():
            down = await app.wait_for_health(Down)
            assert isinstance(down, Down)
            assert "refused the login" in down.reason
        await app.revive()
        await app.wait_for_health(Up, timeout=1)


async def test_a_killed_gateway_is_down_and_starts_again(autojump_clock: MockClock) -> None:
    async with open_app(deployment) as app:
        await app.wait_for_health(Up)
        app.kill_gateway()
        await app.wait_for_health(Down)
        await app.wait_for_health(Up)
        await app.publish("greenhouse/east/reading", Reading(3.0))
        assert (await app.expect("heater")).value == Heater(on=True)


async def test_a_slow_broker_takes_its_time_for_each_message(autojump_clock: MockClock) -> None:
    async with open_app(NO_APP) as app, app.host.open_writer(HEATER) as heater:
        await app.wait_for_health(Up)
        async with app.slow(3):
            before = trio.current_time()
            number = await heater.send(Heater(on=True))
            await heater.wait_acknowledged(number)
            assert trio.current_time() - before == pytest.approx(3, abs=0.1)
        await heater.wait_acknowledged(await heater.send(Heater(on=True)))
        assert trio.current_time() - before == pytest.approx(3, abs=0.2)


async def test_full_channels_push_back(autojump_clock: MockClock) -> None:
    async with open_app(NO_APP) as app, app.host.open_writer(HEATER) as heater:
        await app.wait_for_health(Up)
        async with app.full():
            for _ in range(HEATER.window):
                heater.send_nowait(Heater(on=True))
            with pytest.raises(BackPressure):
                heater.send_nowait(Heater(on=True))
            await app.wait_for_health(Degraded)
        await heater.send(Heater(on=False))
        for on in [True] * HEATER.window + [False]:
            assert (await app.expect("heater")).value == Heater(on)


async def test_the_app_has_its_host_for_itself(autojump_clock: MockClock) -> None:
    async with open_app(deployment) as app:
        with pytest.raises(ConfigError, match="app=None"):
            app.host  # noqa: B018 - it raises


async def test_what_is_no_deployment_or_no_shape_is_said(autojump_clock: MockClock) -> None:
    with pytest.raises(ConfigError, match="tests a Deployment"):
        async with open_app(NO_APP.connectors[0]):  # type: ignore[arg-type]
            pass
    with pytest.raises(ConfigError, match="no shape 'fast': use one of memory"):
        async with open_app(deployment, "fast"):  # type: ignore[arg-type]
            pass
    assert isinstance(deployment, Deployment)


@attrs.frozen
class Settings:
    high: float


async def test_settings_that_were_chosen_stay(autojump_clock: MockClock) -> None:
    wanted = attrs.evolve(NO_APP, settings=Settings)
    async with open_app(wanted.with_settings(Settings(3.0))) as app:
        assert app.host.settings == Settings(3.0)
    async with open_app(wanted, settings={"app.high": "7"}) as app:
        assert app.host.settings == Settings(7.0)
    with pytest.raises(ConfigError, match=r"--app\.hihg: the app has no such setting; is high meant"):
        async with open_app(wanted, settings={"app.hihg": "7"}):
            pass
