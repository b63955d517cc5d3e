"""The shape in memory: what an app may use works there, by the virtual clock, and nothing else is touched."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from examples.line_protocol import deployment as line_deployment
from taktora_trio import (
    ConfigError,
    ConnectorHost,
    Deployment,
    Down,
    Inbound,
    LastWill,
    Metadata,
    MqttConnector,
    MqttOptions,
    MqttRouting,
    MsgpackCodec,
    Outbound,
    RawCodec,
    RestartPolicy,
    Store,
    Up,
)
from taktora_trio.testing import NothingCame, open_app
from tests.testing.greenhouse import Heater, Reading


def deployment_of(*channels: Any, app: Any = None, connector: Any = MqttConnector, **options: Any) -> Deployment:
    """Return a deployment with one connector; without an app the test is the app."""
    of_deployment = {name: options.pop(name) for name in ("store", "gateway_policy") if name in options}
    return Deployment("memory", app, [connector(channels, **options)], **of_deployment)


V5 = MqttOptions(protocol="5")


# What an app may use


@attrs.frozen
class Setpoint:
    unit: str
    celsius: float


async def test_templates_fill_the_topic_and_are_read_from_it(autojump_clock: trio.testing.MockClock) -> None:
    wanted = Inbound("wanted", Setpoint, MqttRouting("plant/{unit}/wanted", qos=1))
    given_ = Outbound("given", Setpoint, MqttRouting("plant/{unit}/given", qos=1))
    async with (
        open_app(deployment_of(wanted, given_)) as app,
        app.host.open_reader(wanted) as reader,
        app.host.open_writer(given_) as writer,
    ):
        await app.publish(wanted, Setpoint("press", 20.0))
        await app.publish("plant/oven/wanted", b'{"celsius":200.0}')
        for unit, celsius in (("press", 20.0), ("oven", 200.0)):
            received = await reader.receive()
            assert (received.topic, received.value) == (f"plant/{unit}/wanted", Setpoint(unit, celsius))
            await writer.send(received.value)
            sent = await app.expect(f"plant/{unit}/+")
            assert (sent.channel, sent.value) == ("given", Setpoint(unit, celsius))
        with pytest.raises(ConfigError, match="name one of them"):
            await app.publish(wanted, b"{}")


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_message_pack_at_each_qos(qos: Any, autojump_clock: trio.testing.MockClock) -> None:
    into = Inbound("into", Reading, MqttRouting("into", qos=qos))
    out = Outbound("out", Reading, MqttRouting("out", qos=qos, retain=True))

    async def app(host: ConnectorHost) -> None:
        async with host.open_reader(into) as reader, host.open_writer(out) as writer:
            async for received in reader:
                await writer.send(received.value)

    async with open_app(deployment_of(into, out, app=app, codec=MsgpackCodec())) as running:
        await running.publish("into", Reading(1.5))
        sent = await running.expect(out)
        assert (sent.value, sent.retained) == (Reading(1.5), True)
        assert sent.guarantee == ("at most once", "at least once", "exactly once")[qos]


async def test_large_payloads_by_loan_and_borrow(autojump_clock: trio.testing.MockClock) -> None:
    into = Inbound("into", bytes, MqttRouting("into", qos=1), max_payload=2**20, window=2)
    out = Outbound("out", bytes, MqttRouting("out", qos=1), max_payload=2**20, window=2)
    async with (
        open_app(deployment_of(into, out, codec=RawCodec())) as app,
        app.host.open_reader(into) as reader,
        app.host.open_writer(out) as writer,
    ):
        for number in range(5):
            payload = bytes([number]) * 2**20
            await app.publish("into", payload)
            async with reader.borrow() as borrowed, writer.loan(2**20) as view:
                view[:] = borrowed.value
            assert (await app.expect("out")).payload == payload


async def test_metadata_retained_messages_and_a_last_will(autojump_clock: trio.testing.MockClock) -> None:
    into = Inbound("into", Reading, MqttRouting("into", qos=1), max_metadata=200)
    will = LastWill("gone", b"yes", 1, retain=True)
    async with (
        open_app(deployment_of(into, options=MqttOptions(protocol="5", will=will))) as app,
        app.host.open_reader(into) as reader,
    ):
        metadata = Metadata("text/plain", user_properties=(("a", "b"),))
        await app.publish("into", Reading(1.0), metadata=metadata, correlation_id=b"id", retain=True)
        received = await reader.receive()
        assert (received.metadata, received.header.correlation_id, received.retained) == (metadata, b"id", False)
        app.cut()
        await app.wait_for_health(Up)
        gone = app.sent()[-1]
        assert (gone.topic, gone.value, gone.channel, gone.retained) == ("gone", b"yes", None, True)


async def test_a_message_ages_by_the_virtual_clock(autojump_clock: trio.testing.MockClock) -> None:
    out = Outbound("out", Reading, MqttRouting("out", qos=1), max_metadata=100)
    into = Inbound("into", Reading, MqttRouting("into", qos=1), max_metadata=100)
    async with (
        open_app(deployment_of(out, into, options=V5)) as app,
        app.host.open_writer(out) as writer,
        app.host.open_reader(into) as reader,
    ):
        await app.wait_for_health(Up)
        app_gets = partial(app.publish, "into")
        await app_gets(Reading(0.0))
        async with app.unreachable():
            for seconds in (10, 100):
                await writer.send(Reading(seconds), metadata=Metadata(message_expiry=seconds))
                await app_gets(Reading(seconds), metadata=Metadata(message_expiry=seconds))
            await trio.sleep(50)
        await app.revive()
        sent = await app.expect("out")
        assert sent.value == Reading(100)
        assert sent.metadata is not None
        assert 30 < (sent.metadata.message_expiry or 0) <= 50
        assert [(await reader.receive()).value.celsius for _ in range(2)] == [0, 100]
        with pytest.raises(NothingCame):
            await app.expect("out", timeout=100)


def folders() -> set[Path]:
    """Return all that a test may have left on disk."""
    return set(Path(tempfile.gettempdir()).glob("taktora-*"))


async def test_what_is_stored_is_on_disk_for_as_long_as_the_test(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # not where other tests have their folders at the same time
    out = Outbound("out", Reading, MqttRouting("out", qos=1))
    into = Inbound("into", Reading, MqttRouting("into", qos=1), acknowledge="stored", max_deliveries=1)
    elsewhere = Path(tempfile.gettempdir(), "taktora-test-never-made")
    before = folders()
    deployment = deployment_of(out, into, store=Store(path=elsewhere))
    async with (
        open_app(deployment) as app,
        app.host.open_writer(out) as writer,
        app.host.open_reader(into) as reader,
    ):
        await app.wait_for_health(Up)
        async with app.unreachable():
            number = await writer.send(Reading(1.0))
            await writer.wait_stored(number)
            app.kill_gateway()
            await app.wait_for_health(Down)
        assert (await app.expect("out")).value == Reading(1.0)
        await app.publish("into", Reading(2.0))
        assert (await reader.receive()).value == Reading(2.0)
    assert folders() == before


async def test_an_app_and_a_deployment_by_name(autojump_clock: trio.testing.MockClock) -> None:
    async with open_app("tests.testing.greenhouse:by_name") as app:
        await app.publish("greenhouse/east/reading", Reading(3.0))
        assert (await app.expect("heater")).value == Heater(on=True)
    with pytest.raises(ConfigError, match="no Deployment named 'nowhere'"):
        async with open_app("tests.testing.greenhouse:nowhere"):
            pass


async def test_a_connector_without_a_peer_in_memory_says_what_to_do(autojump_clock: trio.testing.MockClock) -> None:
    with pytest.raises(ConfigError, match=r"connector 'line' \(LineConnector\) can't be tested in memory: test it in"):
        async with open_app(line_deployment):
            pass


async def test_a_gateway_that_fails_too_often_ends_the_run_by_its_policy(
    autojump_clock: trio.testing.MockClock,
) -> None:
    policy = RestartPolicy(restart="always", intensity=1)
    async with open_app(deployment_of(Outbound("o", Reading, MqttRouting("o")), gateway_policy=policy)) as app:
        for _ in range(2):
            await app.wait_for_health(Up)
            app.kill_gateway()
            await app.wait_for_health(Down)
        with pytest.raises(NothingCame, match="given up"):
            await app.wait_for_health(Up, timeout=3600)
        await app.revive()
        await app.wait_for_health(Up)


# What is left


async def test_what_a_test_closes_too_late_is_closed_without_harm(autojump_clock: trio.testing.MockClock) -> None:
    out = Outbound("out", Reading, MqttRouting("out", qos=1))
    into = Inbound("into", Reading, MqttRouting("into", qos=1))
    async with contextlib.AsyncExitStack() as later:
        async with open_app(deployment_of(out, into)) as app:
            writer = await later.enter_async_context(app.host.open_writer(out))
            reader = await later.enter_async_context(app.host.open_reader(into))
            for seconds in (1.0, 2.0):
                await app.publish("into", Reading(seconds))
                await writer.send((await reader.receive()).value)
                assert (await app.expect("out")).value == Reading(seconds)
            await app.publish("into", Reading(3.0))
        with pytest.raises(trio.ClosedResourceError):
            writer.send_nowait(Reading(4.0))
        with trio.fail_after(1000), pytest.raises(trio.ClosedResourceError):
            await reader.receive()


_ALONE = """
import sys, threading
sys.modules["pytest"] = sys.modules["_pytest"] = None  # they can't be imported
import trio, trio.testing

async def main():
    from taktora_trio.testing import open_app
    from tests.testing.greenhouse import Heater, Reading, deployment
    tasks = trio.lowlevel.current_statistics().tasks_living
    seen = []
    watched = ("socket.", "subprocess.", "os.fork", "os.exec", "os.posix_spawn", "shutil.", "os.mkdir", "os.truncate")
    async def use():
        async with open_app(deployment) as app:
            await app.publish("greenhouse/east/reading", Reading(3.0))
            assert (await app.expect("heater")).value == Heater(on=True)
    await use()
    sys.addaudithook(lambda event, args: seen.append((event, args)) if event.startswith(watched)
        or event == "open" and "/dev/shm" in str(args[0]) else None)
    await use()
    assert seen == [], seen
    assert trio.lowlevel.current_statistics().tasks_living == tasks
    assert threading.active_count() <= 2  # trio keeps one for the next time
    for name in ("iceoryx2", "hypothesis", "aiomqtt", "paho"):
        assert name not in sys.modules, name
    import os, pathlib
    assert not list(pathlib.Path("/dev/shm").glob(f"taktora-{os.geteuid()}/greenhouse*"))

trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
"""


def test_nothing_but_memory_is_used() -> None:
    command = [sys.executable, "-W", "error", "-c", _ALONE]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


# The virtual clock and threads


async def test_time_stands_still_while_a_thread_of_the_app_works(autojump_clock: trio.testing.MockClock) -> None:
    async def app(host: ConnectorHost) -> None:
        with trio.fail_after(1):
            await trio.to_thread.run_sync(time.sleep, 0.05)
        await trio.sleep(1000)

    start = trio.current_time()
    async with open_app(deployment_of(Outbound("out", Reading, MqttRouting("out")), app=app)) as running:
        await running.wait_until_ended(timeout=2000)
    assert trio.current_time() - start == pytest.approx(1000, abs=10)


# Whatever goes wrong

NUMBERS_IN = Inbound("in", int, MqttRouting("in", qos=2), window=8)
NUMBERS_OUT = Outbound("out", int, MqttRouting("out", qos=2), window=8)


async def _pass_on(host: ConnectorHost) -> None:
    async with host.open_reader(NUMBERS_IN) as numbers, host.open_writer(NUMBERS_OUT) as out:
        async for received in numbers:
            await out.send(received.value)


async def _through(faults: list[tuple[str, float]]) -> list[int]:
    """Send a number with each fault, and return what came out."""
    async with open_app(deployment_of(NUMBERS_IN, NUMBERS_OUT, app=_pass_on)) as app:
        await app.wait_for_health(Up)
        for number, (fault, seconds) in enumerate(faults):
            send = partial(app.publish, "in", number)
            match fault:
                case "cut" | "kill_gateway":
                    await send()
                    await trio.sleep(seconds / 10)
                    getattr(app, fault)()
                case "slow":
                    async with app.slow(seconds):
                        await send()
                        await trio.sleep(seconds / 2)
                case "unreachable" | "full":
                    async with getattr(app, fault)():
                        await send()
                        await trio.sleep(seconds)
                case "refused":
                    async with app.refused():
                        await send()
                        await trio.sleep(seconds)
                    await app.revive()
        for _ in faults:
            await app.expect("out", timeout=600)
        await trio.sleep(600)
        return [sent.value for sent in app.sent("out")]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["cut", "kill_gateway", "slow", "unreachable", "full", "refused"]),
            st.sampled_from([0.0, 0.01, 0.3, 2.0, 20.0]),
        ),
        min_size=1,
        max_size=6,
    )
)
@settings(max_examples=25)
def test_at_qos_2_each_message_comes_once_and_in_order_whatever_goes_wrong(faults: list[tuple[str, float]]) -> None:
    clock = trio.testing.MockClock(autojump_threshold=0)
    assert trio.run(_through, faults, clock=clock) == list(range(len(faults)))


@pytest.mark.parametrize("fault", ["unreachable", "refused", "slow", "full"])
async def test_connectors_of_one_broker_fail_each_by_itself(fault: str, autojump_clock: trio.testing.MockClock) -> None:
    names = "plant", "cloud"  # both at the broker that is the default, as two clients of it
    outbound = [Outbound(name, int, MqttRouting(name, qos=1), window=1) for name in names]
    connectors = [MqttConnector([channel], name=channel.name) for channel in outbound]
    async with (
        open_app(Deployment("memory", None, connectors)) as app,
        app.host.open_writer(outbound[0]) as plant,
        app.host.open_writer(outbound[1]) as cloud,
    ):
        for name in names:
            await app.wait_for_health(Up, connector=name)
        broken = app.slow(1000, "cloud") if fault == "slow" else getattr(app, fault)("cloud")
        async with broken:
            number = await cloud.send(1)
            app.cut("plant")  # which connects again
            for value in range(3):  # there is room for one at a time
                with trio.fail_after(5):
                    await plant.wait_acknowledged(await plant.send(value))
            assert isinstance(app.health("plant"), Up)
            with trio.move_on_after(5):
                await cloud.wait_acknowledged(number)
                pytest.fail(f"{fault} has not reached the connector that is meant")
        await app.revive()
        with trio.fail_after(1100):
            await cloud.wait_acknowledged(number)


async def test_a_channel_of_bytes_gets_them_as_a_value_whatever_its_codec(
    autojump_clock: trio.testing.MockClock,
) -> None:
    blob = Inbound("blob", bytes, MqttRouting("blob/+", qos=1))
    for codec in (MsgpackCodec(), RawCodec()):
        async with (
            open_app(deployment_of(blob, codec=codec)) as app,
            app.host.open_reader(blob) as reader,
        ):
            await app.publish("blob/1", b"12345")
            with trio.fail_after(5):
                assert (await reader.receive()).value == b"12345"
