"""What `gateway_thread=True` promises in-process: a gateway that blocks does not stall the app."""

from __future__ import annotations

import contextlib
import logging
import math
import signal
import threading
import time
import uuid
from collections.abc import Callable

import attrs
import pytest
import trio

from taktora_trio import (
    ConnectorHost,
    Degraded,
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
from taktora_trio.connectors.connection import Client, OnMessage
from taktora_trio.connectors.mqtt.sessions.memory import MemoryBroker
from taktora_trio.runners.scripts.in_process import run_in_process
from taktora_trio.transport.domain import Domain
from tests.beside import run_beside
from tests.client import open_client
from tests.command import open_run
from tests.deployment.apps import TICKS, TRANSITIONS, tick
from tests.mosquitto import Mosquitto

OUT = Outbound("out", str, MqttRouting("test/out", qos=1))
IN = Inbound("in", str, MqttRouting("test/in", qos=1))
POLICY = RestartPolicy(restart="always", stop_grace=2.5, watchdog=0.3)

ticking = Deployment("ticking-thread", tick, [MqttConnector([TICKS, TRANSITIONS])], gateway_thread=True)


@attrs.frozen
class Misbehaving(MqttConnector):
    """Its gateway half calls each of `deeds` in turn, one an incarnation, once it is connected and `now` is set."""

    deeds: list[Callable[[], object]] = attrs.field(factory=list, kw_only=True)
    now: threading.Event = attrs.field(factory=threading.Event, kw_only=True)

    def client(self, channels: GatewayChannels, on_message: OnMessage) -> Client:
        async def misbehave() -> None:
            await channels.health.wait_for(self.name, Up)
            while not self.now.is_set():  # noqa: ASYNC110 - the app sets it, in another loop
                await trio.sleep(0.01)
            self.deeds.pop(0)()

        if self.deeds:
            run_beside(channels, misbehave)
        return super().client(channels, on_message)


def _raise(error: BaseException) -> Callable[[], None]:
    def deed() -> None:
        raise error

    return deed


def _block(seconds: float) -> Callable[[], None]:
    return lambda: time.sleep(seconds)


def _connector(broker: Mosquitto, *deeds: Callable[[], object]) -> Misbehaving:
    return Misbehaving([OUT, IN], options=MqttOptions(broker=broker.url), deeds=list(deeds))


def _gateway_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "gateway"]


async def _until_no_thread(seconds: float = 5) -> None:
    with trio.fail_after(seconds):
        while _gateway_threads():  # noqa: ASYNC110 - nothing announces it
            await trio.sleep(0.01)


@pytest.mark.parametrize("thread", [False, True])
async def test_a_refused_login_is_tried_at_once_when_the_app_asks_for_it(thread: bool, domain: Domain) -> None:
    """In whichever loop the gateway runs."""
    host_name = f"{uuid.uuid4().hex}.example"
    memory = MemoryBroker.at(host_name, 1883)
    memory.refuses_login = True

    async def app(host: ConnectorHost) -> None:
        down = await host.wait_for_health(Down)
        assert isinstance(down, Down)
        assert down.next_attempt is not None
        assert 20 < down.next_attempt - time.time() < 40
        memory.refuses_login = False
        host.revive_gateway()
        with trio.fail_after(5):
            await host.wait_for_health(Up)

    connector = MqttConnector([OUT], options=MqttOptions(broker=f"mqtt://{host_name}", session="memory"))
    deployment = Deployment("refused", app, [connector], gateway_thread=thread)
    assert await run_in_process(deployment, domain, trio.Event()) == 0


async def test_messages_pass_both_ways(broker: Mosquitto, domain: Domain) -> None:
    threads: list[int] = []

    async def app(host: ConnectorHost) -> None:
        async with host.open_reader(IN) as reader, host.open_writer(OUT) as writer:
            await host.wait_for_health(Up)
            threads.append(len(_gateway_threads()))
            async with open_client(broker.port, "test/out") as client:
                for number in range(100):
                    client.publish("test/in", b'"ping %d"' % number)
                for number in range(100):
                    assert (await reader.receive()).value == f"ping {number}"
                    await writer.send(f"pong {number}")
                for number in range(100):
                    assert (await client.receive()).payload == b'"pong %d"' % number

    deployment = Deployment("round-trip", app, [_connector(broker)], gateway_thread=True)
    assert await run_in_process(deployment, domain, trio.Event()) == 0
    assert threads == [1]
    await _until_no_thread()


async def test_what_is_sent_last_is_published(broker: Mosquitto, domain: Domain) -> None:
    async def app(host: ConnectorHost) -> None:
        async with host.open_writer(OUT) as writer:
            await host.wait_for_health(Up)
            for number in range(50):
                await writer.send(str(number))

    async with open_client(broker.port, "test/out") as client:
        deployment = Deployment("draining", app, [_connector(broker)], gateway_thread=True)
        assert await run_in_process(deployment, domain, trio.Event()) == 0
        assert [(await client.receive()).payload for _ in range(50)] == [b'"%d"' % number for number in range(50)]


@pytest.mark.parametrize("gateway_thread", [True, False])
async def test_a_blocking_call_stalls_the_app_only_without_a_thread(
    broker: Mosquitto, domain: Domain, gateway_thread: bool
) -> None:
    connector = _connector(broker, _block(1.0))
    gaps: list[float] = []

    async def app(host: ConnectorHost) -> None:
        await host.wait_for_health(Up)
        connector.now.set()
        last, end = time.monotonic(), time.monotonic() + 1.5
        while last < end:
            await trio.sleep(0.01)
            now = time.monotonic()
            gaps.append(now - last)
            last = now

    deployment = Deployment("blocking", app, [connector], gateway_thread=gateway_thread)
    assert await run_in_process(deployment, domain, trio.Event()) == 0
    assert connector.deeds == [], "it has blocked"
    if gateway_thread:
        assert max(gaps) < 0.5
    else:
        assert max(gaps) >= 0.9


async def test_a_hang_shows_in_the_health_and_is_over_when_the_loop_turns(
    broker: Mosquitto, domain: Domain, caplog: pytest.LogCaptureFixture
) -> None:
    connector = _connector(broker, _block(1.5))
    events: list[HealthEvent] = []
    times: list[float] = []

    async def app(host: ConnectorHost) -> None:
        await host.wait_for_health(Up)
        transitions = host.health_events()
        connector.now.set()
        times.append(time.monotonic())
        with trio.fail_after(10):
            async for event in transitions:
                events.append(event)
                times.append(time.monotonic())
                if isinstance(event.after, Up):
                    return

    deployment = Deployment("hanging", app, [connector], gateway_thread=True, gateway_policy=POLICY)
    with caplog.at_level(logging.INFO):
        assert await run_in_process(deployment, domain, trio.Event()) == 0
    reason = "the gateway thread has not turned its loop for 0.3 s"
    assert [event.after for event in events] == [Degraded(reason), Up()], "one hang is two events"
    began, shown, over = times
    assert 0.2 < shown - began < 1.2
    assert over - began >= 1.4
    assert [record for record in caplog.records if reason in record.message and "time.sleep" in record.message], (
        "the log says where it hangs"
    )


async def test_a_stalled_app_is_no_hang_of_the_gateway(broker: Mosquitto, domain: Domain) -> None:
    events: list[HealthEvent] = []

    async def app(host: ConnectorHost) -> None:
        await host.wait_for_health(Up)
        transitions = host.health_events()
        time.sleep(1.0)  # noqa: ASYNC251 - on purpose
        await trio.sleep(0.3)
        with contextlib.suppress(trio.WouldBlock):
            events.append(transitions.receive_nowait())

    deployment = Deployment("stalled", app, [_connector(broker)], gateway_thread=True, gateway_policy=POLICY)
    assert await run_in_process(deployment, domain, trio.Event()) == 0
    assert events == []


async def test_each_crash_is_one_event_with_its_cause_and_it_starts_again(
    broker: Mosquitto, domain: Domain, caplog: pytest.LogCaptureFixture
) -> None:
    crashes = [ValueError("bad"), ExceptionGroup("two", [OSError("a"), KeyError("b")])]
    connector = _connector(broker, *map(_raise, crashes))
    connector.now.set()
    events: list[HealthEvent] = []

    async def app(host: ConnectorHost) -> None:
        transitions = host.health_events()
        with trio.fail_after(20):
            async for event in transitions:
                events.append(event)
                if len(events) >= 7:
                    return

    deployment = Deployment("crashing", app, [connector], gateway_thread=True)
    with caplog.at_level(logging.ERROR):
        assert await run_in_process(deployment, domain, trio.Event()) == 0
    assert [type(event.after).__name__ for event in events] == ["Up", *["Down", "Connecting", "Up"] * 2]
    causes = [event.cause for event in events if isinstance(event.after, Down)]
    assert causes[0] is crashes[0]
    assert isinstance(causes[1], ExceptionGroup)
    assert causes[1].exceptions == crashes[1].exceptions, "a group keeps all its causes"  # type: ignore[attr-defined]
    assert len([record for record in caplog.records if record.exc_info]) == 2, "each is logged once, with its traceback"


async def test_any_number_of_crashes_may_be_kept(broker: Mosquitto, domain: Domain) -> None:
    """The traceback of each refers to frames of the thread; the node must not live as long as they do."""
    count = 20  # a service has room for 16 nodes
    connector = _connector(broker, *(_raise(ValueError(str(number))) for number in range(count)))
    connector.now.set()
    kept: list[HealthEvent] = []
    nodes: list[int] = []

    async def app(host: ConnectorHost) -> None:
        transitions = host.health_events()
        with trio.fail_after(40):
            async for event in transitions:
                kept.append(event)
                if isinstance(event.after, Up):
                    nodes.append(sum(path.is_dir() for path in (domain.root / "nodes").iterdir()))
                    if sum(isinstance(event.cause, ValueError) for event in kept) == count:
                        return

    policy = RestartPolicy(restart="always", intensity=100, backoff=attrs.evolve(POLICY.backoff, maximum=0.1))
    deployment = Deployment("keeping", app, [connector], gateway_thread=True, gateway_policy=policy)
    assert await run_in_process(deployment, domain, trio.Event()) == 0
    assert max(nodes) <= 3, nodes


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
async def test_keyboard_interrupt_and_system_exit_end_the_deployment(
    broker: Mosquitto, domain: Domain, error: type[BaseException]
) -> None:
    connector = _connector(broker, _raise(error()))
    connector.now.set()

    async def app(host: ConnectorHost) -> None:
        await trio.sleep_forever()

    deployment = Deployment("ending", app, [connector], gateway_thread=True)
    with pytest.raises((error, BaseExceptionGroup)) as caught, trio.fail_after(10):
        await run_in_process(deployment, domain, trio.Event())
    group = caught.value
    assert isinstance(group, error) or (isinstance(group, BaseExceptionGroup) and group.subgroup(error) is not None)
    await _until_no_thread()


async def test_an_exception_of_the_app_ends_the_run_and_leaves_nothing(broker: Mosquitto, domain: Domain) -> None:
    async def app(host: ConnectorHost) -> None:
        await host.wait_for_health(Up)
        raise LookupError("the app's own fault")

    deployment = Deployment("ending", app, [_connector(broker)], gateway_thread=True)
    with pytest.RaisesGroup(LookupError, flatten_subgroups=True):
        await run_in_process(deployment, domain, trio.Event())
    await _until_no_thread()


@pytest.mark.parametrize("at", [0, 0.02, 0.05, 0.1, math.inf])
async def test_cancelled_from_outside_it_leaves_nothing(broker: Mosquitto, domain: Domain, at: float) -> None:
    """So many seconds after the start: while the thread begins, opens its ports, connects; or when it is up."""

    async def app(host: ConnectorHost) -> None:
        async with host.open_writer(OUT) as writer:
            await host.wait_for_health(Up)
            await writer.send("something")
            scope.cancel()
            await trio.sleep_forever()

    deployment = Deployment("cancelled", app, [_connector(broker)], gateway_thread=True)
    with trio.CancelScope(deadline=trio.current_time() + at) as scope:
        await run_in_process(deployment, domain, trio.Event())
    assert scope.cancelled_caught
    assert _gateway_threads() == [], "it was waited for"


@pytest.mark.parametrize("how", ["stop", "cancel"])
async def test_one_that_stays_stuck_is_abandoned_in_bounded_time(
    broker: Mosquitto, domain: Domain, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    let_go = threading.Event()
    connector = _connector(broker, lambda: let_go.wait(30))
    stop = trio.Event()
    asked: list[float] = []

    async def app(host: ConnectorHost) -> None:
        async with host.open_writer(OUT) as writer:
            await host.wait_for_health(Up)
            connector.now.set()
            await host.wait_for_health(Degraded)
            await writer.send("never published")
            asked.append(time.monotonic())
            stop.set() if how == "stop" else scope.cancel()
            await trio.sleep_forever()

    policy = attrs.evolve(POLICY, stop_grace=0.5)
    deployment = Deployment("stuck", app, [connector], gateway_thread=True, gateway_policy=policy)
    with trio.CancelScope() as scope:
        await run_in_process(deployment, domain, stop)
    # Its grace, half a second for it to unwind, and the app's for what it has sent last.
    assert 0.5 <= time.monotonic() - asked[0] < 4
    critical = [record.message for record in caplog.records if record.levelno == logging.CRITICAL]
    assert len(critical) == 1
    assert "abandoned: it is stuck in a blocking" in critical[0]
    assert "let_go.wait" in critical[0]
    assert domain.files() == [], "everything is removed, though the thread still has it open"

    assert len(_gateway_threads()) == 1
    let_go.set()
    await _until_no_thread()  # it unwinds at its next checkpoint; that it leaves nothing is checked by the fixture


async def test_a_short_block_at_the_stop_is_waited_for(
    broker: Mosquitto, domain: Domain, caplog: pytest.LogCaptureFixture
) -> None:
    connector = _connector(broker, _block(0.8))

    async def app(host: ConnectorHost) -> None:
        async with host.open_writer(OUT) as writer:
            await host.wait_for_health(Up)
            connector.now.set()
            await host.wait_for_health(Degraded)
            await writer.send("published after all")

    async with open_client(broker.port, "test/out") as client:
        deployment = Deployment("short", app, [connector], gateway_thread=True, gateway_policy=POLICY)
        assert await run_in_process(deployment, domain, trio.Event()) == 0
        assert (await client.receive()).payload == b'"published after all"'
    assert not [record for record in caplog.records if record.levelno >= logging.CRITICAL]
    await _until_no_thread()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
async def test_the_command_ends_at_a_signal(broker: Mosquitto, domain: Domain, signum: signal.Signals) -> None:
    async with open_client(broker.port, "test/ticks") as client:
        target = "tests.deployment.test_gateway_thread:ticking"
        async with open_run(target, "in-process", broker, domain) as run:
            await run.until_event("health-up", "Connecting -> Up")
            assert b'"number":' in (await client.receive()).payload
            run.signal(signum)
            assert await run.wait(5) == 0
            assert not [entry for entry in run.log if entry["level"] in ("error", "critical")]


def _stuck_forever() -> None:
    threading.Event().wait()


def _stuck(target: str) -> Deployment:
    connector = Misbehaving([TICKS, TRANSITIONS], deeds=[_stuck_forever])
    connector.now.set()
    return Deployment(target, tick, [connector], gateway_thread=True, gateway_policy=POLICY)


stuck = _stuck("stuck-thread")


async def test_the_command_ends_with_a_thread_that_is_stuck_for_good(broker: Mosquitto, domain: Domain) -> None:
    async with open_run("tests.deployment.test_gateway_thread:stuck", "in-process", broker, domain) as run:
        await run.until_event("health-degraded", "(the gateway thread has not turned its loop for 0.3 s)")
        run.signal(signal.SIGINT)
        assert await run.wait(5) == 0
        await run.until_event("gateway-thread-abandoned")
