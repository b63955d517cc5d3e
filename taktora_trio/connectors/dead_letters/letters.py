"""DeadLetters: messages that the app could not be done with are kept on disk, so that those behind them come through.

A message is put here after `max_deliveries` attempts, or when the app gives it up. It is acknowledged to the other side
only then, so as long as the disk can't take it, the other side keeps it.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import trio

from taktora_trio.connectors.dead_letters.letter import DEAD_LETTERS, DeadLetter
from taktora_trio.errors import StoreError, is_worth_logging
from taktora_trio.escaping import escaped
from taktora_trio.opening import NoPublicConstructor
from taktora_trio.supervision.backoff import Backoff

if TYPE_CHECKING:
    from taktora_trio.connectors.options import ConnectorOptions
    from taktora_trio.health import HealthBoard

__all__ = ["SHOWN_FOR", "DeadLetters", "open_dead_letters"]

log = logging.getLogger(__name__)

SHOWN_FOR = 60.0  # seconds for which a dead letter shows in the health: somebody should look
_RETRY = Backoff(initial=0.5, maximum=30, factor=2, jitter=0.1)
_AT_ONCE = 64  # letters in one commit
_WAITING = 16 * 2**20  # bytes of letters that wait and that nobody else keeps

_Pending: TypeAlias = tuple[DeadLetter, Callable[[], None] | None]


class DeadLetters(metaclass=NoPublicConstructor, opened_by="open_dead_letters(folder, options, health)"):
    """Puts messages into the file of a deployment's dead letters. Use `open_dead_letters`."""

    def __init__(
        self, folder: Callable[[], Path], options: Mapping[str, ConnectorOptions], health: HealthBoard
    ) -> None:
        self.count = 0
        """Counts letters since it was opened."""
        self._folder = folder
        self._options = options
        self._health = health
        self._pending: list[_Pending] = []
        self._bytes = 0
        self._discarded = 0
        self._flushed = trio.Event()
        self._more = trio.Event()
        self._counts: dict[tuple[str, str], int] = {}
        self._reasons: dict[tuple[str, str], str] = {}

    def put_nowait(self, letter: DeadLetter, on_stored: Callable[[], None] | None = None) -> None:
        """Have the letter written, through any trouble with the disk; `on_stored` is called when it is there.

        Whoever is called acknowledges the message then. A letter that nobody acknowledges is discarded, and counted,
        where too many wait already.
        """
        if on_stored is None and self._bytes + len(letter.payload) > _WAITING:
            self._show_discarded(letter)
            return
        self._pending.append((letter, on_stored))
        self._bytes += len(letter.payload)
        self._more.set()

    def count_of(self, connector: str, channel: str) -> int:
        """Return how many letters of this channel there were since it was opened."""
        return self._counts.get((connector, channel), 0)

    async def put(self, letter: DeadLetter) -> None:
        """Wait until the letter is on disk, through any trouble with it.

        A cancelled wait loses nothing.
        """
        stored = trio.Event()
        self.put_nowait(letter, stored.set)
        await stored.wait()

    async def flush(self) -> None:
        """Wait until all letters are on disk. A cancelled wait loses nothing."""
        if self._pending:
            await self._flushed.wait()
        await trio.lowlevel.checkpoint()

    async def to_send(self, connector: str, channels: Collection[str], most: int) -> list[DeadLetter]:
        """Return the first letters of these channels that are marked to be sent again. Raises `StoreError`."""
        return await trio.to_thread.run_sync(self._to_send, connector, channels, most, abandon_on_cancel=True)

    async def remove(self, numbers: Sequence[int]) -> None:
        """Remove letters. Raises `StoreError`."""
        await trio.to_thread.run_sync(self._remove, numbers, abandon_on_cancel=True)

    async def serve(self) -> None:
        """Serve: write what is put, in commits that take all that is there, and again with backoff where it fails."""
        delays, last = _RETRY.delays(), ""
        while True:
            await self._more.wait()
            if not (batch := self._next()):
                self._more = trio.Event()
                continue
            try:
                dropped, aside = await trio.to_thread.run_sync(
                    self._write, [letter for letter, _ in batch], abandon_on_cancel=True
                )
            except StoreError as exc:
                if str(exc) != last:
                    log.error(
                        "%s; the messages are not acknowledged meanwhile",
                        exc,
                        extra={"event": "dead-letters-unwritable"},
                    )
                last = str(exc)
                delay = next(delays)
                self._health.degrade(batch[0][0].connector, last, delay + 1)
                await trio.sleep(delay)
                continue
            delays, last = _RETRY.delays(), ""
            del self._pending[: len(batch)]
            for letter, on_stored in batch:
                self._bytes -= len(letter.payload)
                self._show(letter)
                if on_stored is not None:
                    on_stored()
            self._show_losses(batch[0][0].connector, dropped, aside)
            if not self._pending:
                self._flushed.set()
                self._flushed = trio.Event()

    def _next(self) -> list[_Pending]:
        """Return what waits longest: letters of one connector, whose limits they share."""
        name = self._pending[0][0].connector if self._pending else ""
        return list(itertools.takewhile(lambda one: one[0].connector == name, self._pending[:_AT_ONCE]))

    def _write(self, letters: list[DeadLetter]) -> tuple[int, Path | None]:
        from taktora_trio.connectors.dead_letters.file import DeadLetterFile  # most gateways never need SQLite

        options = self._options[letters[0].connector]
        return DeadLetterFile(self._path()).put(
            letters, max_messages=options.max_dead_letters, max_bytes=options.max_dead_letter_bytes
        )

    def _to_send(self, connector: str, channels: Collection[str], most: int) -> list[DeadLetter]:
        try:
            path = self._folder() / DEAD_LETTERS
            if not path.exists():  # as almost always
                return []
        except OSError:
            return []
        from taktora_trio.connectors.dead_letters.file import DeadLetterFile

        return DeadLetterFile(path).to_send(connector, channels, most)

    def _remove(self, numbers: Sequence[int]) -> None:
        from taktora_trio.connectors.dead_letters.file import DeadLetterFile

        DeadLetterFile(self._path()).remove(numbers)

    def _path(self) -> Path:
        try:
            return self._folder() / DEAD_LETTERS
        except OSError as exc:
            raise StoreError(f"there is no folder for dead letters ({exc}): set STATE_DIRECTORY") from exc

    def _show(self, letter: DeadLetter) -> None:
        self.count += 1
        channel = (letter.connector, letter.channel)
        count = self._counts[channel] = self._counts.get(channel, 0) + 1
        before = self._reasons.get(channel)
        if is_worth_logging(count):  # so a flood of them is no flood of reasons
            why = f"({count} so far): the last on '{escaped(letter.topic)}': {escaped(letter.reason)}"
            self._reasons[channel] = f"channel {letter.channel}: messages went to the dead letters {why}"
            log.error(
                "%s: %s; see `taktora-trio dead-letters list`",
                letter.connector,
                self._reasons[channel],
                extra={
                    "event": "dead-letter",
                    "connector": letter.connector,
                    "channel": letter.channel,
                    "count": count,
                },
            )
        self._health.degrade(letter.connector, self._reasons[channel], SHOWN_FOR, instead_of=before)

    def _show_discarded(self, letter: DeadLetter) -> None:
        self._discarded += 1
        reason = "dead letters are discarded, since the disk is too slow or takes nothing"
        if is_worth_logging(self._discarded):
            log.error(
                "channel %s: %s (%d so far)",
                letter.channel,
                reason,
                self._discarded,
                extra={
                    "event": "dead-letter-discarded",
                    "connector": letter.connector,
                    "channel": letter.channel,
                    "count": self._discarded,
                },
            )
        self._health.degrade(letter.connector, reason, SHOWN_FOR)

    def _show_losses(self, connector: str, dropped: int, aside: Path | None) -> None:
        if aside is not None:
            log.error(
                "%s: the file of the dead letters was damaged: it is now %s, and a new one is begun",
                connector,
                aside,
                extra={"event": "dead-letters-damaged", "connector": connector},
            )
            self._health.degrade(connector, "the file of the dead letters was damaged, and put aside", SHOWN_FOR)
        if dropped:
            log.error(
                "%s: the dead letters are full: the oldest %d were discarded",
                connector,
                dropped,
                extra={"event": "dead-letters-full", "connector": connector, "count": dropped},
            )
            self._health.degrade(connector, "the dead letters are full, and the oldest are discarded", SHOWN_FOR)


@contextlib.asynccontextmanager
async def open_dead_letters(
    folder: Callable[[], Path], options: Mapping[str, ConnectorOptions], health: HealthBoard
) -> AsyncIterator[DeadLetters]:
    """Open the dead letters in this folder. Their file is made with the first one. `options` are by connector.

    `folder` is called when it is needed, for a deployment needs none before, and may raise `OSError`.
    """
    letters: DeadLetters = DeadLetters._create(folder, options, health)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(letters.serve)
        yield letters
        nursery.cancel_scope.cancel()
