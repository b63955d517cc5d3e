"""Observer: told of what items do. `Observers` is all those of one executor."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import msgspec

from taktora_trio.errors import ConfigError
from taktora_trio.executor.wake import Wake

__all__ = ["Cycle", "Observer", "Observers"]

log = logging.getLogger(__name__)


class Cycle(msgspec.Struct, frozen=True):
    """One cycle that has ended. Times on trio's clock, in seconds."""

    wake: Wake
    """The reason for which it ran."""
    started: float
    duration: float
    budget: float | None = None
    error: Exception | None = None
    """Its failure; `None` if it ended well."""

    @property
    def lateness(self) -> float:
        """The time from when it was due to its start."""
        return self.started - self.wake.due


class Observer:
    """Override what you want to be told; the rest costs nothing.

    Each method is called on the executor's loop, as it happens, and must not block. One that raises is reported, and
    this observer is told nothing more; the executor goes on. One observer may serve several executors.
    """

    def started(self, item: str) -> None:
        """The item is in service: at the executor's start, and after each restart."""

    def stopped(self, item: str) -> None:
        """The item runs no more."""

    def crashed(self, item: str, error: Exception, then: str) -> None:
        """The item has failed; `then` says in words what its policy does about it."""

    def around(self, item: str, wake: Wake) -> AbstractContextManager[object]:
        """A cycle begins. Return a context manager that it is to run in, such as one that makes a span the present one.

        It sees what the cycle raises, a cancellation too, and can't hold it back."""
        return nullcontext()

    def cycle(self, item: str, cycle: Cycle) -> None:
        """A cycle has ended, well or not."""

    def overrun(self, item: str, cycle: Cycle) -> None:
        """That cycle took longer than its budget."""

    def event(self, item: str, name: str, fields: Mapping[str, Any]) -> None:
        """The item has called `ctx.observe(name, **fields)`."""


_HOOKS = ("started", "stopped", "crashed", "cycle", "overrun", "event")


class Observers:
    """All observers of one executor, as one. A hook that nobody overrides is `None`, so that it need not be called."""

    started: Callable[[str], None] | None
    stopped: Callable[[str], None] | None
    crashed: Callable[[str, Exception, str], None] | None
    cycle: Callable[[str, Cycle], None] | None
    overrun: Callable[[str, Cycle], None] | None
    event: Callable[[str, str, Mapping[str, Any]], None] | None

    def __init__(self, observers: Iterable[Observer]) -> None:
        self._observers = list(observers)
        for observer in self._observers:
            if not isinstance(observer, Observer):
                raise ConfigError(f"{observer!r} is no observer: derive it from Observer, and give an object of it")
        self._wire()

    @property
    def are_around(self) -> bool:
        """True if some want each cycle to run in `around`."""
        return bool(self._overriding("around"))

    @contextmanager
    def around(self, item: str, wake: Wake) -> Iterator[None]:
        """Run a cycle in what they return for it."""
        opened: list[tuple[Observer, AbstractContextManager[object]]] = []
        for observer in self._overriding("around"):
            try:
                context = observer.around(item, wake)
                context.__enter__()
            except Exception as exc:  # noqa: BLE001 - as in `_telling`
                self._detach(observer, "around", exc)
            else:
                opened.append((observer, context))
        try:
            yield
        finally:
            raised = sys.exc_info()
            for observer, context in reversed(opened):
                try:
                    context.__exit__(*raised)
                except Exception as exc:  # noqa: BLE001 - as in `_telling`
                    self._detach(observer, "around", exc)

    def _overriding(self, hook: str) -> list[Observer]:
        return [o for o in self._observers if getattr(type(o), hook) is not getattr(Observer, hook)]

    def _wire(self) -> None:
        for hook in _HOOKS:
            own = self._overriding(hook)
            setattr(self, hook, self._telling(hook, own) if own else None)

    def _telling(self, hook: str, observers: list[Observer]) -> Callable[..., None]:
        def tell(*arguments: Any) -> None:
            for observer in observers:
                if observer in self._observers:  # it may have been detached while these are told
                    try:
                        getattr(observer, hook)(*arguments)
                    except Exception as exc:  # noqa: BLE001 - whatever an observer does, the items go on
                        self._detach(observer, hook, exc)

        return tell

    def _detach(self, observer: Observer, hook: str, exc: Exception) -> None:
        if observer in self._observers:
            self._observers.remove(observer)
        self._wire()
        log.error(
            "observer %r raised in %s, and is told nothing more",
            observer,
            hook,
            exc_info=exc,
            extra={"event": "observer-dropped"},
        )
