from __future__ import annotations

import contextlib
import math
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from taktora_trio.processes.child.life_signs import LifeSigns, inherited_life_signs
from taktora_trio.processes.parent.notify_socket import Notification, NotifySocket, open_notify_socket
from tests.processes.children import LONG, program

ROOT = Path(__file__).parent.parent.parent


@contextlib.contextmanager
def open_life(monkeypatch: pytest.MonkeyPatch, **environment: str) -> Iterator[LifeSigns]:
    """Yield the life signs of a process with this environment."""
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    life = inherited_life_signs()
    assert {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}.isdisjoint(os.environ)  # not for our children
    yield life
    life._socket.close()


@contextlib.contextmanager
def open_pair(
    monkeypatch: pytest.MonkeyPatch, watchdog: float | None = None
) -> Iterator[tuple[NotifySocket, LifeSigns]]:
    """Both ends in this process."""
    with open_notify_socket() as notify, open_life(monkeypatch, **notify.environment(watchdog)) as life:
        notify.pid = os.getpid()
        yield notify, life


def drained(notify: NotifySocket) -> list[dict[str, str]]:
    news = []
    with contextlib.suppress(trio.WouldBlock):
        while True:
            news.append(dict(notify.receive_nowait().values))
    return news


async def test_what_is_told_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    with open_pair(monkeypatch) as (notify, life):
        await life.status("opening", extend=2.5)
        await life.ready("open")
        await life.status("busy = yes")
        life.dying("out of memory", 12)
        life.stopping()
        news = [await notify.receive() for _ in range(5)]
        assert [dict(n.values) for n in news] == [
            {"STATUS": "opening", "EXTEND_TIMEOUT_USEC": "2500000"},
            {"READY": "1", "STATUS": "open"},
            {"STATUS": "busy = yes"},
            {"STATUS": "out of memory", "ERRNO": "12"},
            {"STOPPING": "1"},
        ]
        assert [(n.ready, n.alive, n.stopping, n.errno, n.extend) for n in news] == [
            (False, False, False, 0, 2.5),
            (True, False, False, 0, 0),
            (False, False, False, 0, 0),
            (False, False, False, 12, 0),
            (False, False, True, 0, 0),
        ]
        with pytest.raises(trio.WouldBlock):
            notify.receive_nowait()


async def test_it_is_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    with open_pair(monkeypatch) as (notify, life), trio.fail_after(LONG):
        async with trio.open_nursery() as nursery:

            async def hear() -> None:
                assert (await notify.receive()).ready

            nursery.start_soon(hear)
            await wait_all_tasks_blocked()
            await life.ready("open")


async def test_only_one_process_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    with open_pair(monkeypatch) as (notify, life):
        environment = {**os.environ, **notify.environment(None), "TAKTORA_SUPERVISOR": "0 0 1"}
        await trio.run_process(program("ready(); tell('STOPPING=1')"), env=environment)
        await life.ready("mine")
        assert drained(notify) == [{"READY": "1", "STATUS": "mine"}]
        with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as other:
            other.sendto(b"READY=1", _address(notify))
            notify.pid = os.getppid()
            assert drained(notify) == []


async def test_what_came_before_the_process_was_known_is_heard_then(monkeypatch: pytest.MonkeyPatch) -> None:
    with open_pair(monkeypatch) as (notify, life):
        notify.pid = 0
        await life.ready("early")
        notify.pid = os.getpid()
        assert (await notify.receive()).ready


def _address(notify: NotifySocket) -> str:
    return notify.environment(None)["NOTIFY_SOCKET"].replace("@", "\0", 1)


@pytest.mark.parametrize("kind", ["path", "abstract"])
async def test_as_under_systemd(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain socket, read as systemd does."""
    name = str(tmp_path / "notify") if kind == "path" else f"@test-{os.getpid()}-{tmp_path.name}"
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as systemd:
        systemd.bind(name.replace("@", "\0", 1))
        environment = {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}
        with open_life(monkeypatch, **environment) as life:
            assert life.watchdog == 3.0
            await life.ready("open")
            assert systemd.recv(100) == b"READY=1\nSTATUS=open"
            async with trio.open_nursery() as nursery:
                nursery.start_soon(life.serve)
                await wait_all_tasks_blocked()
                assert systemd.recv(100) == b"WATCHDOG=1"
                nursery.cancel_scope.cancel()
            life.stopping()
            assert systemd.recv(100) == b"STOPPING=1"


@pytest.mark.parametrize(
    ("environment", "watchdog"),
    [
        ({"WATCHDOG_USEC": "500000"}, 0.5),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": str(os.getpid())}, 0.5),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": str(os.getppid())}, None),  # it is for another
        ({"WATCHDOG_PID": str(os.getpid())}, None),
        ({}, None),
    ],
)
async def test_whose_watchdog_it_is(
    environment: dict[str, str], watchdog: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_life(monkeypatch, **environment) as life:
        assert life.watchdog == watchdog


async def test_without_a_supervisor_it_is_silent(monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock) -> None:
    with open_life(monkeypatch, WATCHDOG_USEC="1000000") as life:
        await life.ready("open")
        await life.status("busy")
        life.dying("out of memory", 12)
        life.stopping()
        with trio.move_on_after(10) as scope:
            await life.serve()
        assert scope.cancelled_caught


@pytest.mark.parametrize("gone", ["closed", "never there"])
async def test_a_supervisor_that_is_gone_does_no_harm(gone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with contextlib.ExitStack() as stack:
        if gone == "closed":
            with open_notify_socket() as notify:
                life = stack.enter_context(open_life(monkeypatch, **notify.environment(None)))
        else:
            life = stack.enter_context(open_life(monkeypatch, NOTIFY_SOCKET="/nonexistent/notify"))
        await life.ready("open")
        life.stopping()


async def test_a_supervisor_that_reads_nothing_is_waited_for_without_spinning(monkeypatch: pytest.MonkeyPatch) -> None:
    with open_pair(monkeypatch) as (notify, life), trio.fail_after(LONG):
        sent = 0

        async def tell() -> None:
            nonlocal sent
            while True:
                await life.status("x")
                sent += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(tell)
            with trio.move_on_after(5) as spinning:
                await wait_all_tasks_blocked(0.02)  # only if it awaits, and does not try again and again
            assert not spinning.cancelled_caught
            assert sent > 0
            full = sent
            for _ in range(full):  # the one that waited goes on when there is room
                await notify.receive()
            await wait_all_tasks_blocked(0.02)
            assert sent > full
            life.stopping()  # does not wait
            nursery.cancel_scope.cancel()


# Signs of life


async def heard_within(notify: NotifySocket, seconds: float) -> list[str]:
    """Return what comes within that time, on a virtual clock."""
    await trio.sleep(seconds)
    return [" ".join(f"{name}={value}" for name, value in news.items()) for news in drained(notify)]


async def test_at_least_4_signs_a_period(monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock) -> None:
    with open_pair(monkeypatch, watchdog=8) as (notify, life):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(life.serve)
            for _ in range(5):
                heard = await heard_within(notify, 7.999)
                assert len(heard) >= 4
                assert set(heard) == {"WATCHDOG=1"}
            nursery.cancel_scope.cancel()


async def test_without_a_watchdog_none_is_given(monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock) -> None:
    with open_pair(monkeypatch) as (notify, life):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(life.serve)
            assert await heard_within(notify, 1000) == []
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("watchdog", [None, 10.0, 60.0])
async def test_each_sign_is_shown_also_where_no_supervisor_wants_any(
    watchdog: float | None, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    stalled: str | None = None
    shown: list[float] = []
    with open_pair(monkeypatch, watchdog) as (_, life):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(life.serve, lambda: stalled, lambda: shown.append(trio.current_time()))
            await trio.sleep(6)
            assert shown == [0, 2.5, 5]
            stalled = "inbound"
            await trio.sleep(6)
            assert shown == [0, 2.5, 5, 7.5]  # the first time may be chance
            nursery.cancel_scope.cancel()


async def test_a_stalled_duty_withholds_the_sign(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    stalled: str | None = None
    with open_pair(monkeypatch, watchdog=4) as (notify, life):
        await life.status("mqtt: Up")
        drained(notify)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(life.serve, lambda: stalled)
            assert await heard_within(notify, 3.5) == ["WATCHDOG=1"] * 4
            stalled = "inbound"  # the first time may be chance
            assert await heard_within(notify, 3) == ["WATCHDOG=1", *["STATUS=stalled: inbound"] * 2]
            assert [record.getMessage() for record in caplog.records] == ["no sign of life: inbound"] * 2
            stalled = None
            assert await heard_within(notify, 2) == ["STATUS=mqtt: Up", "WATCHDOG=1", "WATCHDOG=1"]
            stalled = "outbound"  # now and then is no stall
            assert await heard_within(notify, 1) == ["WATCHDOG=1"]
            stalled = None
            assert await heard_within(notify, 1) == ["WATCHDOG=1"]
            nursery.cancel_scope.cancel()


async def test_it_says_that_it_stops_when_it_is_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    with open_pair(monkeypatch) as (notify, life), trio.fail_after(LONG):
        stop = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(life.stopping_when, stop)
            await wait_all_tasks_blocked()
            assert drained(notify) == []
            stop.set()
        assert drained(notify) == [{"STOPPING": "1"}]


async def test_a_supervisor_that_reads_none_for_long_holds_nothing_up(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    asked: list[float] = []

    def stalled() -> None:
        asked.append(trio.current_time())

    with open_pair(monkeypatch, watchdog=4) as (notify, life):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(life.serve, stalled)
            await trio.sleep(999.5)
            assert asked == list(range(1000))
            drained(notify)
            assert await heard_within(notify, 2) == ["WATCHDOG=1"] * 2
            nursery.cancel_scope.cancel()


# The kernel's watchdog, in a process of its own, since pytest has SIGALRM here

ALARM = """
import os, signal, socket, sys, time
import trio
from taktora_trio.processes.child.life_signs import inherited_life_signs

systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
systemd.bind("")
os.environ["NOTIFY_SOCKET"] = systemd.getsockname().decode().replace("\\0", "@", 1)
os.environ["WATCHDOG_USEC"] = sys.argv[1]
if sys.argv[2] == "handled":
    signal.signal(signal.SIGALRM, lambda *_: None)

async def main():
    life = inherited_life_signs()
    print(signal.getitimer(signal.ITIMER_REAL)[0] > 0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(life.serve)
        await trio.testing.wait_all_tasks_blocked()
        print(signal.getitimer(signal.ITIMER_REAL)[0] > 0)
        if sys.argv[2] == "hang":
            while signal.getitimer(signal.ITIMER_REAL)[0] < 1:  # until the first alarm
                time.sleep(0.01)
            print(round(signal.getitimer(signal.ITIMER_REAL)[0]), flush=True)
            signal.setitimer(signal.ITIMER_REAL, 0.01)  # instead of waiting for the second
            time.sleep(60)
        nursery.cancel_scope.cancel()
    print(signal.getitimer(signal.ITIMER_REAL)[0] > 0)

import trio.testing
trio.run(main)
"""


@pytest.mark.parametrize(
    ("microseconds", "how", "printed", "returncode"),
    [
        ("20000000", "plain", ["False", "True", "False"], 0),
        ("20000000", "handled", ["False", "False", "False"], 0),  # whose handler it is decides
        ("200000", "hang", ["False", "True", "14"], -signal.SIGALRM),
    ],
    ids=["set and removed", "not with a handler of another", "ends one whose supervisor is gone"],
)
async def test_the_alarm(microseconds: str, how: str, printed: list[str], returncode: int) -> None:
    with trio.fail_after(LONG):
        process = await trio.run_process(
            [sys.executable, "-c", ALARM, microseconds, how], capture_stdout=True, check=False, cwd=ROOT
        )
    assert process.stdout.decode().split() == printed
    assert process.returncode == returncode


BEATS = """
import trio
from taktora_trio.processes.child.life_signs import inherited_life_signs

trio.run(inherited_life_signs().serve)
"""


async def test_one_that_was_stopped_for_long_goes_on() -> None:
    with open_notify_socket() as notify, trio.fail_after(LONG):
        environment = {**os.environ, **notify.environment(watchdog=0.2)}
        process = await trio.lowlevel.open_process([sys.executable, "-c", BEATS], env=environment, cwd=ROOT)
        notify.pid = process.pid
        await notify.receive()
        process.send_signal(signal.SIGSTOP)
        await trio.sleep(1)  # longer than the first alarm takes: that it does nothing can't be waited for
        drained(notify)
        process.send_signal(signal.SIGCONT)
        for _ in range(3):
            assert (await notify.receive()).alive
        process.terminate()
        assert await process.wait() == -signal.SIGTERM


# Whatever a process sends


@given(st.dictionaries(st.sampled_from(["READY", "WATCHDOG", "STOPPING", "ERRNO", "EXTEND_TIMEOUT_USEC"]), st.text()))
def test_no_value_is_an_error(values: dict[str, str]) -> None:
    news = Notification(values)
    assert news.ready == (values.get("READY") == "1")
    assert news.errno >= 0
    assert 0 <= news.extend < math.inf


@pytest.mark.parametrize("digits", [400, 4000])
def test_a_number_beyond_all_bounds_is_none(digits: int) -> None:
    news = Notification({"ERRNO": "9" * digits, "EXTEND_TIMEOUT_USEC": "9" * digits})
    assert (news.errno, news.extend) == (0, 0)


@given(st.integers(0, 10**15))
def test_numbers_are_read(number: int) -> None:
    news = Notification({"ERRNO": str(number), "EXTEND_TIMEOUT_USEC": str(number)})
    assert news.errno == number
    assert news.extend == number / 1e6


@given(st.binary(max_size=300))
def test_no_datagram_is_an_error(data: bytes) -> None:
    with open_notify_socket() as notify, contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as sender:
        notify.pid = os.getpid()
        sender.sendto(data, _address(notify))
        assert isinstance(notify.receive_nowait(), Notification)
