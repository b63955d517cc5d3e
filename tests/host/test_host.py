"""The host hears its gateway out: what one reported right before it ended is an event too, before its `Down`."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import attrs
import msgspec
import pytest
import trio
import trio.testing

from taktora_trio import (
    Connecting,
    ConnectorHealth,
    Degraded,
    Down,
    HealthEvent,
    Inbound,
    MqttConnector,
    MqttRouting,
    Outbound,
    Up,
)
from taktora_trio.connectors.plan import specs_of, trunk_spec
from taktora_trio.health import Failure, HealthEvents
from taktora_trio.host.gateways import Gateways
from taktora_trio.host.host import ConnectorHost
from taktora_trio.host.open import open_watching_host
from taktora_trio.processes.child.supervisor_link import SupervisorLink
from taktora_trio.processes.link import GatewayStarted
from taktora_trio.transport.domain import Domain
from taktora_trio.transport.health import GatewayIdentity, HealthReporter, open_health_reporter, start_time
from taktora_trio.transport.node import open_node
from taktora_trio.transport.ports import Node
from taktora_trio.transport.services import open_services

CONNECTOR = MqttConnector([Outbound("out", str, MqttRouting("t"))])
SPEC = trunk_spec(CONNECTOR)
CRASH = Failure(kind="exception", description="bad", incarnation=1, uptime=1.0, delay=0.1, attempts_left=1)


def _kinds(events: list[HealthEvent]) -> list[type]:
    return [type(event.after) for event in events]


async def _next(events: HealthEvents, count: int) -> list[HealthEvent]:
    with trio.fail_after(20):
        return [await events.receive() for _ in range(count)]


@contextlib.asynccontextmanager
async def _open_host(
    domain: Domain, link: SupervisorLink | None = None
) -> AsyncIterator[tuple[Node, ConnectorHost, Gateways]]:
    with domain.hold("owner"):
        async with (
            open_node(domain, "test") as node,
            open_services(node, specs_of([CONNECTOR])),
            open_watching_host(node, [CONNECTOR], link=link) as (host, gateways),
        ):
            yield node, host, gateways


async def test_others_have_their_turn_while_an_app_opens_channel_after_channel(domain: Domain) -> None:
    """A thousand channels take so long that a process which gave no sign of life meanwhile would be killed."""
    connector = MqttConnector([CONNECTOR.channels[0], Inbound("in", str, MqttRouting("u"))])
    with domain.hold("owner"):
        async with (
            open_node(domain, "test") as node,
            open_services(node, specs_of([connector])),
            open_watching_host(node, [connector]) as (host, _),
            contextlib.AsyncExitStack() as stack,
        ):
            out, in_ = connector.channels
            assert isinstance(out, Outbound)
            assert isinstance(in_, Inbound)
            with trio.testing.assert_checkpoints():
                await stack.enter_async_context(host.open_writer(out))
            with trio.testing.assert_checkpoints():
                await stack.enter_async_context(host.open_reader(in_))


async def test_a_cancelled_app_leaves_all_its_channels_by_one_exception(domain: Domain) -> None:
    """With one for each, which Python links to those before it, the stop of 10,000 channels took over 8 s."""
    channels = [Outbound(f"out{number}", str, MqttRouting("t")) for number in range(5)]
    connector = MqttConnector([*channels, Inbound("in", str, MqttRouting("u"))])
    left: list[BaseException] = []
    with domain.hold("owner"), trio.CancelScope() as scope:
        async with (
            open_node(domain, "test") as node,
            open_services(node, specs_of([connector])),
            open_watching_host(node, [connector]) as (host, _),
        ):
            try:
                async with contextlib.AsyncExitStack() as stack:
                    for channel in connector.channels:
                        if isinstance(channel, Outbound):
                            await stack.enter_async_context(host.open_writer(channel))
                        elif isinstance(channel, Inbound):
                            await stack.enter_async_context(host.open_reader(channel))
                    scope.cancel()
                    await trio.lowlevel.checkpoint()
            except trio.Cancelled as exc:
                left.append(exc)
                raise
    assert len(left) == 1
    assert left[0].__context__ is None


async def test_the_last_report_of_a_gateway_task_comes_before_its_end(domain: Domain) -> None:
    async with (
        _open_host(domain) as (node, host, gateways),
        open_health_reporter(node, SPEC, GatewayIdentity.of_this_process(1)) as reporter,
    ):
        await trio.testing.wait_all_tasks_blocked()
        events = host.health_events()
        reporter.report(Up())  # and at once, before the host's own task had a turn:
        gateways.failed(CRASH, None)
        reporter.report(Up())  # whatever comes after the end is a stale one's
        await trio.testing.wait_all_tasks_blocked()
        assert _kinds(await _next(events, 2)) == [Up, Down]
        assert isinstance(host.health(), Down)


async def test_the_last_report_of_a_gateway_process_comes_before_its_end(domain: Domain) -> None:
    async with _open_host(domain) as (_, host, gateways):
        for incarnation in range(1, 7):  # which of two ready descriptors is served first is left to chance
            command = [sys.executable, "-m", __name__, domain.name, str(incarnation)]
            events = host.health_events()
            with subprocess.Popen(command, stdin=subprocess.PIPE) as gateway:  # noqa: ASYNC220 - it is waited for below
                await host.wait_for_health(Connecting)
                with trio.fail_after(20):
                    while not gateways._watching:  # noqa: ASYNC110 - it has said hello then
                        await trio.sleep(0.01)
                assert gateway.stdin is not None
                gateway.stdin.close()  # now it says its last words,
                os.waitid(os.P_PID, gateway.pid, os.WEXITED | os.WNOWAIT)  # noqa: ASYNC222 - ended before we read
                after = _kinds(await _next(events, 2 if incarnation == 1 else 3))
                assert after == [Connecting, Up, Down][-len(after) :]
                events.close()


# What a broken gateway may report, or one that somebody else has got hold of

GOOD: dict[str, Any] = {
    "state": "Up",
    "reason": "",
    "since": 0.0,
    "cause": "",
    "pid": os.getpid(),
    "started": start_time(os.getpid()),
    "incarnation": 1,
}


@contextlib.contextmanager
def _running_thread() -> Iterator[dict[str, Any]]:
    """Return the id of a thread, which has a start time as a process does, and can't be waited for as one."""
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    try:
        assert thread.native_id is not None
        yield {"pid": thread.native_id, "started": start_time(thread.native_id)}
    finally:
        end.set()
        thread.join()


@contextlib.asynccontextmanager
async def _open_reports(domain: Domain, link: SupervisorLink | None = None) -> AsyncIterator[_Reports]:
    async with (
        _open_host(domain, link) as (node, host, _),
        open_health_reporter(node, SPEC, GatewayIdentity.of_this_process(1)) as reporter,
    ):
        await trio.testing.wait_all_tasks_blocked()
        yield _Reports(host, reporter)


@attrs.define
class _Reports:
    host: ConnectorHost
    reporter: HealthReporter

    def forge(self, **changes: Any) -> None:
        self.reporter.send(msgspec.json.encode({**GOOD, **changes}))

    async def taken(self) -> ConnectorHealth:
        """What is shown, once all was read."""
        await trio.testing.wait_all_tasks_blocked(0.01)
        return self.host.health()


IMPOSSIBLE = {
    "pid 0": {"pid": 0},
    "a negative pid": {"pid": -1},
    "a pid beyond every type": {"pid": 10**18},
    "a pid that is none": {"pid": "1"},
    "no number": {"started": -1},
    "an incarnation beyond every type": {"incarnation": 2**63},
    "a state that is none": {"state": "Fine"},
    "no text": {"reason": None},
    "no time": {"since": "now"},
    "a time that no calendar has": {"state": "Down", "next_attempt": 1e300},
}


@pytest.mark.parametrize("changes", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
async def test_what_cannot_be_true_is_not_believed(
    changes: dict[str, Any], domain: Domain, caplog: pytest.LogCaptureFixture
) -> None:
    async with _open_reports(domain) as reports:
        for _ in range(5):
            reports.forge(**changes)
        assert isinstance(await reports.taken(), Connecting)
        reports.forge()
        assert await reports.taken() == Up()
    told = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert [re.findall(r"can't be read \((\d) so far", line) for line in told] == [["1"], ["2"], ["4"]]


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff", b"[]", b'{"pid":' + b"1" * 1000 + b"}"])
async def test_what_is_no_report_does_no_harm(raw: bytes, domain: Domain) -> None:
    async with _open_reports(domain) as reports:
        reports.reporter.send(raw)
        reports.forge()
        assert await reports.taken() == Up()


async def test_the_id_of_a_thread_is_no_gateway(domain: Domain) -> None:
    async with _open_reports(domain) as reports:
        with _running_thread() as thread:
            reports.forge(**thread)
            assert isinstance(await reports.taken(), Down)  # it is no process, so it has ended
        reports.forge()
        assert await reports.taken() == Up()


async def test_reports_of_ever_other_gateways_take_no_more_descriptors(domain: Domain) -> None:
    async with _open_reports(domain) as reports:
        reports.forge()
        assert await reports.taken() == Up()
        before = len(os.listdir("/proc/self/fd"))
        for incarnation in range(50):
            reports.forge(pid=os.getppid(), started=start_time(os.getppid()), incarnation=incarnation)
        await reports.taken()
        assert len(os.listdir("/proc/self/fd")) <= before + 4


async def test_a_flood_is_the_newest_report_now_and_then(domain: Domain, caplog: pytest.LogCaptureFixture) -> None:
    async with _open_reports(domain) as reports:
        events = reports.host.health_events()
        began = trio.current_time()
        for number in range(5000):
            reports.forge(state="Degraded", reason=f"reason {number}")
            if number % 16 == 0:
                await trio.lowlevel.checkpoint()
        with trio.fail_after(10):
            while reports.host.health() != Degraded("reason 4999"):
                await events.receive()
        shown = 0
        with contextlib.suppress(trio.WouldBlock):
            while True:
                events.receive_nowait()
                shown += 1
        assert shown <= 64 + 1 + 10 * (trio.current_time() - began)
    assert "reports its health too often" in caplog.text


async def test_a_transition_that_comes_in_its_time_is_never_left_out(domain: Domain) -> None:
    async with _open_reports(domain) as reports:
        events = reports.host.health_events()
        for _ in range(15):
            for state in ("Connecting", "Up", "Degraded", "Down"):
                reports.forge(state=state, reason="slow")
        await reports.taken()
        after = _kinds(await _next(events, 59))
        assert after == ([Connecting, Up, Degraded, Down] * 15)[1:]  # it began as Connecting


async def test_its_words_are_shown_escaped(domain: Domain, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    words = "x\n12:00:00 CRITICAL forged\x1b[2J"
    async with _open_reports(domain) as reports:
        reports.forge(state="Degraded", reason=words, cause=words)
        assert await reports.taken() == Degraded("x\\n12:00:00 CRITICAL forged\\x1b[2J")
        reports.forge(state=words)
    records = [record for record in caplog.records if record.name.startswith("taktora_trio.host.")]
    assert all(record.getMessage().isprintable() for record in records)
    assert all(
        record.getMessage().isprintable() for record in caplog.records if record.name.startswith("taktora_trio.host.")
    )


@pytest.mark.parametrize("words", ["\ud800", "\x1b" * 5000, "\U0001f525" * 5000, '"' * 5000])
async def test_whatever_a_broker_says_can_be_reported(words: str, domain: Domain) -> None:
    async with _open_reports(domain) as reports:
        for state in (Up(), Degraded(words), Down(words)):
            reports.reporter.report(state, words)
            shown = await reports.taken()
            assert type(shown) is type(state)
            assert str(shown).isprintable()


async def test_only_the_gateway_that_the_supervisor_has_started_is_believed(domain: Domain) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, contextlib.closing(SupervisorLink(theirs, os.getppid(), 1)) as link:
        async with _open_reports(domain, link) as reports:
            parent = {"pid": os.getppid(), "started": start_time(os.getppid())}
            reports.forge(**parent)  # of another process
            assert isinstance(await reports.taken(), Connecting)
            reports.forge()  # it is faster than the supervisor's word
            assert isinstance(await reports.taken(), Connecting)
            ours.send(msgspec.json.encode(GatewayStarted(1, os.getpid())))
            assert await reports.taken() == Up()
            reports.forge(**parent, state="Down")
            assert await reports.taken() == Up()


def _gateway() -> None:
    async def main() -> None:
        async with (
            open_node(Domain(sys.argv[1]), "gateway") as node,
            open_health_reporter(node, SPEC, GatewayIdentity.of_this_process(int(sys.argv[2]))) as reporter,
        ):
            reporter.report(Connecting())
            sys.stdin.read()
            reporter.report(Up())
            os.kill(os.getpid(), signal.SIGKILL)

    trio.run(main)


if __name__ == "__main__":
    _gateway()
