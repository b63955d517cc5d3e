"""Executor: items are added to it, and it runs them."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable
from typing import TypeVar

import trio

from taktora_trio.errors import ConfigError, collapse
from taktora_trio.executor.chains import check_step, name_of
from taktora_trio.executor.context import Step
from taktora_trio.executor.feed import Feeds
from taktora_trio.executor.item import ItemRunner, OnFailure
from taktora_trio.executor.observer import Observer, Observers
from taktora_trio.executor.runtime import Runtime
from taktora_trio.executor.sources import Sources
from taktora_trio.executor.stats import ItemStats, Statistics
from taktora_trio.executor.wake import Trigger
from taktora_trio.health import ConnectorHealth, HealthEvents
from taktora_trio.supervision.policy import RestartPolicy

__all__ = ["Executor"]

log = logging.getLogger(__name__)

T = TypeVar("T")


class Executor:
    """Runs items when their triggers wake them. Add items, then `await executor.run()`, once.

    No item ever runs concurrently with itself; different items do. Items are tasks of `run`: none outlives it.
    """

    def __init__(self, *, observers: Iterable[Observer] = (), window: int = 1024, stop_grace: float = 1.0) -> None:
        """Keep figures about the last `window` cycles of each item, at 24 bytes each.

        A cycle that runs may go on for `stop_grace` seconds after `stop`.
        """
        if isinstance(window, bool) or not isinstance(window, int) or window < 1:
            raise ConfigError(f"window is {window!r}; it must be a whole number of at least 1 cycle")
        if not 0 <= stop_grace < math.inf:
            raise ConfigError(f"stop_grace is {stop_grace!r}; it must be at least 0 seconds")
        self.runtime = Runtime(self, Observers(observers))
        """Its items' share of it. A test that calls an item by itself makes a `Context` with it."""
        self._window = window
        self._stop_grace = stop_grace
        self._items: dict[str, ItemRunner] = {}
        self._feeds = Feeds()
        self._has_run = False

    def __repr__(self) -> str:
        return f"<Executor of {', '.join(self._items) or 'no items'}>"

    # Declaring

    def item(
        self,
        trigger: Trigger[T],
        *,
        name: str | None = None,
        budget: float | None = None,
        overrun_fails: bool = False,
        on_failure: OnFailure = "stop",
    ) -> Callable[[Step[T]], Step[T]]:
        """`add` as a decorator: `@executor.item(every(0.01))` above an async function. It is left as it is."""

        def decorate(item: Step[T]) -> Step[T]:
            self.add(item, trigger, name=name, budget=budget, overrun_fails=overrun_fails, on_failure=on_failure)
            return item

        return decorate

    def add(
        self,
        item: Step[T],
        trigger: Trigger[T],
        *,
        name: str | None = None,
        budget: float | None = None,
        overrun_fails: bool = False,
        on_failure: OnFailure = "stop",
    ) -> None:
        """Run `item` whenever `trigger` wakes it. Raises `ConfigError` for what can't work.

        `name` is the function's own unless given. A cycle that takes longer than `budget` seconds is an overrun:
        counted, told to the observers when it ends, and with `overrun_fails` a failure of the item (`Overrun`).
        `on_failure` is `"stop"` (the executor), `"skip"` (this cycle), or a `RestartPolicy`.
        """
        name = name_of(item) if name is None else name
        if not name or not isinstance(name, str):
            raise ConfigError(f"{item!r} has no name of its own: add it with name=...")
        if self._has_run:
            raise ConfigError(f"item {name!r}: the executor runs already; add items before that")
        check_step(f"item {name!r}", item)
        if name in self._items:
            raise ConfigError(f"an item named {name!r} was added already: give this one another name=...")
        for other in self._items.values():
            if other.step == item:
                raise ConfigError(
                    f"{name!r} is {other.name!r}, which was added already: to wake it for both, use any_of(...)"
                )
        if not isinstance(trigger, Trigger):
            raise ConfigError(f"item {name!r}: {trigger!r} is no trigger; use every(...), on_message(...) and so on")
        if budget is not None and (isinstance(budget, bool) or not 0 < budget < math.inf):
            raise ConfigError(f"item {name!r}: its budget is {budget!r}; it must be more than 0 seconds")
        if overrun_fails and budget is None:
            raise ConfigError(f"item {name!r}: overrun_fails needs a budget")
        if not isinstance(on_failure, RestartPolicy) and on_failure not in ("stop", "skip"):
            raise ConfigError(f"item {name!r}: on_failure is {on_failure!r}; use 'stop', 'skip' or a RestartPolicy")
        sources = Sources(trigger.sources(name, self._feeds))
        self.runtime.board.add(name)
        self._items[name] = ItemRunner(
            name, item, trigger, sources, budget, overrun_fails, on_failure, Statistics(self._window), self.runtime
        )

    # Running

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve: run the items until `stop` is called, or all triggers have ended.

        Raises the failure of an item whose policy stops the executor (several at once as an `ExceptionGroup`), and
        `Escalated` where a `RestartPolicy` says so. All items have ended then.
        """
        if self._has_run:
            raise ConfigError("this executor runs, or has run, already: make a new one")
        if not self._items:
            raise ConfigError("this executor has no items: add one first")
        origin = trio.current_time()
        self._feeds.begin(origin)
        self._has_run = True
        failure: Exception | None = None
        try:
            async with self.runtime.workers, trio.open_nursery() as services:
                try:
                    async with trio.open_nursery() as nursery:
                        for item in self._items.values():
                            item.sources.begin(origin)
                            services.start_soon(item.sources.serve)
                            nursery.start_soon(item.run, name=f"item {item.name}")
                        task_status.started()
                except ExceptionGroup as exc:
                    failure = collapse(exc)  # raised below, where nothing is added to its context
                finally:
                    self.runtime.stopping.set()
                    self.runtime.board.close()
                    services.cancel_scope.cancel()
        finally:
            for item in self._items.values():
                item.sources.close()
        if failure is not None:
            raise failure

    def stop(self) -> None:
        """Stop: no cycle begins any more; those that run may end within `stop_grace`; then `run` returns."""
        if not self.runtime.stopping.is_set():
            self.runtime.stopping.set()
            for item in self._items.values():
                item.stop(self._stop_grace)

    def revive(self, item: str) -> bool:
        """Put an item back into service that its `RestartPolicy` has given up; `False` if it is not given up."""
        supervisor = self._item(item).supervisor
        return supervisor is not None and supervisor.revive()

    # Looking

    def stats(self) -> dict[str, ItemStats]:
        """Return the figures of each item, by name, at any time. They are worked out now, from the window's cycles."""
        return {name: item.statistics.read() for name, item in self._items.items()}

    def health(self, item: str) -> ConnectorHealth:
        """Return an item's health: `Connecting` before it runs, `Up`, `Degraded` after a failed cycle, or `Down`."""
        return self.runtime.board.state(self._item(item).name)

    def health_events(self) -> HealthEvents:
        """Subscribe to every change of its items' health from now on. Each failure of an item that ran well is one."""
        return self.runtime.board.events()

    def _item(self, name: str) -> ItemRunner:
        if name not in self._items:
            raise ConfigError(f"there is no item {name!r}; there are {', '.join(self._items) or 'none'}")
        return self._items[name]
