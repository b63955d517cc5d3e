"""The message about a /dev/shm that is full, of bytes or of files."""

from __future__ import annotations

import os

import pytest

from taktora_trio.transport.segments import SharedMemoryFull, free_bytes


def pretend(monkeypatch: pytest.MonkeyPatch, blocks: int, files: int) -> None:
    """Have statvfs(3) tell this: 4096 bytes a block, 1000 of each in all."""
    there = os.statvfs_result((4096, 4096, 1000, blocks, blocks, 1000, files, files, 0, 255))
    monkeypatch.setattr("taktora_trio.transport.segments.os.statvfs", lambda path: there)


def test_full_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, blocks=2, files=5)
    assert free_bytes() == 8192
    assert str(SharedMemoryFull("a port")).startswith("no room for a port: in /dev/shm 8192 bytes are free; ")
    assert "size=" in str(SharedMemoryFull("a port"))


def test_full_of_files(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, blocks=500, files=0)
    message = str(SharedMemoryFull("a port"))
    assert message.startswith("no room for a port: in /dev/shm no file more can be made; ")
    assert "nr_inodes=" in message
    assert "bytes" not in message
