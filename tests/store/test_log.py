"""The log on a real disk: what an owner of one sees."""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from taktora_trio.errors import ConfigError, StoreError
from taktora_trio.store import Log, LogChannel, StoreFull, check_store, open_log
from taktora_trio.store.disk import Disk
from taktora_trio.store.format import PREAMBLE, file_name, parse_name

MIB = 2**20


@asynccontextmanager
async def opened(folder: Path, **options: Any) -> AsyncIterator[Log]:
    async with open_log(folder, **{"identity": "plant/mqtt", "max_bytes": 4 * MIB, **options}) as log:
        yield log


async def contents(channel: LogChannel, after: int = 0) -> list[bytes]:
    found = []
    while records := await channel.read(after, 50):
        found += [record.content for record in records]
        after = records[-1].number
    return found


def segments(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if parse_name(path.name))


async def filled(folder: Path, count: int, *, commits: int = 1) -> None:
    async with opened(folder) as log:
        for _ in range(commits):
            for _ in range(count // commits):
                channel = log.channel("out")
                channel.append(b"message %d" % (channel.last + 1))
            await log.commit()


# What is kept


async def test_a_restart_goes_on_where_it_was(tmp_path: Path) -> None:
    async with opened(tmp_path / "store") as log:
        out, other = log.channel("out"), log.channel("other")
        for number in range(1, 101):
            assert out.append(b"%d" % number, epoch=2**64 - 1, sequence=number + 500, timestamp=number) == number
        other.append(b"x", number=7)
        out.settle(1, 10)
        out.settle(50)
        out.put("begun", 2**64 - 1)
        assert (out.count, out.first, out.stored) == (89, 11, 0)
    async with opened(tmp_path / "store") as log:
        out = log.channel("out")
        assert await contents(out) == [b"%d" % number for number in range(11, 101) if number != 50]
        [record] = await out.read(after=98, limit=1)
        assert (record.number, record.epoch, record.sequence, record.timestamp) == (99, 2**64 - 1, 599, 99)
        assert (out.count, out.first, out.stored, out.last, out.origin) == (89, 11, 100, 100, (2**64 - 1, 600))
        assert out.values == {"begun": 2**64 - 1}
        assert out.oldest <= 11
        assert list(log.channels) == ["out", "other"]
        assert out.append(b"next") == 101
        assert log.channel("other").append(b"next") == 8
        assert log.damage == log.trouble == ""


async def test_numbers_go_on_when_all_was_settled_before_it_was_stored(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        log.channel("out").settle(log.channel("out").append(b"soon done"))
        await log.channel("out").wait_stored()
    async with opened(tmp_path) as log:
        assert log.channel("out").append(b"another") == 2
        assert log.channel("out").count == 1


async def test_what_is_stored_is_told(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        out = log.channel("out")
        told: list[int] = []
        out.on_stored = lambda: told.append(out.stored)
        for _ in range(10):
            out.append(b"x")
        assert out.stored == 0
        await out.wait_stored(10)
        assert told == [10]
        out.put("mark", 1)
        await log.commit()
        assert told == [10]
        assert "count=10" in repr(out)
        assert "used=" in repr(log)


async def test_a_number_must_be_higher_than_those_before(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        out = log.channel("out")
        out.append(b"", number=10)
        for number in (10, 2**63):
            with pytest.raises(ValueError, match="number"):
                out.append(b"", number=number)
        with pytest.raises(ValueError, match="epoch"):
            out.append(b"", epoch=-1)
        with pytest.raises(ValueError, match="a name has up to"):
            out.put("ä", 1)
        assert out.count == 1


async def test_the_oldest_are_dropped(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        out = log.channel("out")
        for _ in range(10):
            out.append(b"x", timestamp=5)
        out.settle(2)
        assert out.oldest == 5
        assert out.drop_oldest(3) == 3
        assert out.first == 5
        assert out.drop_oldest(100) == 6
        assert (out.first, out.count, out.size, log.used) == (11, 0, out.size, out.size)
        await log.commit()
        assert (out.size, out.oldest) == (0, 0)


async def test_files_are_for_their_user_alone(tmp_path: Path) -> None:
    await filled(tmp_path / "a" / "store", 10)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "a", tmp_path / "a" / "store")} == {0o700}
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "a" / "store").iterdir()} == {0o600}


# Space


async def test_a_full_log_takes_no_more_and_is_never_larger(tmp_path: Path) -> None:
    async with opened(tmp_path, max_bytes=MIB) as log:
        out = log.channel("out")
        appended = 0
        while log.has_room(1000):
            out.append(bytes(1000))
            appended += 1
            if appended % 50 == 0:
                await log.commit()
        with pytest.raises(StoreFull, match="is full"):
            out.append(bytes(1000))
        await log.commit()
        assert 750 < appended < 1000
        assert sum(path.stat().st_size for path in segments(tmp_path)) < MIB
        out.drop_oldest(200)
        assert log.has_room(150_000)
        await log.commit()
        assert sum(path.stat().st_size for path in segments(tmp_path)) < 0.8 * MIB, "space is given back"


async def test_a_slow_channel_does_not_keep_the_space_of_a_fast_one(tmp_path: Path) -> None:
    async with opened(tmp_path, max_bytes=MIB) as log:
        slow, fast = log.channel("slow"), log.channel("fast")
        for number in range(200):
            slow.append(b"%d" % number)
            for _ in range(10):
                fast.append(bytes(1000))
            fast.settle(1, fast.last)
            for _ in range(5):
                fast.append(bytes(1000))
            await log.commit()
        fast.settle(1, fast.last)
        assert sum(path.stat().st_size for path in segments(tmp_path)) < MIB
        assert await contents(slow) == [b"%d" % number for number in range(200)]
    async with opened(tmp_path, max_bytes=MIB) as log:
        assert await contents(log.channel("slow")) == [b"%d" % number for number in range(200)]
        assert log.channel("fast").count == 0
        assert log.damage == ""


async def test_large_records_between_small_ones(tmp_path: Path) -> None:
    sizes = [0, 10, 100_000, 20, 1_000_000, 16_384, 1]
    async with opened(tmp_path) as log:
        for size in sizes:
            log.channel("out").append(bytes(size))
            log.channel("other").append(b"")
        await log.commit()
        assert [len(content) for content in await contents(log.channel("out"))] == sizes


# Whose it is


async def test_one_process_at_a_time(tmp_path: Path) -> None:
    async with opened(tmp_path):
        with pytest.raises(StoreError, match="used by another process"):
            async with opened(tmp_path):
                raise AssertionError
        with pytest.raises(ConfigError, match="used by another process"):
            check_store(tmp_path, identity="plant/mqtt")
    check_store(tmp_path, identity="plant/mqtt")


async def test_a_store_of_another_deployment_is_refused(tmp_path: Path) -> None:
    await filled(tmp_path, 10)
    before = {path: path.read_bytes() for path in segments(tmp_path)}
    with pytest.raises(ConfigError, match=r"is of 'plant/mqtt', and not of 'home/mqtt'"):
        async with opened(tmp_path, identity="home/mqtt"):
            raise AssertionError
    with pytest.raises(ConfigError, match=r"is of 'plant/mqtt', and not of 'home/mqtt'"):
        check_store(tmp_path, identity="home/mqtt")
    assert {path: path.read_bytes() for path in segments(tmp_path)} == before


async def test_a_store_of_a_newer_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await filled(tmp_path, 10)
    monkeypatch.setattr("taktora_trio.store.format.VERSION", 0)
    with pytest.raises(ConfigError, match="newer version of taktora-trio"):
        check_store(tmp_path, identity="plant/mqtt")
    with pytest.raises(ConfigError, match="newer version of taktora-trio"):
        async with opened(tmp_path):
            raise AssertionError


def test_a_folder_that_cant_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ConfigError, match=r"can't be used: a file is where a folder is wanted$"):
            check_store(folder, identity="me")
    with pytest.raises(ConfigError, match=r"can't be used: (Permission denied|No such file|Operation not)"):
        check_store(Path("/proc/1/store"), identity="me")


def test_a_log_is_opened_by_its_function() -> None:
    with pytest.raises(TypeError, match=r"use `async with open_log\(\.\.\.\)`"):
        Log()  # type: ignore[call-arg]


# Damage


async def test_each_byte_that_is_flipped(tmp_path: Path) -> None:
    """Whatever byte it is: what can be read is there in order, nothing else is, and what is lost is said."""
    await filled(tmp_path / "store", 24, commits=6)
    [path] = segments(tmp_path / "store")
    whole = path.read_bytes()
    for at in range(len(PREAMBLE), len(whole), 13):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x40]) + whole[at + 1 :])
        async with opened(tmp_path / "store") as log:
            found = await contents(log.channel("out"))
            numbers = [int(content.split()[1]) for content in found]
            assert numbers == sorted(set(numbers))
            assert set(numbers) <= set(range(1, 25))
            assert len(numbers) >= 20, "more than the frame is lost"
            last_frame_begins = whole.rindex(b"tkFr")
            assert bool(log.damage) == (at < last_frame_begins), at
        assert path.exists()
        for new in segments(tmp_path / "store")[1:]:
            new.unlink()


@pytest.mark.parametrize("part", range(4))
async def test_a_file_that_ends_anywhere(tmp_path: Path, part: int) -> None:
    """As a write leaves it that was interrupted: all records before it are there."""
    await filled(tmp_path / "store", 8, commits=4)
    [path] = segments(tmp_path / "store")
    whole = path.read_bytes()
    first_commit_ends = whole.index(b"message 2") + len(b"message 2")  # a file gets its name when that is on the disk
    for size in range(first_commit_ends + part, len(whole), 4):
        path.write_bytes(whole[:size])
        async with opened(tmp_path / "store") as log:
            found = await contents(log.channel("out"))
            assert found == [b"message %d" % number for number in range(1, len(found) + 1)]
            assert log.damage == ""


async def test_a_damaged_file_is_put_aside_when_the_rest_is_done_with(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await filled(tmp_path, 24, commits=6)
    [path] = segments(tmp_path)
    whole = path.read_bytes()
    at = whole.index(b"message 7")
    path.write_bytes(whole[:at] + b"x" + whole[at + 1 :])
    async with opened(tmp_path) as log:
        assert f"{path.name} is damaged" in log.damage
        assert [record.levelname for record in caplog.records] == ["ERROR"]
        out = log.channel("out")
        assert out.count == 20
        out.settle(1, 24)
        out.append(b"new")
        await log.commit()
        await log.commit()
        assert not path.exists()
        assert (tmp_path / "damaged" / path.name).exists()
    async with opened(tmp_path) as log:
        assert log.damage == ""
        assert await contents(log.channel("out")) == [b"new"]


async def test_a_file_of_which_nothing_can_be_read_is_put_aside_and_a_new_one_begun(tmp_path: Path) -> None:
    await filled(tmp_path, 24)
    [path] = segments(tmp_path)
    path.write_bytes(b"rubbish" * 100)
    async with opened(tmp_path) as log:
        aside = tmp_path / "damaged" / path.name
        assert log.damage == f"nothing in {path.name} can be read: it was put aside as {aside}"
        assert aside.read_bytes() == b"rubbish" * 100
        log.channel("out").append(b"new")
        await log.commit()
    async with opened(tmp_path) as log:
        assert log.damage == ""
        assert await contents(log.channel("out")) == [b"new"]


async def test_a_file_that_is_gone_is_said(tmp_path: Path) -> None:
    for _ in range(2):
        await filled(tmp_path, 24)
    segments(tmp_path)[0].unlink()
    async with opened(tmp_path) as log:
        assert log.damage == "24 messages of the channel 'out' can't be found in it any more"
        assert len(await contents(log.channel("out"))) == 24


async def test_what_breaks_while_it_is_open_is_said_where_it_is_read(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        out = log.channel("out")
        told: list[str] = []
        log.on_trouble = told.append
        for commit in range(3):
            out.append(b"message %d" % commit)
            await log.commit()
        [path] = segments(tmp_path)
        whole = path.read_bytes()
        at = whole.index(b"message 1")
        path.write_bytes(whole[:at] + b"x" + whole[at + 1 :])
        assert await contents(out) == [b"message 0", b"message 2"]
        assert out.count == 2
        assert log.damage == "1 messages of the channel 'out' can't be read any more"
        assert told == [""]


async def test_foreign_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.log").write_text("mine")
    (tmp_path / "000-00-00.log").write_text("mine")
    await filled(tmp_path, 5)
    assert (tmp_path / "notes.log").read_text() == (tmp_path / "000-00-00.log").read_text() == "mine"
    assert parse_name(file_name(5, 1, 77)) == (5, 1, 77)


async def test_sectors_that_cant_be_read(tmp_path: Path) -> None:
    class Scratched(Disk):
        def read(self, path: Path, offset: int, size: int) -> bytes:
            if offset <= 2**17 < offset + size:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return super().read(path, offset, size)

    async with opened(tmp_path) as log:
        for _ in range(40):
            for _ in range(10):
                log.channel("out").append(bytes(1000))
            await log.commit()
    async with opened(tmp_path, disk=Scratched()) as log:
        assert "is damaged" in log.damage
        assert 300 < log.channel("out").count < 400


# A disk that fails


class Failing(Disk):
    """A disk that does what a test says before each write."""

    def __init__(self) -> None:
        self.before: Callable[[], None] = lambda: None

    def write(self, fd: int, data: bytes, offset: int) -> None:
        self.before()
        super().write(fd, data, offset)


@pytest.mark.parametrize(
    ("number", "says"),
    [(errno.ENOSPC, "the disk is full"), (errno.EROFS, "the disk is read-only"), (errno.EIO, "Input/output error")],
)
async def test_a_disk_that_fails_is_tried_again_and_nothing_is_lost(
    tmp_path: Path, number: int, says: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("taktora_trio.store.log._RETRY_AFTER", 0.01)
    disk = Failing()
    failures = 3

    def fail() -> None:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise OSError(number, os.strerror(number))

    async with opened(tmp_path, disk=disk) as log:
        out = log.channel("out")
        troubles: list[str] = []
        log.on_trouble = troubles.append
        out.append(b"before")
        await log.commit()
        disk.before = fail
        out.append(b"one")
        out.append(b"two")
        out.settle(3)
        await out.wait_stored()
        assert troubles == [f"the store {tmp_path} can't be used now: {says}", ""]
        assert await contents(out) == [b"before", b"one"]
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING", "INFO"]
    async with opened(tmp_path) as log:
        assert await contents(log.channel("out")) == [b"before", b"one"]
        assert log.damage == ""


async def test_a_disk_that_hangs_holds_up_neither_the_loop_nor_the_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taktora_trio.store.log._SILENT", 0.05)
    disk = Failing()
    answers = threading.Event()
    try:
        with trio.fail_after(10):
            async with opened(tmp_path, disk=disk, close_timeout=0.1) as log:
                out = log.channel("out")
                hangs = trio.Event()
                log.on_trouble = lambda trouble: hangs.set() if "not answered" in trouble else None
                out.append(b"stored")
                await log.commit()
                disk.before = answers.wait  # type: ignore[assignment]
                out.append(b"not stored")
                await hangs.wait()
                assert await contents(out) == [b"stored"]
                with pytest.raises(StoreError, match="used by another"):
                    async with opened(tmp_path):
                        raise AssertionError
            assert "1 messages were not stored" in caplog.text
            with pytest.raises(StoreError, match="used by another"):  # the thread that hangs may still write
                async with opened(tmp_path):
                    raise AssertionError
    finally:
        answers.set()
    with trio.fail_after(10):
        while True:
            try:
                async with opened(tmp_path) as log:
                    assert (await contents(log.channel("out")))[0] == b"stored"
                    return
            except StoreError:
                await trio.sleep(0.01)  # until that thread has ended


async def test_the_end_writes_what_is_left_even_if_it_is_cancelled(tmp_path: Path) -> None:
    with trio.CancelScope() as scope:
        async with opened(tmp_path) as log:
            for _ in range(100):
                log.channel("out").append(b"x")
            log.channel("out").settle(1)
            scope.cancel()
            await trio.sleep_forever()
    async with opened(tmp_path) as log:
        assert log.channel("out").count == 99


async def test_commits_keep_their_distance(tmp_path: Path) -> None:
    async with opened(tmp_path, sync_every=0.1) as log:
        out = log.channel("out")
        commits = 0

        def count() -> None:
            nonlocal commits
            commits += 1

        out.on_stored = count
        begun = trio.current_time()
        while trio.current_time() < begun + 0.25:
            out.append(b"x")
            await trio.sleep(0.01)
        assert 1 <= commits <= 3


@pytest.mark.parametrize(("many", "gathers"), [(4, True), (3, False)])
async def test_commits_of_many_records_gather_and_single_ones_go_at_once(
    tmp_path: Path, many: int, gathers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taktora_trio.store.log._GATHERING", 1000)
    async with opened(tmp_path) as log:
        out = log.channel("out")
        for _ in range(many):
            out.append(b"x")
        await out.wait_stored()
        out.append(b"x")
        with trio.move_on_after(0.05 if gathers else 10):
            await out.wait_stored()
        assert (out.stored == out.last) != gathers
    async with opened(tmp_path) as log:
        assert log.channel("out").count == many + 1


async def test_what_was_settled_reaches_the_disk_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taktora_trio.store.log._LAZY", 0.01)
    async with opened(tmp_path) as log:
        log.channel("out").append(b"x")
        await log.commit()
        [path] = segments(tmp_path)
        size = path.stat().st_size
        log.channel("out").settle(1)
        with trio.fail_after(5):
            while path.stat().st_size == size:  # noqa: ASYNC110 - a file has no event
                await trio.sleep(0.005)
