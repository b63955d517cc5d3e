"""How far a channel has come: two counters in a small file of the domain, which outlives both ends of the channel.

From them a writer knows when its window is full, and a reader that takes over from a killed one where to go on.

(An iceoryx2 blackboard would not do: after its writer was killed, no other can be opened.)
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import iceoryx2 as iox2

from taktora_trio.transport.descriptors import refusal

__all__ = ["DONE", "SENT", "Cursor"]

SENT, DONE, _SIZE = 0, 1, 16


class Cursor:
    """Two counters in shared memory: aligned 8-byte stores, never torn, each written by one end alone.

    `counters[SENT]`, the publisher's, is the sequence number of the last envelope that was sent; `counters[DONE]`, the
    subscriber's, the one up to which every envelope is acknowledged: nobody needs it any more. They are a plain view,
    for they are looked at for every message.

    Raises `NoRoom` if /dev/shm has no page for it, and `TooFewDescriptors`.
    """

    def __init__(self, node: iox2.Node, service: str) -> None:
        path = Path(node.config.global_cfg.root_path.to_string()) / "cursors" / service
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(fd, 0, _SIZE)
                self._memory = mmap.mmap(fd, _SIZE)
            finally:
                os.close(fd)
        except OSError as exc:
            raise refusal(f"the cursor of {service}", exc, f"cannot open {path}: {exc.strerror}") from exc
        self.counters = memoryview(self._memory).cast("Q")

    def close(self) -> None:
        self.counters.release()
        self._memory.close()
