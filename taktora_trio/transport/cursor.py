"""Cursors: the counters of a channel, in a small file of the domain that outlives both ends of the channel.

They tell a writer when its window is full, and a reader that takes over from a killed one where to go on.

(An iceoryx2 blackboard would not do: after its writer was killed, no other can be opened.)
"""

from __future__ import annotations

import contextlib
import logging
import mmap
import os
import random
from pathlib import Path

import iceoryx2 as iox2

from taktora_trio.transport.descriptors import refusal
from taktora_trio.transport.receipts import Receipts
from taktora_trio.transport.spec import COUNTERS_BYTES, ServiceSpec

__all__ = ["ACKNOWLEDGED", "BEGUN", "DONE", "EPOCH", "INTENDED", "LEFT", "OPENED", "SENT", "WANTED", "Cursor"]

log = logging.getLogger(__name__)

SENT, DONE, INTENDED, BEGUN, ACKNOWLEDGED, LEFT, WANTED, EPOCH = range(8)
OPENED = WANTED  # inbound, where nobody wants a receipt
_EPOCHS = 2**63  # it fits where signed numbers are kept
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
    `counters[WANTED]`    outbound, written by the publisher: not 0 while somebody waits for a receipt
    `counters[EPOCH]`     a number by which one numbering is told from another: see `Cursor.epoch`

    `counters[LEFT]`      inbound, written by the publisher as it opens: `ACKNOWLEDGED` as the one before has left it;
                          above `OPENED` if the other side has forgotten all that it had sent
    `counters[OPENED]`    inbound, written by the publisher as it opens: the last one that may have been sent before

    They are a plain view, for they are looked at for every message. The peer has them mapped, too, and may be broken,
    so any number can be read there.

    Raises `SharedMemoryFull` if /dev/shm has no page for it, and `TooFewDescriptors`.
    """

    def __init__(self, node: iox2.Node, spec: ServiceSpec) -> None:
        path = Path(node.config.global_cfg.root_path.to_string()) / "cursors" / spec.name
        try:
            fd = _open(path, spec.cursor_bytes)
            try:
                os.posix_fallocate(fd, 0, spec.cursor_bytes)
                self._memory = mmap.mmap(fd, spec.cursor_bytes)
            finally:
                os.close(fd)
        except OSError as exc:
            raise refusal(f"the cursor of {spec.name}", exc, f"cannot open {path}: {exc.strerror}") from exc
        whole = memoryview(self._memory)
        self.counters = whole[:COUNTERS_BYTES].cast("Q")
        self.receipts = Receipts(whole[COUNTERS_BYTES:], spec.window)
        """Outbound: what became of single messages."""
        self.epoch = self.counters[EPOCH]
        """A random number, the same for as long as this file is there: it tells this numbering from any other, such as
        that of the run before. 0 if it can't be trusted: then nothing that was written down goes with these numbers."""
        if not 0 < self.epoch < _EPOCHS:
            log.error("%s: its cursor has no epoch, which can't be: its numbers are taken for new ones", spec.name)
            self.epoch = 0
        self._service = spec.name
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

    def acknowledged(self, first: int, last: int, word: int = DONE) -> int:
        """Return the number up to which all is done with, or with `word` another counter's.

        It is `first` for one that is not from `first` to `last`.
        """
        if first <= (number := self.counters[word]) <= last:
            return number
        if number > last:
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
        self.receipts.close()
        self.counters.release()
        self._memory.close()


def _open(path: Path, size: int) -> int:
    """Open the file, which is made if there is none: with its epoch in it, whoever else opens it at the same moment."""
    while True:
        with contextlib.suppress(FileNotFoundError):
            return os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        _make(path, size)


def _make(path: Path, size: int) -> None:
    unfinished = path.with_name(f"{path.name}~{os.urandom(8).hex()}")
    fd = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.truncate(fd, size)
        os.pwrite(fd, random.SystemRandom().randrange(1, _EPOCHS).to_bytes(8, "little"), 8 * EPOCH)
        with contextlib.suppress(FileExistsError):  # somebody else was faster, and that one counts
            os.link(unfinished, path)
    finally:
        os.close(fd)
        unfinished.unlink()
