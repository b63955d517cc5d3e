"""A log call never raises, and what one record can't do is no other's fault."""

from __future__ import annotations

import errno
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import MockClock

from taktora_trio.processes.parent.tags import TAGS_OF_JOURNAL
from taktora_trio.runners.this_process.log_formats import LogFormat
from taktora_trio.runners.this_process.logs import logging_to, set_up_logging, tell_repeats
from taktora_trio.runners.this_process.repeats import Repeats

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
    assert told.endswith("2 log records could not be written, and are lost [log-lost]")
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


def entries(lines: list[bytes]) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in lines]


@pytest.mark.usefixtures("restored")
def test_all_of_extra_is_in_the_json(logged: Callable[[], list[bytes]]) -> None:
    set_up_logging("json", "here")
    things = {"celsius": 71.5, "at": ["roof", {"row": 3}], "none": None, "odd": {1, 2}, "half": "\udcff", "pid": "mine"}
    log.info(
        "too hot", extra={"event": "too-hot", **things, "big": 10**40, "bad": {"x": "\ud800"}, "it": Unspeakable()}
    )
    [entry] = entries(logged())
    assert entry["event"] == "too-hot"
    assert (entry["celsius"], entry["at"], entry["none"]) == (71.5, ["roof", {"row": 3}], None)
    assert (entry["half"], entry["big"]) == (r"\udcff", 10**40)
    assert (entry["pid"], entry["extra.pid"]) == (os.getpid(), "mine")
    assert entry["odd"] in ([1, 2], [2, 1])
    assert "d800" in entry["bad"]
    assert "Unspeakable" in entry["it"]


@pytest.mark.usefixtures("restored")
def test_a_line_for_people_ends_with_the_code_of_its_event(logged: Callable[[], list[bytes]]) -> None:
    set_up_logging("console", "here")
    log.error("first\nsecond", extra={"event": "it-broke"})
    first, second = logged()
    assert first.endswith(b"here       first [it-broke]")
    assert second == b"second"


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("how", ["by the option", "since it is the journal"])
def test_the_journal_gets_a_priority_for_each_line(
    how: str, logged: Callable[[], list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    there = os.fstat(2)
    monkeypatch.setenv("JOURNAL_STREAM", f"{there.st_dev}:{there.st_ino + (how == 'by the option')}")
    set_up_logging("journal" if how == "by the option" else "console", "here", level="debug")
    log.debug("a")
    log.info("b")
    log.warning("c\nd", extra={"event": "too-hot"})
    raise_in(OSError("e"))
    log.critical("f")
    debug, info, warning, also, error, *traceback, critical = logged()
    assert (debug, info) == (b"<7>here       a", b"<6>here       b")
    assert (warning, also) == (b"<4>here       c [too-hot]", b"<4>d")
    assert {line[:3] for line in (error, *traceback)} == {b"<3>"}
    assert critical == b"<2>here       f"


@pytest.mark.usefixtures("restored")
def test_json_to_the_journal_has_priorities_too(
    logged: Callable[[], list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    there = os.fstat(2)
    monkeypatch.setenv("JOURNAL_STREAM", f"{there.st_dev}:{there.st_ino}")
    set_up_logging("json", "here")
    log.error("a")
    [line] = logged()
    assert line.startswith(b'<3>{"time"')


@pytest.mark.parametrize("log_format", ["json", "journal"])
@pytest.mark.usefixtures("restored")
def test_a_line_of_a_half_keeps_its_priority_behind_its_name(log_format: LogFormat) -> None:
    half, written = list[bytes](), list[bytes]()
    with logging_to(half.append, log_format, "plugin"):
        log.error("a", extra={"level": "x"})
    for line in (*half, b"the interpreter has died"):
        written.append(TAGS_OF_JOURNAL[log_format]("plugin", "stderr", line))
    said, unsaid = written
    if log_format == "json":
        assert (said[:4], unsaid[:4]) == (b"<3>{", b"<6>{")
    else:
        assert (said, unsaid) == (b"<3>plugin     | a\n", b"<4>plugin     | the interpreter has died\n")
    assert TAGS_OF_JOURNAL["console"]("plugin", "stdout", b"<3>x") == b"plugin     | <3>x\n", "it is the app's own"


@pytest.mark.usefixtures("restored")
def test_a_fault_that_repeats_is_left_out_and_counted(logged: Callable[[], list[bytes]]) -> None:
    set_up_logging("json", "here")
    for number in range(100):
        log.warning("%s: hot, %d", "roof", number, extra={"event": "too-hot"})
        log.info("%s: said", "roof", extra={"event": "said"})
    log.warning("%s: hot", "cellar", extra={"event": "too-hot"})
    for _ in range(20):
        log.warning("an app's own")
        log.critical("help", extra={"event": "help"})
    counts = Counter((entry.get("event"), entry["message"].partition(",")[0]) for entry in entries(logged()))
    assert counts == {
        ("too-hot", "roof: hot"): 10,
        ("too-hot", "cellar: hot"): 1,
        ("said", "roof: said"): 100,
        (None, "an app's own"): 20,
        ("help", "help"): 20,
    }
    logging.getLogger().handlers[0].close()
    [told] = entries(logged())
    assert (told["event"], told["of"], told["count"], told["level"]) == ("repeated", "too-hot", 90, "warning")
    assert told["message"].endswith("of: roof: hot, 99")
    assert told["message"].startswith("90 more in the last ")


@pytest.mark.usefixtures("restored")
async def test_what_was_left_out_is_told_a_minute_later_and_then_it_is_logged_again(
    logged: Callable[[], list[bytes]], autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taktora_trio.runners.this_process.logs.Repeats", partial(Repeats, trio.current_time))
    set_up_logging("json", "here")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tell_repeats)
        for _ in range(12):
            log.error("%s", "it", extra={"event": "broke"})
        await trio.sleep(61)
        log.error("%s", "it", extra={"event": "broke"})
        *_, told, again = entries(logged())
        assert (told["message"], told["level"]) == ("2 more in the last 60 s of: it", "error")
        assert again["event"] == "broke"
        await trio.sleep(200)
        assert logged() == [], "nothing was left out"
        nursery.cancel_scope.cancel()


def test_only_so_many_faults_are_counted_at_once() -> None:
    repeats = Repeats()
    for number in range(1000):
        record = logging.makeLogRecord({"args": (f"channel {number}",), "event": "broke", "levelno": logging.ERROR})
        assert not repeats.leaves_out(record)
    assert len(repeats._faults) <= 256
