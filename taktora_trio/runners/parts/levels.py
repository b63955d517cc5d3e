"""Waits until the halves that were told from which level up to log have said that they do."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TypeAlias

import trio

from taktora_trio.processes.link import LinkEnd, LogFrom

__all__ = ["PATIENCE", "LevelAnswers", "Told", "Waiting"]

PATIENCE = 5.0
"""Seconds for which an answer is waited for."""

Told: TypeAlias = Callable[[Collection[str]], None]
"""Called once with the halves that have not answered; with none if all have."""


class LevelAnswers:
    """Knows which links have not answered yet."""

    def __init__(self) -> None:
        self._waits: list[Waiting] = []

    def expect(self, level: LogFrom, links: Mapping[LinkEnd, str]) -> Waiting:
        """Return what waits for the answers of these links, each named by its half. Call it before they are told."""
        waiting = Waiting(level, dict(links))
        self._waits.append(waiting)
        return waiting

    async def wait(self, waiting: Waiting, told: Told) -> None:
        """Wait for the answers, and call `told`; also when it is cancelled."""
        try:
            with trio.move_on_after(PATIENCE):
                await waiting.done.wait()
        finally:
            self._waits.remove(waiting)
            told(sorted(set(waiting.links.values())))

    def answered(self, link: LinkEnd, level: LogFrom) -> None:
        """Take in that a half has this level now."""
        for wait in self._waits:
            if wait.level == level:
                wait.forget(link)

    def ended(self, link: LinkEnd) -> None:
        """Take in that a half has ended: its successor is told the level when it starts."""
        for wait in self._waits:
            wait.forget(link)


class Waiting:
    """Waits for the answers of some links."""

    def __init__(self, level: LogFrom, links: dict[LinkEnd, str]) -> None:
        self.level, self.links = level, links
        self.done = trio.Event()
        if not links:
            self.done.set()

    def forget(self, link: LinkEnd) -> None:
        self.links.pop(link, None)
        if not self.links:
            self.done.set()
