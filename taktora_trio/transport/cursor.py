"""Cursors: the counters of a channel, in a small file of the domain that outlives both ends of the channel.

They tell a writer when its window is full, and a reader that takes over from a killed one where to go on.

(An iceoryx2 blackboard would not do: after its writer was killed, no other can be opened.)
"""

from __future__ import annotations

import logging
import mmap
import os
from pathlib import Path

import iceoryx2 as iox2

from taktora_trio.transport.descriptors import refusal

__all__ = ["ACKNOWLEDGED", "BEGUN", "DONE", "EPOCH", "INTENDED", "SENT", "TAKEN", "WANTED", "Cursor"]

log = logging.getLogger(__name__)

SENT, DONE, INTENDED, BEGUN, ACKNOWLEDGED, TAKEN, WANTED, EPOCH = range(8)
_SIZE = 64
_LIMIT = 2**62  # a million messages a second would get there in 146,000 years


class Cursor:
    """The counters of one channel, in shared memory: aligned 8-byte stores, never torn, each written by one end alone.

    Each is a sequence number of envelopes:

    `counters[INTENDED]`  the one that the publisher was about to send (one that is killed behind that may have sent it)
    `counters[SENT]`      the last one that the publisher has sent
    `counters[BEGUN]`     the last one that the subscriber has begun to pass on, where that matters
    `counters[DONE]`      the one up to which the subscriber is done with all: nobody needs those any more. Outbound,
                          they are stored or acknowledged by the other side; inbound, the app is done with them
    `counters[ACKNOWLEDGED]`  outbound, written by the subscriber: the other side has acknowledged or refused all up to
                          it. Inbound, written by the publisher: it has begun to acknowledge all up to it
    `counters[TAKEN]`     inbound, written by the subscriber: the last one that the app was given
    `counters[WANTED]`    outbound, written by the publisher: not 0 while somebody waits for a receipt
    `counters[EPOCH]`     a number by which one numbering is told from another: see `Cursor.epoch`

    They are a plain view, for they are looked at for every message. The peer has them mapped, too, and may be broken,
    so any number can be read there.

    Raises `SharedMemoryFull` if /dev/shm has no page for it, and `TooFewDescriptors`.
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
        self._service = service
        self._doubted = False

    def used(self) -> int:
        """Return the last sequence number that may have been sent, to go on from; 0 for one that can't be."""
        return self._believed(max(self.counters[SENT], self.counters[INTENDED]))

    def begun(self) -> int:
        """Return the last number that a subscriber has begun to pass on; 0 for one that can't be."""
        begun = self.counters[BEGUN]
        if begun <= self.used():
            return begun
        self.doubt()
        return 0

    def _believed(self, number: int) -> int:
        if number <= _LIMIT:
            return number
        self.doubt()
        return 0

    def acknowledged(self, first: int, last: int) -> int:
        """Return the number up to which all is acknowledged, or `first` for one that is not from `first` to `last`."""
        if first <= (done := self.counters[DONE]) <= last:
            return done
        if done > last:
            self.doubt()
        return first

    def not_acknowledged(self, history: int) -> int:
        """Return the number of the last `history` envelopes that a new reader is to get; in doubt all of them."""
        missing = self.counters[SENT] - self.counters[DONE]
        if missing < 0 and self.counters[DONE] > self.used():
            self.doubt()
            return history
        return min(max(missing, 0), history)

    def doubt(self) -> None:
        """Log, once, that the counters say what can't be."""
        if not self._doubted:
            self._doubted = True
            sent, done = self.counters[SENT], self.counters[DONE]
            impossible = (
                "%s: its cursor says that %d messages were sent and %d acknowledged, which can't be and is not believed"
            )
            log.error(impossible, self._service, sent, done)

    def close(self) -> None:
        self.counters.release()
        self._memory.close()
