"""SendingAgain: gives dead letters to the app once more, when an operator has asked for it."""

from __future__ import annotations

import logging
from collections.abc import Collection
from functools import partial
from typing import TYPE_CHECKING

import trio

from taktora_trio.connectors.connection import Incoming
from taktora_trio.errors import StoreError
from taktora_trio.supervision.backoff import Backoff

if TYPE_CHECKING:
    from taktora_trio.connectors.dead_letters.letters import DeadLetters
    from taktora_trio.connectors.inbox import Inbox

__all__ = ["SendingAgain"]

log = logging.getLogger(__name__)

_AT_ONCE = 16  # letters that the app has, and is not done with
_RETRY = Backoff(initial=1, maximum=60, factor=2, jitter=0.1)


class SendingAgain:
    """The letters of one connector that are marked: each goes to the app, and is removed when that is done with it.

    They are marked in the file, so that it does not matter whether a gateway runs when somebody asks.
    """

    def __init__(self, connector: str, channels: Collection[str], inbox: Inbox, letters: DeadLetters) -> None:
        self._connector = connector
        self._channels = channels
        self._inbox = inbox
        self._letters = letters
        self._in_hand: set[int] = set()
        self._done: list[int] = []
        self._news = trio.Event()
        self._news.set()  # some may have been marked while no gateway ran

    def look(self) -> None:
        """Look for letters that are marked."""
        self._news.set()

    async def serve(self) -> None:
        """Serve until cancelled."""
        delays, said = _RETRY.delays(), ""
        while True:
            await self._news.wait()
            self._news = trio.Event()
            try:
                await self._remove()
                await self._give()
            except StoreError as exc:
                if str(exc) != said:
                    said = str(exc)
                    log.error(
                        "%s: no dead letter is sent again for now: %s",
                        self._connector,
                        exc,
                        extra={"event": "dead-letters-stuck", "connector": self._connector},
                    )
                with trio.move_on_after(next(delays)):
                    await self._news.wait()
                self._news.set()
            else:
                delays, said = _RETRY.delays(), ""

    async def _remove(self) -> None:
        """Remove those that the app is done with."""
        if done := list(self._done):
            await self._letters.remove(done)
            self._in_hand.difference_update(done)
            del self._done[: len(done)]
            log.info(
                "%s: the app is done with %s, sent again",
                self._connector,
                _letters(len(done)),
                extra={"event": "dead-letter-done", "connector": self._connector, "count": len(done)},
            )

    async def _give(self) -> None:
        room = _AT_ONCE - len(self._in_hand)
        if room <= 0:
            return
        marked = await self._letters.to_send(self._connector, self._channels, _AT_ONCE)
        fresh = [one for one in marked if one.number not in self._in_hand][:room]
        if fresh:
            log.info(
                "%s: sent %s to the app again",
                self._connector,
                _letters(len(fresh)),
                extra={"event": "dead-letter-sent", "connector": self._connector, "count": len(fresh)},
            )
        for letter in fresh:
            self._in_hand.add(letter.number)
            self._inbox.give(
                letter.channel,
                Incoming(
                    letter.topic,
                    letter.payload,
                    reliable=True,
                    metadata=letter.metadata,
                    correlation_id=letter.correlation_id,
                    retained=letter.retained,
                ),
                partial(self._left, letter.number),
                letter=letter.number,
            )

    def _left(self, number: int, is_done: bool) -> None:
        """The app is done with it, or has given it up once more: then it is a letter still, and not marked."""
        if is_done:
            self._done.append(number)
        else:
            self._in_hand.discard(number)
        self._news.set()


def _letters(count: int) -> str:
    return f"{count} dead letter{'s' * (count > 1)}"
