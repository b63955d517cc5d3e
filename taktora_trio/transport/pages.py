"""The pages of segments: each is set aside before it is written to.

A file in /dev/shm gets a page when that is first written to, and where none is left the kernel ends the writer with
SIGBUS. A segment whose pages are all set aside is safe from that, however full /dev/shm runs.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from taktora_trio.errors import TransportError
from taktora_trio.transport.segments import SHM, Segment, entries, examine, in_pages

__all__ = ["Pages"]


class Pages:
    """The pages of one domain's segments, whose names begin with `prefix`."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        # The segments that have all their pages, by name and inode: no later file is the same. To look at each again at
        # every opening took a deployment of 200 channels two minutes to start.
        self._complete: set[tuple[str, int]] = set()

    def take(self) -> None:
        """Set aside the pages that segments do not have yet. Blocks, about 0.1 s for each GiB.

        Raises `OSError` if there are not enough, and `TransportError` if iceoryx2 has opened a segment that another
        user has made.
        """
        present = {(entry.name, entry.inode()): entry for entry in entries(self._prefix)}
        complete = present.keys() & self._complete
        ours, others = examine(entry for identity, entry in present.items() if identity not in complete)
        for segment in ours:
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                if _fill(segment):
                    complete.add((segment.name, segment.inode))
        self._complete = complete
        if others:
            mapped = {f"/{line.partition('/')[2]}" for line in Path("/proc/self/maps").read_text().splitlines()}
            for name in others:
                if str(SHM / name) in mapped:
                    raise TransportError(
                        f"{SHM / name} was made by another user, to be mistaken for ours: have it removed"
                    )


def _fill(segment: Segment) -> bool:
    """Set aside every page of a segment, for its owner alone. Returns false if it has no size yet."""
    others = segment.mode & (stat.S_IRWXG | stat.S_IRWXO)
    if others or segment.taken < in_pages(segment.size):
        fd = os.open(segment.path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if others:  # decision 13: none of iceoryx2 0.10
                os.fchmod(fd, stat.S_IRUSR | stat.S_IWUSR)
            if segment.size > 0:
                os.posix_fallocate(fd, 0, segment.size)
        finally:
            os.close(fd)
    return segment.size > 0
