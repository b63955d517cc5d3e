"""What an item is given: why it was woken, and what it can do about the executor that runs it."""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Generic, TypeAlias

import msgspec

from taktora_trio.health import HealthEvent

if TYPE_CHECKING:
    from typing import Self

    from typing_extensions import TypeVar

    from taktora_trio.executor.executor import Executor
    from taktora_trio.executor.triggers import Trigger

    T = TypeVar("T", default=Any)  # so that an item which looks at no message just takes a `Context`
else:
    from typing import TypeVar

    T = TypeVar("T")

__all__ = ["Context", "Late", "Message", "Ready", "Step", "Tick", "Transition", "Wake"]


class Tick(msgspec.Struct, frozen=True, gc=False):
    """A slot of `every`."""

    trigger: Trigger[Any]
    due: float
    """When it was to run, on trio's clock, in seconds."""
    slot: int
    """Counts the slots of the grid from 0, skipped ones included."""
    skipped: int
    """How many slots were missed right before this one."""


class Message(msgspec.Struct, frozen=True):
    """A message of `on_message`."""

    trigger: Trigger[Any]
    due: float
    """When the executor took it from the reader, on trio's clock."""
    value: Any = None
    error: Exception | None = None
    """Why there is no value: what came can't be read."""


class Transition(msgspec.Struct, frozen=True):
    """A change of health, of `on_health`."""

    trigger: Trigger[Any]
    due: float
    event: HealthEvent


class Late(msgspec.Struct, frozen=True, gc=False):
    """Nothing has come, of `on_deadline`."""

    trigger: Trigger[Any]
    due: float
    since: float
    """When the last message was taken, or the executor began, on trio's clock."""


class Ready(msgspec.Struct, frozen=True, gc=False):
    """The function of `when` has returned."""

    trigger: Trigger[Any]
    due: float
    """When the executor noticed it, on trio's clock."""


Wake: TypeAlias = Tick | Message | Transition | Late | Ready


class Context(Generic[T]):
    """One cycle of one item. `T` is what its trigger's messages are."""

    __slots__ = ("_rest_skipped", "executor", "item", "wake")

    def __init__(self, item: str, wake: Wake, executor: Executor) -> None:
        self.item = item
        """The item's name."""
        self.wake = wake
        """Why it was woken, a struct for each kind of trigger; `wake.trigger` is the trigger itself."""
        self.executor = executor
        """The one that runs it."""
        self._rest_skipped = False

    def __repr__(self) -> str:
        return f"<Context of {self.item!r}: {self.wake!r}>"

    @property
    def due(self) -> float:
        """When this cycle was due, on trio's clock, in seconds."""
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
        self.executor.stop()

    def observe(self, name: str, **fields: Any) -> None:
        """Tell the observers of something that happened in this item."""
        self.executor.tell(self.item, name, fields)

    def skip_rest(self) -> None:
        """In a chain: what comes behind this step is left out of this cycle. Elsewhere there is no rest."""
        self._rest_skipped = True

    @property
    def rest_is_skipped(self) -> bool:
        """Whether `skip_rest` was called."""
        return self._rest_skipped

    def for_step(self) -> Self:
        """The same cycle for a step of it that has a rest of its own."""
        step = copy.copy(self)
        step._rest_skipped = False
        return step


Step: TypeAlias = Callable[[Context[T]], Awaitable[object]]
"""An async function that takes a `Context`: an item, and whatever an item is made of."""
