"""Dead letters: on disk before `put` returns, bounded, and kept whatever is wrong with the disk or the file."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from taktora_trio import ConfigError, ConnectorOptions, Metadata, StoreError
from taktora_trio.connectors.dead_letters.file import OVERHEAD, DeadLetterFile
from taktora_trio.connectors.dead_letters.letter import DEAD_LETTERS, DeadLetter, check_dead_letters
from taktora_trio.connectors.dead_letters.letters import DeadLetters, open_dead_letters
from taktora_trio.health import HealthBoard, Up


@pytest.fixture
def file(tmp_path: Path) -> DeadLetterFile:
    return DeadLetterFile(tmp_path / "state" / "house" / DEAD_LETTERS)


def letter(payload: bytes = b"x", **more: Any) -> DeadLetter:
    given = {"connector": "line", "channel": "in", "topic": "t/1", "reason": "it kills", "deliveries": 5, **more}
    return DeadLetter(payload=payload, **given)


def payloads(file: DeadLetterFile) -> list[bytes]:
    return [whole.payload for one, _ in file.all() if (whole := file.get(one.number)) is not None]


def put(file: DeadLetterFile, *letters: DeadLetter, max_messages: int = 100, max_bytes: int = 2**20) -> int:
    return file.put(letters, max_messages=max_messages, max_bytes=max_bytes)[0]


# The file


def test_a_letter_comes_back_as_it_was_put(file: DeadLetterFile) -> None:
    metadata = Metadata(content_type="text/plain", user_properties=(("a", "ä\0"), ("a", "")))
    whole = letter(b"\0\xff", topic="ä/\0", metadata=metadata, correlation_id=b"\xfe", retained=True, at=12.5)
    put(file, whole, letter(topic="a lone \ud800"))
    assert file.get(1) == replace(whole, number=1)
    assert [one.topic for one, _ in file.all()] == ["ä/\0", "a lone \\ud800"]
    assert file.all()[0] == (replace(whole, number=1, payload=b""), 2), "a list has no payloads"
    assert file.get(3) is None


def test_where_nothing_was_put_there_is_no_file(file: DeadLetterFile) -> None:
    assert (file.all(), file.get(1), file.to_send("line", ["in"], 9), file.remove([1]), file.dropped()) == (
        [],
        None,
        [],
        0,
        0,
    )
    file.ask_to_send([1])
    assert not file.path.parent.exists()


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_it_is_for_its_owner_alone(file: DeadLetterFile, umask: int) -> None:
    before = os.umask(umask)
    try:
        put(file, letter())
    finally:
        os.umask(before)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (file.path, file.path.parent, file.path.parent.parent)]
    assert modes == [0o600, 0o700, 0o700]
    assert list(file.path.parent.iterdir()) == [file.path]


def test_beyond_its_limits_the_oldest_are_dropped_of_that_connector_alone(file: DeadLetterFile) -> None:
    put(file, letter(b"other", connector="other"))
    assert [put(file, letter(b"%d" % n), max_messages=3) for n in range(5)] == [0, 0, 0, 1, 1]
    assert [file.get(one.number).payload for one, _ in file.all()] == [b"other", b"2", b"3", b"4"]  # type: ignore[union-attr]
    size = OVERHEAD + len("t/1") + 100
    assert put(file, letter(bytes(100)), letter(bytes(100)), max_bytes=2 * size) == 3
    assert put(file, letter(bytes(1000)), max_bytes=2 * size) == 2, "the newest one stays, however large it is"
    assert [one.connector for one, _ in file.all()] == ["other", "line"]
    assert file.dropped() == 7


def test_the_file_shrinks_again(file: DeadLetterFile) -> None:
    put(file, *(letter(bytes(100_000)) for _ in range(9)))
    large = file.path.stat().st_size
    assert file.remove(range(1, 10)) == 9
    assert file.path.stat().st_size < large / 10
    put(file, letter())
    assert file.all()[0][0].number == 10, "a number is never used twice"


def test_one_that_was_put_before_is_changed_and_no_second_one_made(file: DeadLetterFile) -> None:
    put(file, letter(b"a"), letter(b"b"), letter(b"a"))
    put(file, letter(b"b", redelivered=True, deliveries=6), letter(b"new", redelivered=True))
    assert [(one.number, one.deliveries) for one, _ in file.all()] == [(1, 5), (2, 6), (3, 5), (4, 5)]
    put(file, letter(b"b", redelivered=True, topic="t/2"), letter(b"b", redelivered=True, channel="else"))
    assert len(file.all()) == 6, "another topic or channel is another message"
    file.ask_to_send([1])
    put(file, letter(b"a", number=1, reason="again"))
    assert next((one.number, one.reason) for one, _ in file.all()) == (1, "again")
    assert file.to_send("line", ["in"], 9) == [], "it was sent, and came back"
    file.remove([1])
    put(file, letter(b"a", number=1))
    assert file.all()[-1][0].number == 7, "one that was discarded meanwhile is kept all the same"


def test_what_is_to_be_sent_again(file: DeadLetterFile) -> None:
    put(file, *(letter(b"%d" % n, connector="line" if n % 2 else "other") for n in range(1, 9)))
    file.ask_to_send([7, 1, 3, 2, 99])
    assert [(one.number, one.payload) for one in file.to_send("line", ["in", "else"], 2)] == [(1, b"1"), (3, b"3")]
    assert [one.number for one in file.to_send("line", ["in"], 9)] == [1, 3, 7]
    assert file.to_send("line", ["else"], 9) == []


def test_a_damaged_file_is_put_aside_and_a_new_one_begun(file: DeadLetterFile) -> None:
    put(file, letter(b"old"))
    damaged = b"SQLite format 3\0" + bytes(range(256)) * 40
    file.path.write_bytes(damaged)
    with pytest.raises(StoreError, match=f"{DEAD_LETTERS} is damaged"):
        file.all()
    assert file.path.read_bytes() == damaged, "one who only looks changes nothing"
    dropped, aside = file.put([letter(b"new")], max_messages=9, max_bytes=2**20)
    assert aside is not None
    assert (dropped, aside.read_bytes()) == (0, damaged)
    assert len(file.all()) == 1


def test_damage_behind_the_first_page(file: DeadLetterFile) -> None:
    put(file, *(letter(bytes(3000)) for _ in range(50)))
    data = bytearray(file.path.read_bytes())
    data[4096:] = b"\xa5" * (len(data) - 4096)
    file.path.write_bytes(data)
    _, aside = file.put([letter(b"new")], max_messages=9, max_bytes=2**20)
    assert aside is not None
    assert aside.read_bytes() == data
    assert [one.number for one, _ in file.all()] == [1]


def test_an_empty_file_is_as_good_as_none(file: DeadLetterFile) -> None:
    file.path.parent.mkdir(parents=True)
    file.path.write_bytes(b"")
    assert file.all() == []
    put(file, letter())
    assert len(file.all()) == 1


def of_another_program(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE letters (number)")


def of_a_newer_version(path: Path) -> None:
    put(DeadLetterFile(path), letter())
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 2")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (of_another_program, "made by another program: move it away"),
        (of_a_newer_version, r"a newer version .*format 2"),
    ],
)
def test_a_file_that_is_not_ours_is_left_alone(tmp_path: Path, make: Callable[[Path], None], words: str) -> None:
    make(path := tmp_path / DEAD_LETTERS)
    before = path.read_bytes()
    file = DeadLetterFile(path)
    for call in (lambda: put(file, letter()), file.all, lambda: file.remove([1])):
        with pytest.raises(StoreError, match=words):
            call()
    with pytest.raises(ConfigError, match=words):
        check_dead_letters(tmp_path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", [None, b"", b"SQLite format 3\0", b"x" * 200])
def test_before_a_start_what_may_be_mended_is_no_reason_to_refuse(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / DEAD_LETTERS).write_bytes(content)
    check_dead_letters(tmp_path)


def test_where_the_folder_is_a_file(file: DeadLetterFile) -> None:
    file.path.parent.parent.write_text("")
    with pytest.raises(StoreError, match="can't be used now: Not a directory"):
        put(file, letter())


def test_a_link_in_its_place_is_not_followed(file: DeadLetterFile, tmp_path: Path) -> None:
    file.path.parent.mkdir(parents=True)
    file.path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="can't be used now"):
        put(file, letter())
    assert not (tmp_path / "elsewhere").exists()


def test_it_is_written_while_another_process_reads(file: DeadLetterFile, monkeypatch: pytest.MonkeyPatch) -> None:
    put(file, letter())
    monkeypatch.setattr("taktora_trio.connectors.dead_letters.file._BUSY", 0.05)
    with contextlib.closing(sqlite3.connect(file.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert len(file.all()) == 1, "one that has begun to write holds up nobody who reads"
        with pytest.raises(StoreError, match="can't be used now: database is locked"):
            put(file, letter())
        other.execute("ROLLBACK")
        put(file, letter())
    assert len(file.all()) == 2


def test_a_value_that_nobody_of_ours_has_written_is_refused(file: DeadLetterFile) -> None:
    put(file, letter())
    with contextlib.closing(sqlite3.connect(file.path, isolation_level=None)) as other:
        other.execute("UPDATE letters SET metadata = x'ff'")
    with pytest.raises(StoreError, match="dead letter 1 can't be read"):
        file.get(1)


# In the gateway


@contextlib.asynccontextmanager
async def opened(path: Path, **options: Any) -> AsyncIterator[tuple[DeadLetters, list[str]]]:
    """The dead letters of connector `line`, with the record of its health."""
    record: list[str] = []
    board = HealthBoard(["line"], on_event=lambda event: record.append(str(event.after)))
    board.report("line", Up())
    record.clear()
    async with open_dead_letters(lambda: path.parent, {"line": ConnectorOptions(**options)}, board) as letters:
        yield letters, record


async def test_what_was_put_is_on_disk_when_it_returns_and_shown(
    file: DeadLetterFile, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(file.path) as (letters, health):
        await letters.put(letter(b"1", topic="t\x1b", reason="it\nkills"))
        assert [one.number for one, _ in file.all()] == [1]
        why = "channel in: messages went to the dead letters (1 so far): the last on 't\\x1b': it\\nkills"
        assert health == [f"Degraded ({why})"]
        assert caplog.messages == [f"line: {why}; see `taktora-trio dead-letters list`"]
        for number in range(2, 10):
            await letters.put(letter(b"%d" % number, reason=f"reason {number}"))
        assert letters.count == 9
        assert [line.partition("; see")[0][-8:] for line in caplog.messages[1:]] == [f"reason {n}" for n in (2, 4, 8)]
        assert "(8 so far)" in health[-1]
        assert health[-1].count("so far") == 1, "the newest figure stands in place of the ones before it"
        assert len(health) == 4, "a flood of them is no flood of events"


async def test_many_at_once_share_a_commit(file: DeadLetterFile, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    real = DeadLetterFile.put

    def counting(self: DeadLetterFile, letters: list[DeadLetter], **limits: int) -> Any:
        sizes.append(len(letters))
        return real(self, letters, **limits)

    monkeypatch.setattr(DeadLetterFile, "put", counting)
    async with opened(file.path) as (letters, _), trio.open_nursery() as nursery:
        for number in range(100):
            nursery.start_soon(letters.put, letter(b"%d" % number))
    assert sum(sizes) == len(file.all()) == 100
    assert len(sizes) <= 4


@pytest.mark.parametrize("trouble", ["folder", "full"])
async def test_while_the_disk_takes_nothing_it_waits_and_shows_why(
    trouble: str,
    file: DeadLetterFile,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    autojump_clock: MockClock,
) -> None:
    # Threads are as good as instant for the virtual clock only if there are none.
    monkeypatch.setattr(trio.to_thread, "run_sync", run_here)
    connect = sqlite3.connect
    if trouble == "folder":
        file.path.parent.parent.write_text("")
        reason = "can't be used now: Not a directory"
    else:
        monkeypatch.setattr(sqlite3, "connect", lambda path, **more: bounded(connect(path, **more)))
        reason = "can't be used now: database or disk is full"
    async with opened(file.path) as (letters, health), trio.open_nursery() as nursery:
        nursery.start_soon(letters.put, letter(bytes(100_000)))
        await trio.sleep(100)
        assert letters.count == 0
        assert [reason in state for state in health] == [True]
        assert [reason in line for line in caplog.messages] == [True], "once, not at each attempt"
        if trouble == "folder":
            file.path.parent.parent.unlink()
        monkeypatch.setattr(sqlite3, "connect", connect)
        await trio.sleep(31 * 1.1)
        assert letters.count == 1
    assert len(file.all()) == 1


async def run_here(function: Callable[..., Any], *args: Any, **how: bool) -> Any:
    assert how == {"abandon_on_cancel": True}
    await trio.lowlevel.checkpoint()
    return function(*args)


def bounded(database: sqlite3.Connection) -> sqlite3.Connection:
    database.execute("PRAGMA max_page_count = 10")
    return database


async def test_a_wait_that_is_cancelled_loses_nothing(
    file: DeadLetterFile, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    monkeypatch.setattr(trio.to_thread, "run_sync", run_here)
    file.path.parent.parent.write_text("")
    async with opened(file.path) as (letters, _):
        with trio.move_on_after(1) as scope:
            await letters.put(letter(b"cancelled"))
        assert scope.cancelled_caught
        file.path.parent.parent.unlink()
        letters.put_nowait(letter(b"next"))
        with trio.fail_after(40):
            await letters.flush()
            await letters.flush()  # at once
        assert payloads(file) == [b"cancelled", b"next"]


async def test_what_nobody_keeps_has_a_bound_while_the_disk_takes_nothing(
    file: DeadLetterFile, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    monkeypatch.setattr(trio.to_thread, "run_sync", run_here)
    file.path.parent.parent.write_text("")
    async with opened(file.path) as (letters, health):
        stored: list[int] = []
        for number in range(20):
            letters.put_nowait(letter(bytes(2**20)))
            letters.put_nowait(letter(b"%d" % number), lambda number=number: stored.append(number))  # type: ignore[misc]
        assert [line for line in caplog.messages if "discarded" in line][-1].endswith("nothing (4 so far)")
        assert "dead letters are discarded, since the disk is too slow" in health[-1]
        file.path.parent.parent.unlink()
        await letters.flush()
        assert stored == list(range(20)), "what somebody keeps until it is here is not discarded"
        assert len(file.all()) == 20 + 15


async def test_a_disk_that_hangs_keeps_no_gateway_from_ending(
    file: DeadLetterFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    goes_on = threading.Event()
    hangs = trio.Event()
    token = trio.lowlevel.current_trio_token()

    def hang(self: DeadLetterFile, letters: object, **limits: int) -> None:
        token.run_sync_soon(hangs.set)
        goes_on.wait(10)

    monkeypatch.setattr(DeadLetterFile, "put", hang)
    try:
        with trio.fail_after(5):
            async with opened(file.path) as (letters, _), trio.open_nursery() as nursery:
                nursery.start_soon(letters.put, letter())
                await hangs.wait()
                nursery.cancel_scope.cancel()
    finally:
        goes_on.set()


async def test_what_is_lost_is_said(file: DeadLetterFile, caplog: pytest.LogCaptureFixture) -> None:
    file.path.parent.mkdir(parents=True)
    file.path.write_bytes(b"x" * 8192)
    async with opened(file.path, max_dead_letters=1) as (letters, health):
        await letters.put(letter(b"1"))
        assert any("the file of the dead letters was damaged: it is now" in line for line in caplog.messages)
        assert "the file of the dead letters was damaged, and put aside" in health[-1]
        await letters.put(letter(b"2"))
        assert "line: the dead letters are full: the oldest 1 were discarded" in caplog.messages
        assert "the dead letters are full, and the oldest are discarded" in health[-1]
