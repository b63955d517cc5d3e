"""The process for warm starts: its forks get what they were sent, and none is left that nobody knows of."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from taktora_trio.processes.child.zygote import _renumber
from taktora_trio.processes.parent import warm
from taktora_trio.processes.parent.child_link import open_link
from taktora_trio.processes.parent.process import Start
from taktora_trio.processes.parent.subreaper import become_subreaper
from taktora_trio.processes.parent.warm import Zygote, open_zygote


@pytest.mark.parametrize("numbers", [[101, 102, 103, 100], [103, 102, 101, 100], [100, 101, 102, 103], [7, 250, 8, 9]])
def test_descriptors_get_their_numbers_whichever_these_are(numbers: list[int]) -> None:
    """A supervisor with many channels has high ones."""
    there = [fd for fd in map(int, os.listdir("/proc/self/fd")) if fd > 2]
    numbers = [number + max(there) + 1 if number < 100 else number for number in numbers]
    assert not set(numbers) & set(there), "the test needs these numbers"
    fds = [os.memfd_create("x") for _ in numbers]
    for place, fd in enumerate(fds):
        os.write(fd, b"%d" % place)
    _renumber(fds, numbers)
    try:
        assert [os.pread(number, 9, 0) for number in numbers] == [b"0", b"1", b"2", b"3"]
        for fd in set(fds) - set(numbers):
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(fd)
    finally:
        for number in numbers:
            os.close(number)


@contextlib.asynccontextmanager
async def _forking_for_nobody(entry: str = "signal:pause") -> AsyncIterator[tuple[Zygote, trio.lowlevel.FdStream]]:
    """Ask a new zygote for a fork that lasts for ever, and lose patience.

    The stream ends with the fork.
    """
    zygote = Zygote(entry, [])
    await zygote.open()
    reading, writing = os.pipe()
    async with trio.lowlevel.FdStream(reading) as fork:
        try:
            with open_link() as link, trio.CancelScope() as impatience:
                impatience.cancel()
                await zygote._fork([], Start(environment={}, link=link, stdout=writing, stderr=writing), ())
            os.close(writing)
            yield zygote, fork
        finally:
            await zygote.close()


async def test_a_fork_that_comes_too_late_ends_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm, "_ENDING", 60.0)  # it is still importing, and goes through what it was asked
    async with _forking_for_nobody() as (zygote, fork):
        await zygote.close()
        with trio.fail_after(60):
            assert await fork.receive_some() == b""


async def test_a_fork_that_nobody_has_waited_for_is_killed() -> None:
    async with _forking_for_nobody() as (zygote, fork):
        assert zygote._socket is not None
        with trio.fail_after(60):
            await trio.lowlevel.wait_readable(zygote._socket)
            await zygote.close()
            assert await fork.receive_some() == b""


async def test_a_fork_that_was_killed_has_ended_when_the_zygote_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it has its role still when the files of its domain are to be removed, and they are left."""
    code = "import os, signal\ndef hold():\n    held = b'x' * 300_000_000\n    os.write(1, b'!')\n    signal.pause()\n"
    (tmp_path / "holding.py").write_text(code)  # so much memory that the kernel needs a while to take it back
    monkeypatch.syspath_prepend(tmp_path)
    async with _forking_for_nobody("holding:hold") as (zygote, fork):
        with trio.fail_after(60):
            assert await fork.receive_some() == b"!"
            await zygote.close()
            assert os.read(fork.fileno(), 1) == b""  # it does not wait


async def test_after_an_upgrade_forks_run_the_new_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is missing is about to be replaced, and the old code goes on meanwhile."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    module = tmp_path / "versioned.py"

    def install(version: int) -> None:
        new = tmp_path / "new"
        new.write_text(f"import os\ndef say():\n    os.write(1, b'{version}')\n")
        new.rename(module)

    async def said() -> bytes:
        reading, writing = os.pipe()
        async with trio.lowlevel.FdStream(reading) as stream:
            with open_link() as link:
                start = zygote.start([])
                child = await start(Start(environment={}, link=link, stdout=writing, stderr=writing))
            os.close(writing)
            assert await child.wait() == 0
            return bytes(await stream.receive_some())

    become_subreaper()
    install(1)
    async with open_zygote("versioned:say", []) as zygote:
        assert await said() == b"1"
        first = zygote._process
        module.unlink()
        assert await said() == b"1"
        assert zygote._process is first
        install(2)
        assert await said() == b"2"
        assert zygote._process is not first
        assert await said() == b"2"
