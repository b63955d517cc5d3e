"""A trigger declares when to wake an item, its source notices it, and a wake says why it was."""

from __future__ import annotations

import enum
import math
from abc import ABC, abstractmethod
from typing import Any, Generic, TypeAlias, TypeVar

import msgspec
import trio

from taktora_trio.executor.feed import Feeds
from taktora_trio.health import HealthEvent

__all__ = ["Late", "Message", "Outcome", "Ready", "Source", "Tick", "Transition", "Trigger", "Wake"]

T_co = TypeVar("T_co", covariant=True)


class Trigger(ABC, Generic[T_co]):
    """Wakes an item: made by `every`, `on_message`, `on_health`, `on_deadline`, `when` or `any_of`.

    `T_co` is the type of the messages that it wakes for. A trigger is a declaration: several items may have the same.
    """

    @abstractmethod
    def sources(self, item: str, feeds: Feeds) -> list[Source]:
        """Make its state for one item, when that is added. Raises `ConfigError`."""


class Outcome(enum.Enum):
    """What becomes of the message that a cycle was for."""

    DONE = "the cycle has ended well"
    SKIPPED = "it failed, and its item goes on with the next one"
    AGAIN = "it failed, and its item or the app is started again"
    CANCELLED = "it was cancelled, by a stop"


class Source(ABC):
    """One trigger of one item. Waiting takes nothing, taking never waits: so nothing is lost to a cancellation."""

    due: float = math.inf
    """The time from which `take` has something by the clock alone, on trio's clock."""
    is_exact = False
    """True if it is to be taken from at `due` to some microseconds, not just to a millisecond."""
    is_event = False
    """True if `wait` is worth calling."""
    always_waits = False
    """True if `take` never has anything again before `wait` was called and has let other tasks run."""
    ended = False
    """True once it will never have anything again."""

    def begin(self, origin: float) -> None:  # noqa: B027 - most have nothing to do
        """The executor starts, at this time."""

    @abstractmethod
    def take(self, now: float) -> Wake | None:
        """Return the next reason to wake the item; `None` if there is none now."""

    async def wait(self) -> None:
        """Wait until `take` may have something for another reason than the time."""
        await trio.sleep_forever()

    def pass_over(self, now: float) -> int:
        """A cycle that this has woken is over: miss what was due meanwhile, and return how much."""
        return 0

    def settle(self, outcome: Outcome, reason: str) -> None:  # noqa: B027 - most have nothing to do
        """A cycle that this has woken is over, and that became of it; `reason` says why it failed."""

    def close(self) -> None:  # noqa: B027 - most have nothing to do
        """The executor has ended."""


class Tick(msgspec.Struct, frozen=True, gc=False):
    """A slot of `every`."""

    trigger: Trigger[Any]
    due: float
    """The time at which it was to run, on trio's clock, in seconds."""
    slot: int
    """Counts the slots of the grid from 0, skipped ones included."""
    skipped: int
    """The number of slots that were missed right before this one."""


class Message(msgspec.Struct, frozen=True):
    """A message of `on_message`."""

    trigger: Trigger[Any]
    due: float
    """The time at which the executor took it from the reader, on trio's clock."""
    value: Any = None
    error: Exception | None = None
    """Set instead of a value if the message can't be decoded."""


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
    """The time at which the last message was taken, or the executor began, on trio's clock."""


class Ready(msgspec.Struct, frozen=True, gc=False):
    """The function of `when` has returned."""

    trigger: Trigger[Any]
    due: float
    """The time at which the executor noticed it, on trio's clock."""


Wake: TypeAlias = Tick | Message | Transition | Late | Ready
