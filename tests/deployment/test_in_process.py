"""What only the in-process shape promises: a crash of the gateway task costs one restart, and not the app."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import uuid
from collections.abc import AsyncIterator

import attrs
import pytest
import trio

from taktora_trio import (
    ConnectorHost,
    Deployment,
    Down,
    HealthEvent,
    Inbound,
    MqttConnector,
    MqttOptions,
    MqttRouting,
    Outbound,
    RestartPolicy,
    Up,
)
from taktora_trio.connectors.base import GatewayChannels
from taktora_trio.connectors.connection import Client, Connection, OnMessage
from taktora_trio.connectors.mqtt.sessions.memory import MemoryBroker
from taktora_trio.connectors.mqtt.wire.message import Message
from taktora_trio.runners.scripts.in_process import run_in_process
from taktora_trio.transport.domain import Domain
from tests.beside import run_beside
from tests.command import open_run
from tests.mosquitto import Mosquitto

OUT = Outbound("out", str, MqttRouting("test/out", qos=1))
IN = Inbound("in", str, MqttRouting("test/in", qos=1))


def _options() -> MqttOptions:
    return MqttOptions(session="memory", broker=f"mqtt://{uuid.uuid4().hex}")


@attrs.frozen
class Crashing(MqttConnector):
    """Its gateway half raises `crashes` in turn, each as soon as it is connected, and told to if there is who tells."""

    crashes: list[BaseException] = attrs.field(factory=list, kw_only=True)
    told: trio.MemoryReceiveChannel[None] | None = attrs.field(default=None, kw_only=True)

    def client(self, channels: GatewayChannels, on_message: OnMessage) -> Client:
        async def crash() -> None:
            await channels.health.wait_for(self.name, Up)
            if self.told is not None:
                await self.told.receive()
            raise self.crashes.pop(0)

        if self.crashes:
            run_beside(channels, crash)
        return super().client(channels, on_message)


async def test_each_crash_is_one_event_with_its_cause_and_the_app_goes_on(
    domain: Domain, caplog: pytest.LogCaptureFixture
) -> None:
    group = ExceptionGroup("two", [OSError("a"), KeyError("b")])
    crashes: list[BaseException] = [ValueError("bad"), group]
    wanted = tuple(crashes)
    events: list[HealthEvent] = []
    options = _options()
    broker = MemoryBroker.at(options.broker.host, options.broker.port)
    tell, told = trio.open_memory_channel[None](1)

    async def app(host: ConnectorHost) -> None:
        transitions = host.health_events()  # before anything is awaited, so that not even the first is missed
        with trio.fail_after(10):
            async with host.open_reader(IN) as reader, host.open_writer(OUT) as writer:
                async for event in transitions:
                    events.append(event)
                    if isinstance(event.after, Up):
                        broker.deliver(Message("test/in", b'"ping"'))
                        assert (await reader.receive()).value == "ping"
                        await writer.send("pong")
                        if len(events) >= 7:
                            return
                        tell.send_nowait(None)

    deployment = Deployment("crashing", app, [Crashing([OUT, IN], options=options, crashes=crashes, told=told)])
    with caplog.at_level(logging.ERROR):
        assert await run_in_process(deployment, domain, trio.Event()) == 0
    assert [type(event.after).__name__ for event in events] == ["Up", *["Down", "Connecting", "Up"] * 2]
    causes = [event.cause for event in events if isinstance(event.after, Down)]
    assert causes[0] is wanted[0]
    assert isinstance(causes[1], ExceptionGroup)
    assert causes[1].exceptions == group.exceptions, "a group keeps all its causes"
    # asyncio's are of futures that an earlier test's aiomqtt has left, whenever they are collected.
    tracebacks = [record for record in caplog.records if record.exc_info and record.name != "asyncio"]
    assert len(tracebacks) == 2, "each crash is logged once, with its traceback"


@attrs.frozen
class CrashingAtStart(MqttConnector):
    """Its gateway half fails before it has done anything, until it has failed so often."""

    crashes: list[BaseException] = attrs.field(factory=list, kw_only=True)

    def client(self, channels: GatewayChannels, on_message: OnMessage) -> Client:
        if self.crashes:
            raise self.crashes.pop(0)
        return super().client(channels, on_message)


async def test_a_crash_at_the_start_costs_a_restart(domain: Domain) -> None:
    seen: list[str] = []

    async def app(host: ConnectorHost) -> None:
        with trio.fail_after(10):
            async for event in host.health_events():
                seen.append(type(event.after).__name__)
                if isinstance(event.after, Up):
                    return

    connector = CrashingAtStart([OUT], options=_options(), crashes=[OSError("a"), OSError("b")])
    assert await run_in_process(Deployment("starting", app, [connector]), domain, trio.Event()) == 0
    # The second crash may come before the first successor was heard of: the reason differs, and is told.
    assert [state for state in seen if state != "Connecting"] == ["Down", "Down", "Up"]


@attrs.frozen
class CrashingAtStop(MqttConnector):
    """Its gateway half fails when it has been asked to stop, with everything else done."""

    def client(self, channels: GatewayChannels, on_message: OnMessage) -> Client:
        client = super().client(channels, on_message)

        @contextlib.asynccontextmanager
        async def connect() -> AsyncIterator[Connection]:
            async with type(client).connect(client) as connection:
                try:
                    yield connection
                finally:
                    raise MemoryError("a fault in the cleanup")  # anything else ends the connection alone

        client.connect = connect  # type: ignore[method-assign]
        return client


async def test_a_crash_while_stopping_is_logged_and_the_run_ends_well(
    domain: Domain, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(host: ConnectorHost) -> None:
        await host.wait_for_health(Up)

    connector = CrashingAtStop([OUT], options=_options())
    with caplog.at_level(logging.ERROR), trio.fail_after(10):
        assert await run_in_process(Deployment("stopping", app, [connector]), domain, trio.Event()) == 0
    [record] = [record for record in caplog.records if "crashed while stopping" in record.getMessage()]
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "a fault in the cleanup"


async def test_a_health_subscriber_of_the_app_that_raises_is_the_apps_own_fault(domain: Domain) -> None:
    """It ends the app, like any other exception of its code; another subscriber has had the event all the same."""
    heard: list[HealthEvent] = []

    async def listen(host: ConnectorHost, task_status: trio.TaskStatus[None]) -> None:
        events = host.health_events()
        task_status.started()
        heard.append(await events.receive())

    async def fail(host: ConnectorHost, task_status: trio.TaskStatus[None]) -> None:
        events = host.health_events()
        task_status.started()
        async for _ in events:
            raise LookupError("a fault of the subscriber")

    async def app(host: ConnectorHost) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(listen, host)
            await nursery.start(fail, host)

    deployment = Deployment("subscribing", app, [MqttConnector([OUT], options=_options())])
    with pytest.RaisesGroup(LookupError, flatten_subgroups=True), trio.fail_after(10):
        await run_in_process(deployment, domain, trio.Event())
    assert isinstance(heard[0].after, Up)


async def test_a_gateway_that_crashes_too_often_is_given_up_and_the_app_goes_on(domain: Domain) -> None:
    options = _options()
    crashes: list[BaseException] = [RuntimeError(str(number)) for number in range(9)]
    policy = RestartPolicy(restart="always", intensity=2, period=60)
    last: list[HealthEvent] = []

    async def app(host: ConnectorHost) -> None:
        with trio.fail_after(10):
            async for event in host.health_events():
                if isinstance(event.after, Down) and "given up" in event.after.reason:
                    last.append(event)
                    return

    deployment = Deployment("failing", app, [Crashing([OUT], options=options, crashes=crashes)], gateway_policy=policy)
    assert await run_in_process(deployment, domain, trio.Event()) == 0
    assert len(crashes) == 9 - 3
    assert isinstance(last[0].cause, RuntimeError)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
async def test_keyboard_interrupt_and_system_exit_are_no_crash(domain: Domain, error: type[BaseException]) -> None:
    async def app(host: ConnectorHost) -> None:
        await trio.sleep_forever()

    deployment = Deployment("ending", app, [Crashing([OUT], options=_options(), crashes=[error()])])
    with pytest.raises((error, BaseExceptionGroup)) as caught:
        await run_in_process(deployment, domain, trio.Event())
    group = caught.value
    assert isinstance(group, error) or (isinstance(group, BaseExceptionGroup) and group.subgroup(error) is not None)


async def test_an_exception_of_the_app_ends_the_run_and_leaves_nothing(domain: Domain) -> None:
    async def app(host: ConnectorHost) -> None:
        await host.wait_for_health(Up)
        raise LookupError("the app's own fault")

    deployment = Deployment("ending", app, [MqttConnector([OUT], options=_options())])
    with pytest.RaisesGroup(LookupError, flatten_subgroups=True):
        await run_in_process(deployment, domain, trio.Event())


async def test_cancelled_from_outside_it_leaves_nothing(domain: Domain) -> None:
    async def app(host: ConnectorHost) -> None:
        async with host.open_writer(OUT) as writer:
            await host.wait_for_health(Up)
            await writer.send("something")
            scope.cancel()
            await trio.sleep_forever()

    deployment = Deployment("cancelled", app, [MqttConnector([OUT], options=_options())])
    with trio.CancelScope() as scope:
        await run_in_process(deployment, domain, trio.Event())
    assert scope.cancelled_caught


async def test_the_command_survives_a_crash_too(broker: Mosquitto, domain: Domain) -> None:
    async with open_run("tests.deployment.apps:crashing", "in-process", broker, domain) as run:
        await run.until_event("health-down", "Up -> Down", "crash on purpose")
        await run.until_event("health-up", "Connecting -> Up", count=2)
        crash = await run.until_event("restarting", "crashed", half="gateway")
        assert "RuntimeError: crash on purpose" in crash["exception"]
        assert len(run.tree()) == 1
        run.signal(signal.SIGTERM)
        assert await run.wait(5) == 0


async def test_shared_memory_is_used_inside_the_process(domain: Domain) -> None:
    """The envelopes of both directions exist as segments while it runs."""
    segments: list[int] = []

    async def app(host: ConnectorHost) -> None:
        async with host.open_writer(OUT), host.open_reader(IN):
            await host.wait_for_health(Up)
            with open("/proc/self/maps") as maps:  # noqa: ASYNC230, PTH123 - a moment, in a test
                segments.append(sum(domain.prefix in line and ".data" in line for line in maps))

    await run_in_process(
        Deployment("mapped", app, [MqttConnector([OUT, IN], options=_options())]), domain, trio.Event()
    )
    assert segments[0] >= 3  # out, in, health
    assert os.getpid() > 0
