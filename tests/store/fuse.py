"""Mounts the file system that forgets what was not synced (`tests/store/forgetting.py`), by FUSE.

It needs pyfuse3, and a /dev/fuse that this user may open: `CANT` says what is missing.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from taktora_trio.store.disk import Disk
from tests.store.forgetting import File, Folder, Node, Tree

try:
    import pyfuse3
except ImportError as exc:
    CANT = f"pyfuse3 can't be imported ({exc}): `make fuse` installs it"
else:
    CANT = "" if os.access("/dev/fuse", os.R_OK | os.W_OK) else "this user may not open /dev/fuse"

__all__ = ["CANT", "MountedDisk", "mounted"]


class MountedDisk(Disk):
    """The real disk's calls, for a folder that is mounted; it knows which locks are taken."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.locks: set[int] = set()

    def lock(self, path: Path) -> int:
        fd = super().lock(path)
        self.locks.add(fd)
        return fd

    def close(self, fd: int) -> None:
        super().close(fd)
        self.locks.discard(fd)


if not CANT:

    class _Operations(pyfuse3.Operations):  # type: ignore[misc, unused-ignore]
        """What the kernel asks of the tree. Nothing is kept in the kernel's caches, so that a cut is seen at once."""

        def __init__(self, tree: Tree) -> None:
            super().__init__()
            self._tree = tree
            self._nodes: dict[int, Node] = {pyfuse3.ROOT_INODE: tree.root}
            self._numbers: dict[int, int] = {id(tree.root): pyfuse3.ROOT_INODE}

        def _number(self, node: Node) -> int:
            number = self._numbers.setdefault(id(node), len(self._numbers) + 1)
            self._nodes[number] = node  # for ever, so that no other has its id
            return number

        def _attributes(self, node: Node) -> Any:
            entry = pyfuse3.EntryAttributes()
            entry.st_ino = self._number(node)
            entry.st_mode = stat.S_IFDIR | 0o700 if isinstance(node, Folder) else stat.S_IFREG | 0o600
            entry.st_nlink = 1
            entry.st_uid, entry.st_gid = os.getuid(), os.getgid()
            entry.st_size = len(node.data) if isinstance(node, File) else 0
            entry.entry_timeout = entry.attr_timeout = 0
            return entry

        def _operate(self, operation: str) -> None:
            try:
                self._tree.operate(operation)
            except OSError as exc:
                raise pyfuse3.FUSEError(exc.errno or errno.EIO) from exc

        def _file(self, inode: int) -> File:
            node = self._nodes[inode]
            assert isinstance(node, File)
            return node

        def _folder(self, inode: int) -> Folder:
            node = self._nodes[inode]
            assert isinstance(node, Folder)
            return node

        def _entry(self, inode: int, name: bytes) -> Node:
            try:
                return self._folder(inode).entries[os.fsdecode(name)]
            except KeyError:
                raise pyfuse3.FUSEError(errno.ENOENT) from None

        async def lookup(self, parent: int, name: bytes, ctx: object) -> Any:
            return self._attributes(self._entry(parent, name))

        async def getattr(self, inode: int, ctx: object) -> Any:
            return self._attributes(self._nodes[inode])

        async def setattr(self, inode: int, attr: Any, fields: Any, fh: object, ctx: object) -> Any:
            if fields.update_size:
                self._operate("truncate")
                self._file(inode).truncate(attr.st_size)
            return self._attributes(self._nodes[inode])

        async def opendir(self, inode: int, ctx: object) -> int:
            return inode

        async def readdir(self, fh: int, start: int, token: Any) -> None:
            if start == 0:
                self._operate("list")
            for at, (name, node) in enumerate(sorted(self._folder(fh).entries.items())):
                if at >= start and not pyfuse3.readdir_reply(token, os.fsencode(name), self._attributes(node), at + 1):
                    break

        async def mkdir(self, parent: int, name: bytes, mode: int, ctx: object) -> Any:
            self._operate("mkdir")
            folder = Folder()
            self._folder(parent).change({os.fsdecode(name): folder})
            return self._attributes(folder)

        async def create(self, parent: int, name: bytes, mode: int, flags: int, ctx: object) -> Any:
            if os.fsdecode(name) != "lock":  # that nothing is stored in
                self._operate("create")
            file = File()
            self._folder(parent).change({os.fsdecode(name): file})
            entry = self._attributes(file)
            return pyfuse3.FileInfo(fh=entry.st_ino, direct_io=True), entry

        async def open(self, inode: int, flags: int, ctx: object) -> Any:
            return pyfuse3.FileInfo(fh=inode, direct_io=True)

        async def read(self, fh: int, offset: int, size: int) -> bytes:
            self._operate("read")
            return bytes(self._file(fh).data[offset : offset + size])

        async def write(self, fh: int, offset: int, data: bytes) -> int:
            self._operate("write")
            self._file(fh).write(offset, data)
            return len(data)

        async def flush(self, fh: int) -> None:
            pass

        async def fsync(self, fh: int, datasync: bool) -> None:
            self._operate("sync")
            self._file(fh).sync()

        async def fsyncdir(self, fh: int, datasync: bool) -> None:
            self._operate("sync")
            self._folder(fh).sync()

        async def rename(
            self, parent: int, name: bytes, to_parent: int, to_name: bytes, flags: int, ctx: object
        ) -> None:
            self._operate("rename")
            node = self._entry(parent, name)
            gone: dict[str, Node | None] = {os.fsdecode(name): None}
            there: dict[str, Node | None] = {os.fsdecode(to_name): node}
            if parent == to_parent:
                self._folder(parent).change(gone | there)
            else:
                self._folder(to_parent).change(there)
                self._folder(parent).change(gone)

        async def unlink(self, parent: int, name: bytes, ctx: object) -> None:
            self._operate("remove")
            self._entry(parent, name)
            self._folder(parent).change({os.fsdecode(name): None})


@contextlib.contextmanager
def mounted(tree: Tree, folder: Path) -> Iterator[None]:
    """Mount the tree. It is served by a thread, since whoever uses it may wait in a system call."""
    options = {*pyfuse3.default_options, "fsname=forgetting"}
    try:
        pyfuse3.init(_Operations(tree), str(folder), options)
    except RuntimeError as exc:  # in a container without the right to mount
        pytest.skip(f"nothing can be mounted here: {exc}")
    tokens: list[trio.lowlevel.TrioToken] = []
    serving = threading.Event()

    async def serve() -> None:
        tokens.append(trio.lowlevel.current_trio_token())
        serving.set()
        await pyfuse3.main(min_tasks=1, max_tasks=1)

    thread = threading.Thread(target=trio.run, args=(serve,), name="fuse")
    thread.start()
    serving.wait()
    try:
        yield
    finally:
        tokens[0].run_sync_soon(pyfuse3.terminate)
        thread.join()
        pyfuse3.close(unmount=True)
