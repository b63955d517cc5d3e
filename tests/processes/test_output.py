from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pty
import tty
from collections.abc import AsyncIterator
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from taktora_trio.processes.parent.output import Pipe, Writer, open_writer
from taktora_trio.processes.parent.stderr_tail import StderrTail
from taktora_trio.processes.parent.tags import tag_console, tag_json, without_controls
from tests.processes.children import LONG

KEPT = 8 * 2**20


@contextlib.asynccontextmanager
async def open_pipe() -> AsyncIterator[tuple[int, int]]:
    """Open a small one; the reading end is non-blocking, the writing end is as a standard stream is."""
    reading, writing = os.pipe()
    fcntl.fcntl(reading, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(reading, False)
    try:
        yield reading, writing
    finally:
        for fd in (reading, writing):
            with contextlib.suppress(OSError):
                os.close(fd)


async def read_until(fd: int, end: bytes) -> bytes:
    data = b""
    while not data.endswith(end):
        await trio.lowlevel.wait_readable(fd)
        data += os.read(fd, 2**16)
    return data


async def test_lines_arrive_whole_and_in_order() -> None:
    lines = [b"%d %s\n" % (number, b"x" * (number % 5000)) for number in range(300)]
    with trio.fail_after(LONG):
        async with open_pipe() as (reading, writing), open_writer(writing) as writer:
            for line in lines:
                writer.write(line)
            assert await read_until(reading, lines[-1]) == b"".join(lines)
            writer.write(b"more\n")
            assert await read_until(reading, b"more\n") == b"more\n"


async def test_nobody_waits_for_who_reads_nothing() -> None:
    with trio.fail_after(LONG):
        async with open_pipe() as (_, writing), trio.open_nursery() as nursery:
            writer = Writer(writing)
            nursery.start_soon(writer.serve)
            for number in range(1000):
                writer.write(b"%d\n" % number * 10)
                if number % 100 == 0:
                    await wait_all_tasks_blocked()  # it awaits room, and blocks nobody
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("raw", [False, True], ids=["cooked", "raw"])
async def test_nobody_waits_for_a_terminal_that_takes_nothing(raw: bool) -> None:
    master, slave = pty.openpty()
    if raw:
        tty.setraw(slave)
    end, last = (b"\n" if raw else b"\r\n"), b"x" * 997
    with trio.fail_after(LONG):
        async with open_writer(slave) as writer:
            for number in range(300):
                writer.write(b"%03d %s\n" % (number, last))
            await wait_all_tasks_blocked()
            assert os.get_blocking(slave)  # as it was, for whoever else has it
            lines = (await read_until(master, b"299 " + last + end)).split(end)[:-1]
            assert [int(line[:3]) for line in lines] == list(range(300))
    os.close(master)
    os.close(slave)


async def test_beyond_the_limit_the_oldest_lines_go_and_their_number_is_told() -> None:
    line = b"%07d " + b"y" * 1015 + b"\n"  # 1 KiB
    with trio.fail_after(LONG):
        async with open_pipe() as (reading, writing), open_writer(writing) as writer:
            for number in range(20):
                writer.write(line % number)
            await wait_all_tasks_blocked()  # the pipe is full, and a line may be half out
            many = KEPT // 1024 + 1000
            for number in range(20, 20 + many):
                writer.write(line % number)
            last = line % (20 + many - 1)
            lines = (await read_until(reading, last)).split(b"\n")[:-1]
            (told,) = [line for line in lines if line.startswith(b"...")]
            numbers = [int(line[:7]) for line in lines if not line.startswith(b"...")]
            assert numbers == sorted(set(numbers))
            assert all(len(line) == 1023 for line in lines if line != told)
            dropped = 20 + many - len(numbers)
            assert dropped >= 1000
            assert told == b"... %d lines were dropped, since nobody took them" % dropped
            # They were the oldest of those that waited: the gap is one, and the notice is in it.
            gaps = [a for a, b in pairwise(numbers) if b != a + 1]
            assert len(gaps) == 1
            assert lines.index(told) == numbers.index(gaps[0]) + 1
            writer.write(b"and on\n")
            assert await read_until(reading, b"on\n") == b"and on\n"


async def test_what_it_says_itself_is_tagged(tmp_path: Path) -> None:
    path = tmp_path / "log"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    async with open_writer(fd, lambda text: b"<" + text + b">\n") as writer:
        writer.write(b"z" * (KEPT + 1))
        writer.write(b"next\n")
    assert path.read_bytes() == b"<... 1 lines were dropped, since nobody took them>\nnext\n"
    os.close(fd)


async def test_memory_stays_within_the_limit() -> None:
    async with open_pipe() as (_, writing):
        writer = Writer(writing)
        for _ in range(100_000):
            writer.write(b"z" * 1023 + b"\n")
        assert sum(map(len, writer._lines)) <= KEPT
        writer.write(b"z" * (KEPT + 1))  # even a single one
        assert sum(map(len, writer._lines)) <= KEPT


async def test_a_regular_file(tmp_path: Path) -> None:
    path = tmp_path / "log"
    lines = [b"%d\n" % number for number in range(5000)]
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    with trio.fail_after(LONG):
        async with open_writer(fd) as writer:
            for line in lines:
                writer.write(line)
            await wait_all_tasks_blocked()
            assert path.read_bytes() == b"".join(lines)
    os.close(fd)


@pytest.mark.parametrize("error", [None, ZeroDivisionError])
async def test_what_is_left_at_the_end_is_written(error: type[Exception] | None, tmp_path: Path) -> None:
    path = tmp_path / "log"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    with contextlib.suppress(ExceptionGroup):
        async with open_writer(fd) as writer:
            writer.write(b"last\n")
            if error is not None:
                raise error
    assert path.read_bytes() == b"last\n"
    os.close(fd)


async def test_what_is_left_is_written_when_it_is_cancelled() -> None:
    async with open_pipe() as (reading, writing):
        with trio.CancelScope() as scope:
            async with open_writer(writing) as writer:
                writer.write(b"last\n")
                scope.cancel()
                await trio.lowlevel.checkpoint()
        assert os.read(reading, 100) == b"last\n"


async def test_at_the_end_a_reader_that_takes_nothing_is_given_up() -> None:
    async with open_pipe() as (reading, writing):
        writer = Writer(writing)
        for _ in range(100):
            writer.write(b"x" * 1023 + b"\n")
        writer.flush(0.05)
        assert len(os.read(reading, 2**20)) == 4096


async def test_a_reader_that_has_gone_does_no_harm() -> None:
    with trio.fail_after(LONG):
        async with open_pipe() as (reading, writing), open_writer(writing) as writer:
            os.close(reading)
            for _ in range(3):
                writer.write(b"to nobody\n")
                await wait_all_tasks_blocked()


class Disk:
    """A file that takes no more than a number of bytes, as on a full disk; it begins full."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.room = 0
        self.written = b""
        self.refused = 0
        monkeypatch.setattr("taktora_trio.processes.parent.output.os.write", self._write)

    def _write(self, fd: int, data: bytes) -> int:
        if not self.room:
            self.refused += 1
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = data[: self.room]
        self.room -= len(taken)
        self.written += taken
        return len(taken)


async def test_on_a_full_disk_lines_wait_until_there_is_room(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    disk = Disk(monkeypatch)
    with (tmp_path / "log").open("wb") as file:
        async with open_writer(file.fileno()) as writer:
            writer.write(b"first\n")
            await trio.sleep(10)
            assert disk.refused == 10, "tried once a second"
            disk.room = 3
            writer.write(b"second\n")
            await trio.sleep(2)
            assert disk.written == b"fir"
            disk.room = 100
            await trio.sleep(2)
            assert disk.written == b"first\nsecond\n"


async def test_with_nobody_to_read_it_nothing_is_kept(autojump_clock: trio.testing.MockClock) -> None:
    async with open_pipe() as (reading, writing):
        os.close(reading)
        writer = Writer(writing)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(writer.serve)
            for _ in range(5):
                writer.write(b"x" * 1000 + b"\n")
                await trio.sleep(2)
            assert not writer._lines
            nursery.cancel_scope.cancel()


# The tail of standard error


def test_it_is_the_last_lines_that_say_something() -> None:
    tail = StderrTail()
    assert tail.lines() == ()
    for number in range(30):
        tail.add(b"line %d" % number)
        tail.add(b"  ")
    assert tail.lines() == tuple(f"line {number}" for number in range(18, 30))


def test_the_tail_of_standard_error_is_for_people() -> None:
    tail = StderrTail()
    tail.add(b'{"message": "it broke", "level": "error"}')
    tail.add(b'{"message": "it broke", "exception": "Traceback:\\n  x\\nOSError: disk"}')
    tail.add(b'{"other": 1}')
    tail.add(b"{no json")
    tail.add(b"\xff")
    tail.add(b"x" * 500)
    assert tail.lines() == (
        "it broke",
        "it broke: OSError: disk",
        '{"other": 1}',
        "{no json",
        "\ufffd",
        "x" * 400 + "...",
    )


@given(st.lists(st.binary(max_size=50) | st.just(b'{"message":"\\ud800"}'), max_size=20))
def test_any_tail_of_standard_error_can_be_sent(lines: list[bytes]) -> None:
    tail = StderrTail()
    for line in lines:
        tail.add(line)
    assert len(tail.lines()) <= 12
    assert tuple(msgspec.json.decode(msgspec.json.encode(tail.lines()))) == tail.lines()


# Names


def test_a_line_for_people_has_the_name_before_it() -> None:
    assert tag_console("gateway", "stdout", b"text") == b"gateway    | text\n"
    assert tag_console("gateway", "stderr", b"\xff") == b"gateway    | \xff\n"


def test_a_log_entry_stays_as_it_is() -> None:
    line = b'{"time":"now","process":"gateway","message":"text"}'
    assert tag_json("gateway", "stderr", line) == line + b"\n"


@pytest.mark.parametrize(
    "line",
    [
        b"text",
        b'{"process":"plugin"}',
        b'{"process":"gateway", or not',
        b'{"process":"gateway"} {}',
        b"",
        b"\xff\0",
        b'"process":"gateway"',
        "ä\u2028".encode(),
    ],
)
def test_anything_else_becomes_an_entry(line: bytes) -> None:
    tagged = tag_json("gateway", "stderr", line)
    assert tagged.count(b"\n") == 1
    assert tagged.endswith(b"\n")
    entry = msgspec.json.decode(tagged)
    assert datetime.fromisoformat(entry.pop("time")).tzinfo is not None
    assert entry == {
        "level": "info",
        "process": "gateway",
        "stream": "stderr",
        "message": line.decode(errors="replace"),
    }


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (b"12:00:00.000 INFO     mqtt: connected \xe2\x82\xac", b"12:00:00.000 INFO     mqtt: connected \xe2\x82\xac"),
        (b"x\rsupervisor | forged\x1b[2J\x1b[31m", b"x\\rsupervisor | forged\\x1b[2J\\x1b[31m"),
        (b"\xff\xfe\x00", b"\\xff\\xfe\\x00"),
        (b"  indented", b"  indented"),
        (b"", b""),
    ],
)
def test_what_a_terminal_must_not_obey(line: bytes, shown: bytes) -> None:
    assert without_controls(line) == shown
    tail = StderrTail()
    tail.add(line + b".")
    assert tail.lines()[0].isprintable()


@given(st.binary(max_size=1000))
def test_any_bytes_are_a_line_that_can_be_shown(line: bytes) -> None:
    assert without_controls(line).decode().isprintable()


# The other direction: from a child


async def test_a_pipe_gives_each_line_once_to_whoever_looks_first_and_the_unfinished_one_at_its_end() -> None:
    lines: list[bytes] = []
    reading, writing = os.pipe()
    with trio.fail_after(LONG):
        with Pipe(reading, lines.append) as pipe:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pipe.serve)
                os.write(writing, b"one\ntw")
                await wait_all_tasks_blocked()
                assert lines == [b"one"]
                os.write(writing, b"o\nthree\nlast")
                pipe.take_all()
                assert lines == [b"one", b"two", b"three"]
                os.close(writing)
                pipe.take_all()
                pipe.take_all()
                assert lines == [b"one", b"two", b"three", b"last"]
            assert lines == [b"one", b"two", b"three", b"last"]
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(reading)


def test_all_that_a_pipe_holds_is_taken_without_waiting_and_a_writer_that_never_ends_is_left() -> None:
    lines: list[bytes] = []
    reading, writing = os.pipe()
    try:
        with Pipe(reading, lines.append) as pipe:
            size = fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 2**20)
            os.write(writing, b"x" * (size - 1) + b"\n")
            pipe.take_all()
            assert sum(map(len, lines)) == size - 1
            written = 0

            def write_more(line: bytes) -> None:
                nonlocal written
                written += os.write(writing, b"y" * 2**16)

            with Pipe(os.dup(reading), write_more) as endless:
                os.write(writing, b"y" * 2**16)
                endless.take_all()
            assert 0 < written <= 2**20
    finally:
        os.close(writing)
