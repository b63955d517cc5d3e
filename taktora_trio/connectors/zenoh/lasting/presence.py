"""Liveliness tokens that inbound channels watch: messages are true when one is there, and false when it has gone.

A token goes when its session ends: at once with its process, and after its lease where that hangs. Each change is told
once. A loss of our own connection says nothing of others, so what was there counts as there until the new connection
shows that it is not.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import trio

from taktora_trio.connectors.connection import Incoming, OnMessage
from taktora_trio.connectors.zenoh.keytree import minimal_expressions
from taktora_trio.connectors.zenoh.lasting.kept_pairs import KeptPairs
from taktora_trio.connectors.zenoh.session import Sample, Session

__all__ = ["TOKENS_SPACE", "TokenNews", "WatchedTokens"]

TOKENS_SPACE = 100_000
"""The bytes of memory for the keys of tokens that are there, so that a gateway that is started anew tells who went."""
_DOUBT = 0.5  # seconds from a token's end to the news of it: a loss of our own connection ends all tokens just before


class TokenNews(Incoming, frozen=True, gc=False):
    """A token has come, or gone. It is reliable: what the app was not done with, the next gateway tells again."""

    is_there: bool = False


class WatchedTokens:
    """The tokens of all inbound channels that watch some. It lives as long as the gateway.

    Which tokens the app knows to be there outlives it, if it is killed.
    """

    def __init__(
        self,
        expressions: Iterable[str],
        payloads: tuple[bytes, bytes],
        memory: memoryview,
        patience: float,
        on_message: OnMessage,
    ) -> None:
        """`payloads` are those of false and of true. After `patience` seconds of a new connection a token that is not
        there has gone meanwhile."""
        self._expressions = minimal_expressions(expressions)
        self._payloads = payloads
        self._known = KeptPairs(memory)  # to the app
        self._there = set(self._known)  # as was told
        self._patience = patience
        self._on_message = on_message
        self._doubtful: dict[str, float] = {}  # tokens that may have gone, and when that is certain
        self._changed = trio.Event()

    async def start(self, session: Session) -> None:
        """Watch by this session. Raises `ConnectionLost`."""
        self._doubtful = dict.fromkeys(self._there, trio.current_time() + self._patience)
        self._changed.set()
        for expression in self._expressions:
            await session.watch_tokens(expression, self._came)

    async def serve(self) -> None:
        """Tell which tokens have gone. Runs until it is cancelled, at the end of the connection."""
        try:
            while True:
                self._changed = trio.Event()
                with trio.move_on_at(min(self._doubtful.values(), default=math.inf)):
                    await self._changed.wait()
                self._tell_who_has_gone()
        finally:
            self._doubtful.clear()  # our own loss may have been all that it was

    def _tell_who_has_gone(self) -> None:
        now = trio.current_time()
        for key in [key for key, certain in self._doubtful.items() if certain <= now]:
            del self._doubtful[key]
            self._there.discard(key)
            self._tell(key, is_there=False)

    def acknowledge(self, news: TokenNews) -> None:
        """The app is done with this."""
        if news.is_there != (news.topic in self._there):
            return  # something newer is on its way
        if news.is_there:
            self._known.set(news.topic, b"")
        else:
            self._known.discard(news.topic)

    def _came(self, token: Sample) -> None:
        key = token.key
        if token.is_delete:
            if key in self._there:
                self._doubtful[key] = trio.current_time() + _DOUBT
                self._changed.set()
            return
        self._doubtful.pop(key, None)
        if key not in self._there:
            self._there.add(key)
            self._tell(key, is_there=True)

    def _tell(self, key: str, *, is_there: bool) -> None:
        self._on_message(TokenNews(key, self._payloads[is_there], reliable=True, is_there=is_there))
