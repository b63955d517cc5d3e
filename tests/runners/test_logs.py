"""A log call never raises, and what one record can't do is no other's fault."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from taktora_trio.runners.this_process.logs import LogFormat, logging_to, set_up_logging

log = logging.getLogger("tests.logs")
FORMATS: list[LogFormat] = ["console", "json"]


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise ZeroDivisionError


@pytest.fixture
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def logged(capfdbinary: pytest.CaptureFixture[bytes]) -> Callable[[], list[bytes]]:
    return lambda: capfdbinary.readouterr().err.splitlines()


def raise_in(what: Exception) -> None:
    try:
        raise what
    except type(what):
        log.exception("it broke")


BAD: dict[str, tuple[Callable[[], None], list[str]]] = {
    "half a surrogate pair": (lambda: log.info("a%sb", "\udcff"), [r"a\udcffb"]),
    "a file name that is no UTF-8": (lambda: log.info("%s", os.fsdecode(b"\xff")), [r"\udcff"]),
    "too few arguments": (lambda: log.info("%s %s", 1), ["test_logs.py", "can't be shown", "TypeError"]),
    "an argument of another type": (lambda: log.info("%d", "x"), ["can't be shown", "TypeError"]),
    "an argument that can't be shown": (lambda: log.info("%s", Unspeakable()), ["can't be shown", "ZeroDivisionError"]),
    "an exception that can't be shown": (lambda: raise_in(Unspeakable()), ["it broke"]),
    "an exception with half a surrogate pair": (lambda: raise_in(ValueError("\ud800")), ["it broke", r"\ud800"]),
    "a zero byte": (lambda: log.info("a\0b"), ["a"]),
}


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("log_format", FORMATS)
@pytest.mark.parametrize("name", BAD)
def test_any_record_is_shown_as_far_as_it_can_be(
    name: str, log_format: LogFormat, logged: Callable[[], list[bytes]]
) -> None:
    call, parts = BAD[name]
    set_up_logging(log_format, "here")
    call()
    lines = logged()
    if log_format == "json":
        [line] = lines
        entry = msgspec.json.decode(line)
        text = entry["message"] + entry.get("exception", "")
    else:
        text = b"\n".join(lines).decode()
    for part in parts:
        assert part in text


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("log_format", FORMATS)
@pytest.mark.parametrize("name", BAD)
def test_in_the_supervisor_too(name: str, log_format: LogFormat) -> None:
    lines: list[bytes] = []
    with logging_to(lines.append, log_format, "supervisor"):
        logging.getLogger().setLevel(logging.INFO)
        BAD[name][0]()
    assert lines
    assert not any(b"\n" in line for line in lines)


@pytest.mark.usefixtures("restored")
def test_a_full_disk_costs_what_is_logged_meanwhile_and_its_number_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "log"
    with path.open("wb") as file:
        room = 1000

        def write(fd: int, data: bytes) -> int:
            nonlocal room
            if not room:
                raise OSError(errno.ENOSPC, "No space left on device")
            taken = data[:room]
            room -= len(taken)
            return file.write(taken)

        monkeypatch.setattr("taktora_trio.runners.this_process.logs.os.write", write)
        set_up_logging("console", "here")
        log.info("first")
        room = 10
        log.info("cut off")
        log.info("lost")
        room = 1000
        log.info("third")
        log.info("fourth")
    first, cut, told, third, fourth = path.read_text().splitlines()
    assert first.endswith("first")
    assert len(cut) == 10
    assert told.endswith("2 log records could not be written, and are lost")
    assert third.endswith("third")
    assert fourth.endswith("fourth")


@pytest.mark.usefixtures("restored")
def test_a_descriptor_that_does_not_block_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe2(os.O_NONBLOCK)
    real, written = os.write, b""

    def write(fd: int, data: bytes) -> int:
        nonlocal written
        try:
            return real(writing, data)
        except BlockingIOError:
            written += os.read(reading, 2**20)  # a reader that comes late
            raise

    monkeypatch.setattr("taktora_trio.runners.this_process.logs.os.write", write)
    set_up_logging("console", "here")
    for number in range(100):
        log.info("%d %s", number, "x" * 5000)
    written += os.read(reading, 2**20)
    assert [int(line.split()[3]) for line in written.splitlines()] == list(range(100))
    os.close(reading)
    os.close(writing)
