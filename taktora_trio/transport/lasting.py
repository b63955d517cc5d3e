"""LastingMemory: small memories of a deployment that outlive a gateway that was killed, though not the run.

For what the next gateway must know and nobody else can tell it, at the price of a store to memory: what is in the
mapped file is there for others at once, and stays there when the process is gone.
"""

from __future__ import annotations

import mmap
from pathlib import Path

from taktora_trio.transport.mapped import map_file
from taktora_trio.transport.plain import Memory
from taktora_trio.transport.ports import Node

__all__ = ["LastingMemory", "map_lasting"]


class LastingMemory:
    """The memories of one connector, by name. `close` ends all views of them."""

    def __init__(self, node: Node, connector: str) -> None:
        self._map = node.map_lasting
        self._connector = connector
        self._opened: list[tuple[Memory, memoryview]] = []

    def open(self, name: str, size: int) -> memoryview:
        """Return `size` bytes that an earlier gateway of this run has left under this name, or zeros.

        What is there may have been written by anybody who may write to the domain, or be half of something: check it.
        Raises `SharedMemoryFull` if /dev/shm has no room for it, and `TooFewDescriptors`.
        """
        mapped = self._map(self._connector, name, size)
        view = memoryview(mapped)
        self._opened.append((mapped, view))
        return view

    def close(self) -> None:
        while self._opened:
            mapped, view = self._opened.pop()
            view.release()
            mapped.close()
        del self._map  # a traceback may refer to us, and would keep the node


def map_lasting(folder: Path, connector: str, name: str, size: int) -> mmap.mmap:
    """Map the file of a memory in this folder, which is made if there is none. Raises as `LastingMemory.open` does."""
    path = folder / f"taktora.connector.{connector}.{name}.memory"
    return map_file(path, size, f"a memory of connector {connector!r}")
