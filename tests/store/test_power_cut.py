"""The log on a mounted file system whose power is cut: the real system calls, and what they do not promise."""

from __future__ import annotations

import errno
import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from taktora_trio.errors import ConfigError
from taktora_trio.store import check_store, open_log
from tests.store.forgetting import Tree
from tests.store.fuse import CANT, MountedDisk, mounted
from tests.store.test_model import Run, a_life

pytestmark = pytest.mark.skipif(bool(CANT), reason=CANT or "it can be had")


@pytest.fixture(scope="module", autouse=True)
def _no_patience() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("taktora_trio.store.log._RETRY_AFTER", 0.001)
        yield


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[MountedDisk]:
    tree = Tree()
    with mounted(tree, tmp_path):
        yield MountedDisk(tree)
        tree.before = lambda operation: None


@pytest.mark.parametrize("seed", range(3))
async def test_what_is_promised_is_there_after_power_cuts(disk: MountedDisk, tmp_path: Path, seed: int) -> None:
    """The disk fails, is full or read-only at random, processes are killed, and the power is cut in any operation."""
    chance = random.Random(seed)
    run = Run(chance, disk, tmp_path / "a" / "store")
    await run.steps(a_life(chance, 120))


async def test_a_store_is_still_there_after_its_first_commit(disk: MountedDisk, tmp_path: Path) -> None:
    """Also the folder, and those above it, that it has made."""
    folder = tmp_path / "a" / "b" / "store"
    async with open_log(folder, identity="me", max_bytes=2**20, disk=disk) as log:
        log.channel("out").append(b"stored")
        await log.commit()
        await trio.to_thread.run_sync(disk.tree.cut, random.Random(1))
        disk.tree.cut_at = 0
    disk.tree.cut_at = None
    async with open_log(folder, identity="me", max_bytes=2**20, disk=disk) as log:
        assert [record.content for record in await log.channel("out").read()] == [b"stored"]


@pytest.mark.parametrize("number", [errno.EROFS, errno.EIO, errno.ENOSPC])
async def test_a_disk_that_can_only_be_read_is_said_before_the_start(
    disk: MountedDisk, tmp_path: Path, number: int
) -> None:
    def read_only(operation: str) -> None:
        if operation not in ("read", "list"):
            raise OSError(number, os.strerror(number))

    disk.tree.before = read_only
    with pytest.raises(ConfigError, match=f"the store {tmp_path}/store can't be used: "):
        await trio.to_thread.run_sync(lambda: check_store(tmp_path / "store", identity="me"))


async def test_a_disk_that_hangs_holds_up_neither_the_loop_nor_the_end(disk: MountedDisk, tmp_path: Path) -> None:
    answers = threading.Event()

    def hang(operation: str) -> None:
        answers.wait()

    try:
        with trio.fail_after(10):
            async with open_log(tmp_path / "store", identity="me", max_bytes=2**20, close_timeout=0.1) as log:
                log.channel("out").append(b"stored")
                await log.commit()
                disk.tree.before = hang
                log.channel("out").append(b"not stored")
                with trio.move_on_after(0.05):
                    await log.commit()
                assert log.channel("out").stored == 1
    finally:
        answers.set()
        disk.tree.before = lambda operation: None
