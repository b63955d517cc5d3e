"""A gateway that has just started: whether its connectors come `Up`, which a reload waits for."""

from __future__ import annotations

from collections.abc import Callable, Collection

from trio_util import RepeatedEvent

from taktora_trio.escaping import escaped
from taktora_trio.health import ConnectorHealth, Down, HealthBoard, Up
from taktora_trio.processes.link import ConnectorState

__all__ = ["Arrival", "tell_until_up"]

_LENGTH = 600  # characters of a description


class Arrival:
    """What a gateway says of some connectors, from its start on."""

    def __init__(self, connectors: Collection[str] = ()) -> None:
        self._missing = set(connectors)
        self._said: dict[str, ConnectorState] = {}
        self._is_over = False
        self._news = RepeatedEvent()

    def said(self, state: ConnectorState) -> None:
        """Take in the state of a connector."""
        if state.connector in self._missing and not self._is_over:
            self._said[state.connector] = state
            if state.is_up:
                self._missing.discard(state.connector)
            self._news.set()

    async def is_complete(self) -> bool:
        """Wait until each connector has been `Up`, and return true; or false as soon as one is refused.

        What is said after that counts no more.
        """
        try:
            while self._missing:
                if any(name in self._said and self._said[name].is_refused for name in self._missing):
                    return False
                await self._news.wait()
            return True
        finally:
            self._is_over = True

    def shortcomings(self) -> list[str]:
        """Return a line about each connector that has not been `Up`."""
        return [f"{name}: {self._description(name)}" for name in sorted(self._missing)]

    def _description(self, name: str) -> str:
        said = self._said.get(name)
        return "it has said nothing yet" if said is None else escaped(said.description, _LENGTH)


async def tell_until_up(board: HealthBoard, tell: Callable[[ConnectorState], None]) -> None:
    """Tell how each connector fares until it has been `Up`. What happens later is no news of its start."""
    missing = set(board.states())
    told: dict[str, ConnectorState] = {}
    while True:
        for name in list(missing):
            state = _state(name, *board.base(name))
            if state.is_up:
                missing.discard(name)
            if state != told.get(name):
                told[name] = state
                tell(state)
        if not missing:
            break
        await board.changed()


def _state(name: str, health: ConnectorHealth, cause: str) -> ConnectorState:
    because = f" ({cause})" if cause and cause not in str(health) else ""
    is_refused = isinstance(health, Down) and health.next_attempt is not None
    return ConnectorState(name, isinstance(health, Up), escaped(f"{health}{because}", _LENGTH), is_refused)
