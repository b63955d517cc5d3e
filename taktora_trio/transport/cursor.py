"""How far a channel has come: two counters in a small file of the domain, which outlives both ends of the channel.

From them a writer knows when its window is full, and a reader that takes over from a killed one where to go on.

(An iceoryx2 blackboard would not do: after its writer was killed, no other can be opened.)
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import iceoryx2 as iox2

from taktora_trio.transport.reserve import NoRoom

__all__ = ["Cursor"]

_SENT, _DONE, _SIZE = 0, 1, 16


class Cursor:
    """`sent` is written by the publisher alone, `done` by the subscriber alone: aligned 8-byte stores, never torn.

    Raises `NoRoom` if /dev/shm has no page for it.
    """

    def __init__(self, node: iox2.Node, service: str) -> None:
        folder = Path(node.config.global_cfg.root_path.to_string()) / "cursors"
        folder.mkdir(mode=0o700, exist_ok=True)
        fd = os.open(folder / service, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, _SIZE)
            self._memory = mmap.mmap(fd, _SIZE)
        except OSError as exc:
            raise NoRoom(f"the cursor of {service}") from exc
        finally:
            os.close(fd)
        self._counters = memoryview(self._memory).cast("Q")

    @property
    def sent(self) -> int:
        """The sequence number of the last envelope that was sent."""
        return self._counters[_SENT]

    @sent.setter
    def sent(self, sequence_number: int) -> None:
        self._counters[_SENT] = sequence_number

    @property
    def done(self) -> int:
        """The sequence number up to which every envelope is acknowledged: nobody needs it any more."""
        return self._counters[_DONE]

    @done.setter
    def done(self, sequence_number: int) -> None:
        self._counters[_DONE] = sequence_number

    def close(self) -> None:
        self._counters.release()
        self._memory.close()
