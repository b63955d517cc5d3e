"""Heard: what was handed over, to wait for and to look at."""

from __future__ import annotations

from typing import Generic, TypeVar

import trio

__all__ = ["Heard"]

T = TypeVar("T")

_PATIENCE = 10.0  # seconds for what comes at once


class Heard(Generic[T]):
    """A callback that keeps what it is called with."""

    def __init__(self) -> None:
        self.all: list[T] = []
        self._next = 0
        self._news = trio.Event()

    def __call__(self, item: T) -> None:
        self.all.append(item)
        self._news.set()

    @property
    def count(self) -> int:
        return len(self.all)

    async def next(self) -> T:
        """Wait for the first that was not taken yet, and take it."""
        with trio.fail_after(_PATIENCE):
            while self._next == len(self.all):
                self._news = trio.Event()
                await self._news.wait()
        self._next += 1
        return self.all[self._next - 1]
