"""Context: given to an item for each cycle. It says why the item was woken, and acts on the executor that runs it."""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Generic, TypeAlias

from taktora_trio.executor.runtime import RunningExecutor, Runtime
from taktora_trio.executor.wake import Message, Transition, Wake
from taktora_trio.health import HealthEvent

if TYPE_CHECKING:
    from typing import Self

    from typing_extensions import TypeVar

    T = TypeVar("T", default=Any)  # so that an item which looks at no message just takes a `Context`
else:
    from typing import TypeVar

    T = TypeVar("T")

__all__ = ["Context", "Step"]


class Context(Generic[T]):
    """One cycle of one item. `T` is the type of its trigger's messages."""

    __slots__ = ("_rest_skipped", "item", "runtime", "wake")

    def __init__(self, item: str, wake: Wake, runtime: Runtime) -> None:
        self.item = item
        """The item's name."""
        self.wake = wake
        """The reason: a struct for each kind of trigger; `wake.trigger` is the trigger itself."""
        self.runtime = runtime
        """Shared by all items of the executor; for this package's own kinds of items."""
        self._rest_skipped = False

    def __repr__(self) -> str:
        return f"<Context of {self.item!r}: {self.wake!r}>"

    @property
    def executor(self) -> RunningExecutor:
        """The executor that runs it."""
        return self.runtime.executor

    @property
    def due(self) -> float:
        """The time at which this cycle was due, on trio's clock, in seconds."""
        return self.wake.due

    @property
    def message(self) -> T:
        """The message that woke it. Raises what its reader raised for one that can't be decoded (`CodecError`).

        Raises `LookupError` if something else woke it.
        """
        if not isinstance(self.wake, Message):
            raise LookupError(f"no message: {self.item!r} was woken by {self.wake.trigger!r}; see ctx.wake")
        if self.wake.error is not None:
            raise self.wake.error
        value: T = self.wake.value
        return value

    @property
    def transition(self) -> HealthEvent:
        """The change of health that woke it. Raises `LookupError` if something else did."""
        if not isinstance(self.wake, Transition):
            raise LookupError(f"no transition: {self.item!r} was woken by {self.wake.trigger!r}; see ctx.wake")
        return self.wake.event

    def stop(self) -> None:
        """Stop the executor: no cycle begins any more, and those that run may end within its `stop_grace`."""
        self.runtime.executor.stop()

    def observe(self, name: str, **fields: Any) -> None:
        """Tell the observers of something that happened in this item."""
        if self.runtime.observers.event is not None:
            self.runtime.observers.event(self.item, name, fields)

    def skip_rest(self) -> None:
        """Leave the steps behind this one out of this cycle of a chain. Elsewhere it does nothing."""
        self._rest_skipped = True

    @property
    def rest_is_skipped(self) -> bool:
        """True if `skip_rest` was called."""
        return self._rest_skipped

    def for_step(self) -> Self:
        """Return the same cycle for a step of it that has a rest of its own."""
        step = copy.copy(self)
        step._rest_skipped = False
        return step


Step: TypeAlias = Callable[[Context[T]], Awaitable[object]]
"""An async function that takes a `Context`: an item, and whatever an item is made of."""
