"""A file system that forgets what was not synced: in memory, with its power cut whenever a test says so.

`ForgettingDisk` puts it under a log without any system call; `tests/store/fuse.py` mounts it.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeAlias

from taktora_trio.store.disk import Disk

__all__ = ["File", "Folder", "ForgettingDisk", "Tree"]

SECTOR = 512


class File:
    def __init__(self) -> None:
        self.data = bytearray()
        self._synced = b""
        self._changes: list[tuple[int, bytes] | int] = []  # what was written where, or a size

    def write(self, offset: int, data: bytes) -> None:
        """Write, and remember it by sectors, which reach the disk or not one by one."""
        at = offset
        while at < offset + len(data):
            end = min((at // SECTOR + 1) * SECTOR, offset + len(data))
            self._changes.append((at, data[at - offset : end - offset]))
            at = end
        _put(self.data, offset, data)

    def truncate(self, size: int) -> None:
        self._changes.append(size)
        _resize(self.data, size)

    def sync(self) -> None:
        self._synced = bytes(self.data)
        self._changes.clear()

    def cut(self, chance: random.Random) -> None:
        self.data = bytearray(self._synced)
        share = chance.choice((0, 0.5, 0.9, 1))
        for change in self._changes:
            if chance.random() < share:
                if isinstance(change, int):
                    _resize(self.data, change)
                else:
                    _put(self.data, *change)
        self.sync()


def _put(data: bytearray, offset: int, new: bytes) -> None:
    if len(data) < offset:
        data.extend(bytes(offset - len(data)))
    data[offset : offset + len(new)] = new


def _resize(data: bytearray, size: int) -> None:
    del data[size:]
    data.extend(bytes(size - len(data)))


class Folder:
    def __init__(self) -> None:
        self.entries: dict[str, Node] = {}
        self._synced: dict[str, Node] = {}
        self._changes: list[dict[str, Node | None]] = []  # each all of it or nothing

    def change(self, names: dict[str, Node | None]) -> None:
        self._changes.append(names)
        _apply(self.entries, names)

    def sync(self) -> None:
        self._synced = dict(self.entries)
        self._changes.clear()

    def cut(self, chance: random.Random) -> None:
        self.entries = dict(self._synced)
        share = chance.choice((0, 0.5, 0.9, 1))
        for change in self._changes:
            if chance.random() < share:
                _apply(self.entries, change)
        self.sync()
        for node in self.entries.values():
            node.cut(chance)


def _apply(entries: dict[str, Node], names: dict[str, Node | None]) -> None:
    for name, node in names.items():
        if node is None:
            entries.pop(name, None)
        else:
            entries[name] = node


Node: TypeAlias = File | Folder


class Tree:
    """The file system. `before` is called with the name of each operation, and may raise `OSError`, or wait."""

    def __init__(self) -> None:
        self.root = Folder()
        self.before: Callable[[str], None] = lambda operation: None
        self.operations = 0
        self.cut_at: int | None = None
        """The number of the operation at which the power fails: nothing works any more then, until `cut`."""

    def operate(self, operation: str) -> None:
        self.operations += 1
        if self.is_cut:
            raise OSError(errno.EIO, "the power is cut")
        self.before(operation)

    @property
    def is_cut(self) -> bool:
        return self.cut_at is not None and self.operations >= self.cut_at

    def cut(self, chance: random.Random) -> None:
        """Forget some of what was not synced, all of it, or nothing; then the power is back."""
        self.root.cut(chance)
        self.cut_at = None

    def find(self, parts: Iterable[str]) -> Node:
        node: Node = self.root
        for part in parts:
            if not isinstance(node, Folder):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            if part not in node.entries:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            node = node.entries[part]
        return node


class ForgettingDisk(Disk):
    """The tree as the log's disk."""

    def __init__(self) -> None:
        self.tree = Tree()
        self.locks: set[Path] = set()
        self._open: dict[int, File | Path] = {}

    def _folder(self, path: Path) -> Folder:
        node = self.tree.find(path.parts[1:])
        assert isinstance(node, Folder)
        return node

    def _file(self, path: Path) -> File:
        node = self.tree.find(path.parts[1:])
        assert isinstance(node, File)
        return node

    def make_folder(self, path: Path) -> None:
        self.tree.operate("mkdir")
        node = self.tree.root
        for part in path.parts[1:]:
            if part not in node.entries:
                node.change({part: Folder()})
                node.sync()
            below = node.entries[part]
            assert isinstance(below, Folder)
            node = below

    def names(self, folder: Path) -> list[str]:
        self.tree.operate("list")
        return list(self._folder(folder).entries)

    def lock(self, path: Path) -> int:
        if path in self.locks:
            raise BlockingIOError
        self.locks.add(path)
        return self._descriptor(path)

    def _descriptor(self, what: File | Path) -> int:
        fd = max(self._open, default=0) + 1
        self._open[fd] = what
        return fd

    def create(self, path: Path) -> int:
        self.tree.operate("create")
        folder = self._folder(path.parent)
        assert path.name not in folder.entries
        file = File()
        folder.change({path.name: file})
        return self._descriptor(file)

    def _opened(self, fd: int) -> File:
        file = self._open[fd]
        assert isinstance(file, File)
        return file

    def write(self, fd: int, data: bytes, offset: int) -> None:
        half = len(data) // 2
        self.tree.operate("write")
        self._opened(fd).write(offset, data[:half])
        self.tree.operate("write")
        self._opened(fd).write(offset + half, data[half:])

    def sync(self, fd: int) -> None:
        self.tree.operate("sync")
        self._opened(fd).sync()

    def truncate(self, path: Path, size: int) -> None:
        self.tree.operate("truncate")
        self._file(path).truncate(size)

    def close(self, fd: int) -> None:
        what = self._open.pop(fd)
        if isinstance(what, Path):
            self.locks.remove(what)

    def sync_folder(self, path: Path) -> None:
        self.tree.operate("sync")
        self._folder(path).sync()

    def sync_file(self, path: Path) -> None:
        self.tree.operate("sync")
        self._file(path).sync()

    def rename(self, path: Path, to: Path) -> None:
        self.tree.operate("rename")
        if path.parent == to.parent:
            self._folder(path.parent).change({path.name: None, to.name: self._file(path)})
        else:
            file = self._file(path)
            self._folder(to.parent).change({to.name: file})
            self._folder(path.parent).change({path.name: None})

    def remove(self, path: Path) -> None:
        self.tree.operate("remove")
        self._file(path)
        self._folder(path.parent).change({path.name: None})

    def size(self, path: Path) -> int:
        return len(self._file(path).data)

    def read(self, path: Path, offset: int, size: int) -> bytes:
        self.tree.operate("read")
        return bytes(self._file(path).data[offset : offset + size])
