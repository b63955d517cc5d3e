"""Runtime: all that the items of one executor share, and all that they know of it."""

from __future__ import annotations

from typing import Protocol

import attrs
import trio

from taktora_trio.executor.observer import Observers
from taktora_trio.executor.pool import WorkerPool
from taktora_trio.executor.stats import ItemStats
from taktora_trio.health import ConnectorHealth, HealthBoard, HealthEvents

__all__ = ["RunningExecutor", "Runtime"]


class RunningExecutor(Protocol):
    """An executor as its items see it: an `Executor`, to which nothing can be added any more."""

    def stop(self) -> None:
        """Stop it: no cycle begins any more, and those that run may end within its `stop_grace`."""

    def revive(self, item: str) -> bool:
        """Put an item back into service that its `RestartPolicy` has given up."""

    def stats(self) -> dict[str, ItemStats]:
        """Return the figures of each item, by name."""

    def health(self, item: str) -> ConnectorHealth:
        """Return the health of an item."""

    def health_events(self) -> HealthEvents:
        """Subscribe to every change of its items' health from now on."""


def _no_components() -> HealthBoard:
    return HealthBoard(())


@attrs.frozen(eq=False)
class Runtime:
    """Made by an executor, and given to each of its items."""

    executor: RunningExecutor
    observers: Observers
    board: HealthBoard = attrs.field(factory=_no_components)
    """The health of the items, by name."""
    stopping: trio.Event = attrs.field(factory=trio.Event)
    """Set when no cycle may begin any more."""
    workers: WorkerPool = attrs.field(factory=WorkerPool)
