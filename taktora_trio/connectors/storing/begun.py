"""Begun: how far a channel whose messages come once was begun to be published, on disk before it is published."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NoReturn

import trio

from taktora_trio.store import Log, LogChannel

__all__ = ["Begun"]

_VALUE = "begun"  # its name in the log


class Begun:
    """What is to be on disk before something may happen, in order. Nothing is lost while there is no log: it waits."""

    def __init__(self) -> None:
        self.last = 0
        """The number of the newest that was begun, here or in shared memory."""
        self._log: Log | None = None
        self._channel: LogChannel | None = None
        self._awaited: deque[tuple[int, Callable[[], None]]] = deque()  # to be recorded, and whom to call then
        self._more = trio.Event()

    def opened(self, log: Log, channel: LogChannel) -> None:
        self._log, self._channel = log, channel
        self._more.set()

    def closed(self) -> None:
        self._log = self._channel = None

    @property
    def is_waiting(self) -> bool:
        """True if something is on its way to disk, which nothing must overtake."""
        return bool(self._awaited)

    @property
    def on_disk(self) -> int:
        """The number up to which an earlier gateway has begun, or this one is about to; 0 for none."""
        return 0 if self._channel is None else self._channel.values.get(_VALUE, 0)

    def put(self) -> None:
        """Have the next commit say how far it was begun."""
        if self._channel is not None:
            self._channel.put(_VALUE, max(self.last, self.on_disk))

    def record(self, number: int, recorded: Callable[[], None]) -> None:
        """Call `recorded` when it is on disk that all up to `number` were begun, with whatever else was put there."""
        self.last = max(self.last, number)
        self._awaited.append((number, recorded))
        self._more.set()

    async def serve(self) -> NoReturn:
        """Serve until cancelled."""
        while True:
            if not self._awaited or self._log is None or self._channel is None:
                self._more = trio.Event()
                await self._more.wait()
                continue
            count = len(self._awaited)
            begun = max(number for number, _ in self._awaited)
            if begun > self.on_disk:
                self._channel.put(_VALUE, begun)
            await self._log.commit()
            for _ in range(count):
                self._awaited.popleft()[1]()
