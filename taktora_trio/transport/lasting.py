"""LastingMemory: small memories of a deployment that outlive a gateway that was killed, though not the run.

For what the next gateway must know and nobody else can tell it, at the price of a store to memory: what is in the
mapped file is there for others at once, and stays there when the process is gone.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import iceoryx2 as iox2

from taktora_trio.transport.descriptors import refusal

__all__ = ["LastingMemory"]


class LastingMemory:
    """The memories of one connector, by name. `close` ends all views of them."""

    def __init__(self, node: iox2.Node, connector: str) -> None:
        root = Path(node.config.global_cfg.root_path.to_string())
        self._connector = connector
        self._prefix = root / "cursors" / f"taktora.connector.{connector}"
        self._opened: list[tuple[mmap.mmap, memoryview]] = []

    def open(self, name: str, size: int) -> memoryview:
        """Return `size` bytes that an earlier gateway of this run has left under this name, or zeros.

        What is there may have been written by anybody who may write to the domain, or be half of something: check it.
        Raises `SharedMemoryFull` if /dev/shm has no room for it, and `TooFewDescriptors`.
        """
        path = Path(f"{self._prefix}.{name}.memory")
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(fd, 0, size)
                mapped = mmap.mmap(fd, size)
            finally:
                os.close(fd)
        except OSError as exc:
            what = f"a memory of connector {self._connector!r}"
            raise refusal(what, exc, f"cannot open {path}: {exc.strerror}") from exc
        view = memoryview(mapped)
        self._opened.append((mapped, view))
        return view

    def close(self) -> None:
        while self._opened:
            mapped, view = self._opened.pop()
            view.release()
            mapped.close()
