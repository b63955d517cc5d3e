from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import attrs
import msgspec
import psutil
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from taktora_trio import Backoff
from taktora_trio.health import Failure
from taktora_trio.processes.parent import as_process, spawn
from taktora_trio.processes.parent.group import describe
from taktora_trio.processes.pidfd import wait_for_exit
from taktora_trio.supervision.supervisor import Exit, Supervisor
from tests.processes.children import LONG, POLICY, open_children, program
from tests.processes.owner import Report

ROOT = Path(__file__).parent.parent.parent
WATCHDOG = attrs.evolve(POLICY, watchdog=0.5)


# How it ends


@pytest.mark.parametrize(
    ("code", "kind", "description", "returncode"),
    [
        ("sys.exit(3)", "exit", "exit code 3", 3),
        ("ready(); sys.exit(4)", "exit", "exit code 4", 4),
        ("ready(); os.kill(os.getpid(), signal.SIGKILL)", "signal", "killed by SIGKILL", -9),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "signal", "killed by SIGSEGV", -11),
        ("raise MemoryError", "exit", "exit code 1", 1),
        ("tell('ERRNO=12'); sys.exit(1)", "out-of-memory", "out of memory", 1),
        ("ready(); tell('STATUS=out of memory\\nERRNO=12'); sys.exit(1)", "out-of-memory", "out of memory", 1),
        ("ready(); tell('ERRNO=13'); sys.exit(1)", "exit", "exit code 1", 1),
    ],
)
async def test_how_it_ended(code: str, kind: str, description: str, returncode: int) -> None:
    async with open_children() as children:
        exit_ = await children.run_once(code)
        assert (exit_.kind, exit_.description, exit_.returncode, exit_.failed) == (kind, description, returncode, True)
        assert [failure.description for failure in children.failures] == [description]


async def test_what_it_is_about_to_die_of_counts_however_long_that_takes() -> None:
    # The news is heard while it still lives.
    code = "ready(); tell('STATUS=out of memory\\nERRNO=12'); write('x'); hang()"
    async with open_children() as children:
        supervisor = children.supervisor(code, attrs.evolve(POLICY, restart="never"))
        with trio.fail_after(LONG):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(supervisor.run)
                await children.until_written(b"x")
                await wait_all_tasks_blocked(0.02)
                children.kill(signal.SIGKILL)
        assert children.exits[0].kind == "out-of-memory"


@pytest.mark.parametrize(
    ("returncode", "text"),
    [(0, "exit code 0"), (2, "exit code 2"), (-15, "killed by SIGTERM"), (-63, "killed by signal 63")],
)
def test_an_exit_says_how(returncode: int, text: str) -> None:
    assert describe(returncode) == text


async def test_an_exit_code_that_means_a_permanent_failure() -> None:
    async with open_children() as children:
        await children.run("sys.exit(2)", attrs.evolve(POLICY, restart="always"), permanent_codes=[2])
        assert len(children.pids) == 1
        assert children.failures[0].gave_up == "another try would end the same way"


async def test_a_command_that_cannot_be_started_is_a_failure_like_any_other() -> None:
    before = os.listdir("/proc/self/fd")
    policy = attrs.evolve(POLICY, intensity=1)
    failures: list[Failure] = []
    runner = as_process("child", spawn(["/nonexistent/command"]), policy, write=lambda stream, line: None)
    supervisor = Supervisor(
        "child", runner, policy, on_failure=lambda failure, exit_: failures.append(failure), revivable=False
    )
    await supervisor.run()
    assert [(failure.kind, bool(failure.gave_up)) for failure in failures] == [
        ("exception", False),
        ("exception", True),
    ]
    assert "could not be started" in failures[0].description
    assert "/nonexistent/command" in failures[0].description
    assert os.listdir("/proc/self/fd") == before


async def test_an_error_of_its_owner_at_the_start_ends_it() -> None:
    def fail() -> None:
        raise ZeroDivisionError

    async with open_children() as children:
        children.on_start = fail
        with pytest.RaisesGroup(ZeroDivisionError):
            await children.run("hang()")
        assert len(children.pids) == 1


# Its signs


async def test_one_that_never_gets_ready_is_killed() -> None:
    async with open_children() as children:
        exit_ = await children.run_once("hang()", attrs.evolve(POLICY, start_timeout=0.2))
        assert (exit_.kind, exit_.description) == ("start-deadline", "not ready within 0.2 s, so it was killed")
        assert children.failures[0].uptime == 0


async def test_it_may_ask_for_more_time_to_start() -> None:
    code = "tell('STATUS=still starting\\nEXTEND_TIMEOUT_USEC=30000000'); time.sleep(1.8); ready()"
    async with open_children() as children:
        assert (await children.run_once(code, attrs.evolve(POLICY, start_timeout=1.5))).description == "exit code 0"


async def test_more_time_to_start_is_over_some_time_too() -> None:
    async with open_children() as children:
        exit_ = await children.run_once(
            "tell('EXTEND_TIMEOUT_USEC=1100000'); hang()", attrs.evolve(POLICY, start_timeout=1.0)
        )
        assert (exit_.kind, exit_.description) == ("start-deadline", "not ready within 1.1 s, so it was killed")


async def test_to_ask_for_more_time_takes_none_away() -> None:
    code = "tell('EXTEND_TIMEOUT_USEC=1000'); time.sleep(0.3); ready()"
    async with open_children() as children:
        assert (await children.run_once(code)).kind == "exit"


HANGS = {
    "stopped": ("", "os.kill(os.getpid(), signal.SIGSTOP)"),
    "an endless loop": ("spin", "while True: pass"),
    "a blocking call": ("block", "time.sleep(1000)"),
    "a call that ignores every signal but one": (
        "deaf",
        "signal.pthread_sigmask(signal.SIG_BLOCK, {15, 2})\n    hang()",
    ),
}


@pytest.mark.parametrize(("where", "how"), HANGS.values(), ids=HANGS)
async def test_one_that_hangs_after_it_was_ready_is_killed(where: str, how: str) -> None:
    code = f"""
import faulthandler
faulthandler.enable()
def {where or "work"}():
    {how}
ready()
{where or "work"}()
"""
    async with open_children() as children:
        exit_ = await children.run_once(code, WATCHDOG)
        assert exit_.kind == "hang"
        assert exit_.description == f"no sign of life for {exit_.silent:.1f} s, so it was killed"
        assert exit_.failed
        assert exit_.silent >= 0.5
        if where:  # what is stopped can't tell where it is
            assert exit_.stderr_tail[0] == "Fatal Python error: Aborted"
            assert any(re.search(f"line [0-9]+ in {where}$", line) for line in exit_.stderr_tail)
        assert children.failures[0].stderr_tail == exit_.stderr_tail


async def test_its_end_is_told_with_its_last_words_before_what_it_left_is_ended() -> None:
    told: list[tuple[int, tuple[str, ...], bool]] = []
    async with open_children() as children:

        def on_exit(exit_: Exit) -> None:
            told.append((exit_.returncode or 0, exit_.stderr_tail, psutil.pid_exists(int(children.out()[0]))))

        children.on_exit = on_exit
        code = """
ready()
heard, hears = os.pipe()
if os.fork():
    os.read(heard, 1)
    os.write(2, b'oh')
    os._exit(3)
os.close(2)
print(os.getpid(), flush=True)
os.write(hears, b'.')
hang()
"""
        exit_ = await children.run_once(code)
        assert told == [(3, ("oh",), True)]
        assert (exit_.returncode, exit_.stderr_tail, len(children.failures)) == (3, ("oh",), 1)


@pytest.mark.parametrize(
    ("code", "end"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", (-signal.SIGKILL, "killed by SIGKILL")),
        ("os.abort()", (-signal.SIGABRT, "killed by SIGABRT")),
        ("sys.exit(3)", (3, "exit code 3")),
        ("", (0, "exit code 0")),
    ],
)
async def test_its_end_is_told_once_and_before_it_is_waited_for(code: str, end: tuple[int, str]) -> None:
    told: list[Exit] = []
    before = len(os.listdir("/proc/self/fd"))
    async with open_children() as children:

        def on_exit(exit_: Exit) -> None:
            told.append(exit_)
            assert psutil.Process(int(children.out()[0])).status() == psutil.STATUS_ZOMBIE

        children.on_exit = on_exit
        exit_ = await children.run_once(f"ready()\nprint(os.getpid(), flush=True)\n{code}")
        assert [(one.returncode, one.description) for one in (*told, exit_)] == [end, end]
        assert not psutil.pid_exists(int(children.out()[0]))
    assert len(os.listdir("/proc/self/fd")) == before


async def test_as_long_as_it_gives_signs_it_lives() -> None:
    code = """
ready()
for _ in range(36):
    tell('WATCHDOG=1')
    time.sleep(0.05)
"""
    async with open_children() as children:
        assert (await children.run_once(code, attrs.evolve(POLICY, watchdog=1.5))).description == "exit code 0"


async def test_other_news_is_no_sign_of_life() -> None:
    code = """
ready()
while True:
    tell('STATUS=stalled')
    time.sleep(0.02)
"""
    async with open_children() as children:
        assert (await children.run_once(code, WATCHDOG)).kind == "hang"


async def test_without_a_watchdog_silence_is_no_hang() -> None:
    code = "ready(); write(repr('WATCHDOG_USEC' in os.environ)); time.sleep(0.3)"
    async with open_children() as children:
        exit_ = await children.run_once(code, attrs.evolve(POLICY, watchdog=None))
        assert exit_.description == "exit code 0"
        assert await children.until_all_ended() == b"False"


@pytest.mark.parametrize("again", ["", "STOPPING=1", "WATCHDOG=1"])
async def test_one_that_stops_and_does_not_end_is_killed(again: str) -> None:
    code = f"""
ready()
tell('STOPPING=1')
while True:
    if {again!r}: tell({again!r})
    time.sleep(0.02)
"""
    async with open_children() as children:
        exit_ = await children.run_once(code, attrs.evolve(POLICY, stop_grace=0.2))
        assert exit_.kind == "hang"
        assert exit_.description == "no end within 1 s after it said that it stops, so it was killed"


async def test_without_any_grace_one_that_stops_is_killed_too() -> None:
    async with open_children() as children:
        exit_ = await children.run_once("ready(); tell('STOPPING=1'); hang()", attrs.evolve(POLICY, stop_grace=0))
        assert exit_.kind == "hang"


async def test_one_that_stops_may_be_silent() -> None:
    code = "ready(); tell('STOPPING=1'); time.sleep(0.8)"
    async with open_children() as children:
        assert (await children.run_once(code, attrs.evolve(POLICY, watchdog=0.2))).description == "exit code 0"


async def test_nobody_else_speaks_for_it() -> None:
    code = """
if os.fork() == 0:
    ready()
    os._exit(0)
os.wait()
write('told')
hang()
"""
    async with open_children() as children:
        exit_ = await children.run_once(code, attrs.evolve(POLICY, start_timeout=0.5))
        assert exit_.kind == "start-deadline"
        assert await children.until_all_ended() == b"told"


@pytest.mark.parametrize(
    "nonsense",
    [
        b"",
        b"\xff\xfe\x00",
        b"READY",
        b"ERRNO=x\nEXTEND_TIMEOUT_USEC=-1",
        b"EXTEND_TIMEOUT_USEC=" + b"9" * 4000,
        b"ERRNO=" + b"9" * 400,
        "ERRNO=²".encode(),
        b"=\n==\nWATCHDOG==1",
    ],
)
async def test_nonsense_does_no_harm(nonsense: bytes) -> None:
    code = f"""
s = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
address = os.environ['NOTIFY_SOCKET'].replace('@', '\\0', 1)
for _ in range(3): s.sendto({nonsense!r}, address)
ready()
for _ in range(3): s.sendto({nonsense!r}, address)
"""
    async with open_children() as children:
        assert (await children.run_once(code)).description == "exit code 0"


# What it is given


async def test_its_environment() -> None:
    code = """
names = ('NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID', 'TAKTORA_SUPERVISOR', 'TAKTORA_HALF', 'PYTHONUNBUFFERED')
write('\\n'.join(os.environ.get(name, '-') for name in names))
"""
    async with open_children() as children:
        await children.run_once(code, attrs.evolve(POLICY, watchdog=1.5))
        notify, usec, pid, link, mark, unbuffered = (await children.until_all_ended()).decode().split("\n")
        assert notify.startswith("@taktora-")
        assert usec == "1500000"
        assert pid == "-"
        assert re.fullmatch(rf"[0-9]+ {os.getpid()} 1", link)
        assert mark.startswith("child-1-")
        assert unbuffered == "1"


async def test_it_inherits_the_link_its_output_and_what_it_was_given_and_nothing_else() -> None:
    code = """
link = int(os.environ['TAKTORA_SUPERVISOR'].split()[0])
found = []
for fd in map(int, os.listdir('/proc/self/fd')):
    try: os.fstat(fd)
    except OSError: continue  # that of the listing
    found.append(fd)
write(repr(set(found) == {0, 1, 2, link, pipe}))
write(os.readlink('/proc/self/fd/0'))
"""
    async with open_children() as children:
        await children.run_once(code)
        assert await children.until_all_ended() == b"True/dev/null"


async def test_it_leads_a_group_of_its_own() -> None:
    async with open_children() as children:
        await children.run_once("write(f'{os.getpgid(0)} {os.getpid()}')")
        group, pid = (await children.until_all_ended()).split()
        assert group == pid
        assert int(pid) == children.pids[0]


# How it is ended


async def test_cancelled_it_gets_sigterm_and_time(caplog: pytest.LogCaptureFixture) -> None:
    code = """
def end(*_):
    write('T')
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
ready()
write('.')
hang()
"""
    async with open_children() as children:
        await children.cancelled_once_written(b".", code)
        assert await children.until_all_ended() == b".T"
        assert children.failures == []
    assert "killed" not in caplog.text


async def test_who_ignores_sigterm_is_killed_after_the_grace(caplog: pytest.LogCaptureFixture) -> None:
    code = "signal.signal(signal.SIGTERM, lambda *_: write('T')); ready(); write('.'); hang()"
    async with open_children() as children:
        began = trio.current_time()
        await children.cancelled_once_written(b".", code, attrs.evolve(POLICY, stop_grace=0.2))
        assert trio.current_time() - began >= 0.2
        assert await children.until_all_ended() == b".T"
    assert "child: did not stop within 0.2 s, so it is killed" in caplog.text


@pytest.mark.parametrize(
    "code",
    [
        "write('.'); hang()",
        "ready(); write('.'); hang()",
        "ready(); write('.'); os.kill(os.getpid(), signal.SIGSTOP)",
        "ready(); tell('STOPPING=1'); write('.'); hang()",
    ],
    ids=["starting", "ready", "stopped", "stopping"],
)
async def test_cancelled_at_any_time_it_leaves_nothing(code: str) -> None:
    async with open_children() as children:
        await children.cancelled_once_written(b".", code, attrs.evolve(POLICY, stop_grace=0.2))


async def test_cancelled_before_it_has_begun_it_leaves_nothing() -> None:
    async with open_children() as children:
        with trio.CancelScope() as scope:
            scope.cancel()
            await children.run("hang()")
        assert scope.cancelled_caught
        assert children.pids == []


async def test_cancelled_while_it_is_started_it_leaves_nothing() -> None:
    async with open_children() as children:
        with trio.CancelScope() as scope:
            children.on_start = scope.cancel
            await children.run("hang()")
        assert scope.cancelled_caught
        assert len(children.pids) == 1


async def test_cancelled_during_the_delay_it_ends_at_once() -> None:
    async with open_children() as children:
        with trio.CancelScope() as scope:
            children.on_failure = scope.cancel
            await children.run("sys.exit(1)", attrs.evolve(POLICY, backoff=Backoff(initial=3600, maximum=3600)))
        assert scope.cancelled_caught
        assert [exit_.returncode for exit_ in children.exits] == [1]


# What it has started

GRANDCHILD = """
if os.fork() == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    write('g')
    hang()
"""


@pytest.mark.parametrize("kind", ["cancelled", "exit", "hang"])
async def test_its_group_ends_with_it(kind: str) -> None:
    # Each of these returns only when nobody has the pipe any more.
    async with open_children() as children:
        match kind:
            case "cancelled":
                await children.cancelled_once_written(b"g", f"{GRANDCHILD}\nhang()")
            case "exit":
                assert (await children.run_once(f"{GRANDCHILD}\nready()")).description == "exit code 0"
            case "hang":
                assert (await children.run_once(f"{GRANDCHILD}\nready(); hang()", WATCHDOG)).kind == "hang"
        await children.until_all_ended()


@contextlib.asynccontextmanager
async def open_owner(policy: str, code: str) -> AsyncIterator[tuple[trio.Process, trio.lowlevel.FdStream]]:
    """Start a supervisor in a process of its own; yield it with the pipe to which the child writes."""
    reading, writing = os.pipe()
    async with trio.lowlevel.FdStream(reading) as stream:
        owner = await trio.lowlevel.open_process(
            [sys.executable, "-m", "tests.processes.owner", policy, code, str(writing)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            pass_fds=[writing],
            cwd=ROOT,
        )
        os.close(writing)
        assert owner.stdout is not None
        try:
            async with owner.stdout:
                with trio.fail_after(LONG):
                    yield owner, stream
        finally:
            with trio.CancelScope(shield=True):
                owner.kill()
                await owner.wait()


async def reported(owner: trio.Process) -> Report:
    assert owner.stdout is not None
    data = b""
    async for chunk in owner.stdout:
        data += chunk
    assert await owner.wait() == 0
    return msgspec.json.decode(data, type=Report)


ESCAPE = """
def escape(depth):
    # Leaves the group and the session, and loses its parent.
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            if depth: escape(depth - 1)
            write('e')
            hang()
        os._exit(0)
    os.wait()
escape(2)
"""


@pytest.mark.parametrize("end", ["os._exit(0)", "os.kill(os.getpid(), 9)", "hang()"])
async def test_what_has_escaped_from_the_group_ends_too_and_no_zombie_is_left(end: str) -> None:
    # The child waits until all three have written, so that what ends with it is there.
    code = f"""
reading, mine = os.pipe()
theirs, pipe = pipe, mine
{GRANDCHILD}
{ESCAPE}
heard = b''
while len(heard) < 4: heard += os.read(reading, 4)
pipe = theirs
write('all')
ready()
{end}
"""
    async with open_owner("watchdog=0.5,stop_grace=1", code) as (owner, pipe):
        report = await reported(owner)
        # Nobody has the pipe: all of them have ended.
        assert b"".join([chunk async for chunk in pipe]) == b"all"
        assert report.children == []
        assert report.kind == ("hang" if end == "hang()" else "signal" if "kill" in end else "exit")


@pytest.mark.parametrize("seconds", [1.2, 2.5])  # a bit longer than the watchdog, and much
@pytest.mark.parametrize("child_too", [False, True], ids=["alone", "with its child"])
async def test_a_supervisor_that_was_stopped_does_not_kill_what_is_healthy(child_too: bool, seconds: float) -> None:
    code = """
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
ready()
write(f'{os.getpid()} ')
while True:
    tell('WATCHDOG=1')
    write('.')
    time.sleep(0.05)
"""
    async with open_owner("watchdog=1", code) as (owner, pipe):
        heard = b""

        async def until_beaten(times: int) -> None:
            nonlocal heard
            wanted = heard.count(b".") + times
            while heard.count(b".") < wanted:
                heard += await pipe.receive_some()

        await until_beaten(3)
        child = int(heard.split()[0])
        stopped = [owner.pid, child] if child_too else [owner.pid]
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        await trio.sleep(seconds)  # that nothing comes of it can't be waited for
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
            await trio.sleep(0.3)  # the supervisor is to see that there was no sign
        await until_beaten(30)  # for longer than a period
        os.kill(child, signal.SIGTERM)
        assert (await reported(owner)).description == "exit code 0"


async def test_no_descriptors_are_left_after_many_restarts() -> None:
    async with open_children() as children:
        fds: list[int] = []
        children.on_failure = lambda: fds.append(len(os.listdir("/proc/self/fd")))
        quick = Backoff(initial=0.001, maximum=0.001)
        await children.run("ready(); sys.exit(run < 31)", attrs.evolve(POLICY, backoff=quick, intensity=100))
        assert len(children.pids) == 31
        assert len(fds) == 30
        assert max(fds) == min(fds)


# What it writes


async def test_its_output_comes_line_by_line_with_the_name_of_the_stream() -> None:
    code = """
os.write(1, b'one\\ntw')
os.write(2, b'error\\n')
os.write(1, b'o\\n\\n')
os.write(1, b'no end')
"""
    async with open_children() as children:
        exit_ = await children.run_once(code)
        assert children.out() == [b"one", b"two", b"", b"no end"]
        assert children.out("stderr") == [b"error"]
        assert exit_.stderr_tail == ("error",)


async def test_nothing_that_was_printed_is_lost_at_a_kill(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    # Python does not buffer, since the environment says so; with -I it would not look there.
    code = """
import os
for number in range(2000): print(number)
os.kill(os.getpid(), 9)
"""
    lines: list[bytes] = []
    policy = attrs.evolve(POLICY, restart="never")
    runner = as_process(
        "child", spawn([sys.executable, "-S", "-c", code]), policy, write=lambda stream, line: lines.append(line)
    )
    with trio.fail_after(LONG):
        exit_ = await Supervisor("child", runner, policy, revivable=False).run()
    assert exit_ is not None
    assert exit_.description == "killed by SIGKILL"
    assert lines == [b"%d" % number for number in range(2000)]


async def test_what_it_says_while_it_is_stopped_is_heard() -> None:
    code = """
def end(*_):
    os.write(2, b'bye')
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
write('.')
hang()
"""
    async with open_children() as children:
        await children.cancelled_once_written(b".", code)
        assert children.out("stderr") == [b"bye"]


async def test_a_tail_has_at_most_12_lines_each_of_at_most_400_characters() -> None:
    code = """
for number in range(500): print(number, file=sys.stderr)
print('x' * 1000, file=sys.stderr)
"""
    async with open_children() as children:
        exit_ = await children.run_once(code)
        assert exit_.stderr_tail == (*map(str, range(489, 500)), "x" * 400 + "...")


async def test_a_flood_is_read_and_does_not_grow_memory() -> None:
    code = """
ready()
block = (b'y' * 99 + b'\\n') * 1000
for _ in range(1000): os.write(2, block)
"""
    process, sizes, count = psutil.Process(), list[int](), 0

    def write(stream: str, line: bytes) -> None:
        nonlocal count
        if count % 100_000 == 0:
            sizes.append(process.memory_info().rss)
        count += 1

    runner = as_process("child", spawn(program(code)), POLICY, write=write)
    with trio.fail_after(LONG):
        exit_ = await Supervisor("child", runner, POLICY).run()
    assert exit_ is not None
    assert exit_.description == "exit code 0"
    assert count == 1_000_000
    assert len(exit_.stderr_tail) == 12
    assert max(sizes) - sizes[0] < 30e6


async def test_who_escapes_with_the_output_does_not_hold_us_up() -> None:
    # Not our child, since this process is no subreaper; so it has our pipes for as long as it lives.
    code = """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        write(f'{os.getpid()} ')
        os.close(pipe)
        time.sleep(30)
    os._exit(0)
os.wait()
print('said', file=sys.stderr)
"""
    async with open_children() as children:
        exit_ = await children.run_once(code)
        assert exit_.stderr_tail == ("said",)
        await children.until_written(b" ")
        escaped = psutil.Process(int(children.written))
        assert escaped.status() == psutil.STATUS_SLEEPING  # we have not waited for its end
        escaped.kill()


async def test_the_end_of_any_process_is_noticed() -> None:
    code = "import subprocess, sys; print(subprocess.Popen(['sleep', '60'], stdout=2).pid, flush=True)"
    process = await trio.run_process([sys.executable, "-c", code], capture_stdout=True)
    pid = int(process.stdout)
    with trio.move_on_after(0.05) as scope:
        await wait_for_exit(pid)
    assert scope.cancelled_caught
    os.kill(pid, 9)
    with trio.fail_after(LONG):
        await wait_for_exit(pid)
        await wait_for_exit(pid)  # at once, for one that is gone
