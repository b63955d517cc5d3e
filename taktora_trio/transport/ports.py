"""Ports: all that a half needs to reach the other one, whatever memory lies between them.

There are two kinds: `node.py` has shared memory, by iceoryx2, and `local.py` plain memory, for two halves of one task
tree. What is sent and received lies in memory that is written and read directly: it costs no call of a port.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from taktora_trio.transport.plain import Memory
    from taktora_trio.transport.snapshot import Snapshot, SnapshotWriter
    from taktora_trio.transport.spec import Direction, TrunkSpec

__all__ = [
    "REPORTS",
    "REPORT_BYTES",
    "Activation",
    "EventId",
    "Listening",
    "Node",
    "Publishing",
    "ReportPublishing",
    "ReportTaking",
    "Ringing",
    "Sample",
    "Taking",
]


REPORTS = 64
"""Reports of health that wait to be read, at most."""
REPORT_BYTES = 2048


class EventId(Protocol):
    @property
    def as_value(self) -> int: ...


class Activation(Protocol):
    """That an event of this id has come."""

    @property
    def id(self) -> EventId: ...


class Listening(Protocol):
    """The one receiving end of an event service."""

    @property
    def try_wait(self) -> Callable[[], Sequence[Activation]]:
        """Returns what has come since the last call, each id once. Never waits."""

    @property
    def sleep(self) -> Callable[[], Awaitable[None]]:
        """Awaited, it waits until something may have come. Raises `trio.ClosedResourceError` if it is roused."""

    @property
    def rouse(self) -> Callable[[], None]:
        """Rouses the task that sleeps."""

    @property
    def delete(self) -> Callable[[], None]: ...


class Ringing(Protocol):
    """The one sending end of an event service."""

    def of(self, number: int) -> Callable[[], int]:
        """Return what rings by this id, and returns how many it has reached. It is void once `open` was called."""

    @property
    def has_listener(self) -> bool:
        """True if there is one, or one was killed and is not cleaned up yet."""

    async def open(self) -> None:
        """Open it, or open it again. Where that fails, nobody is reached."""

    def close(self) -> None: ...


class Sample(Protocol):
    """Memory that has come."""

    @property
    def address(self) -> int: ...

    @property
    def words(self) -> int:
        """Its size, in words of 8 bytes."""

    def delete(self) -> None:
        """Let go of it: nobody looks there any more."""


class Publishing(Protocol):
    """The one writing end of a direction, which sends one sample."""

    def allocate(self, words: int) -> tuple[int, Callable[[], None]]:
        """Return the address of so many zeros, in words of 8 bytes, and what is called when nobody looks there."""

    def send(self) -> None:
        """Send what was allocated: to who reads, and to who comes later."""

    @property
    def has_subscriber(self) -> bool: ...

    def update_connections(self) -> None:
        """Give the sample to one that has come."""

    def close(self) -> None: ...


class _Reopened(Protocol):
    @property
    def is_open(self) -> bool: ...

    async def open(self) -> None:
        """Open it, or open it again. Where that fails, nothing comes."""

    def close(self) -> None: ...


class Taking(_Reopened, Protocol):
    """The one reading end of a direction."""

    def receive(self) -> Sample | None:
        """Return what has come. Raises `TransportError` if it can't be taken yet."""

    @property
    def has_publisher(self) -> bool:
        """True if there is one, or one was killed and is not cleaned up yet."""


class ReportPublishing(Protocol):
    """The one end that sends reports. The newest is kept for who comes later."""

    def send(self, report: bytes) -> None:
        """Send one of `REPORT_BYTES` at most. Never waits: the oldest one makes room."""

    def update_connections(self) -> None: ...

    def close(self) -> None: ...


class ReportTaking(_Reopened, Protocol):
    """The one end that takes reports."""

    def receive(self) -> bytes | None:
        """Return the next one. Raises `TransportError` for one that can't be."""


class Node(ABC):
    """One half's way to all services of a domain: it opens ports, and memories that outlive a half.

    All raise `TransportError` (`SharedMemoryFull` is one) and `TooFewDescriptors`.
    """

    @property
    @abstractmethod
    def generation(self) -> int:
        """A number by which a run is told from the one before it, as far as memory is kept for the next run."""

    @abstractmethod
    def reserve(self, needed: int, what: str) -> AbstractAsyncContextManager[None]:
        """Open something in the block, for which so many bytes are set aside. `what` is named in an error."""

    @abstractmethod
    async def open_listener(self, name: str, ids: int) -> Listening:
        """Open the one listener of an event service with ids up to `ids`."""

    @abstractmethod
    async def open_notifier(self, name: str, ids: int) -> Ringing:
        """Open the one notifier of an event service with ids up to `ids`."""

    @abstractmethod
    async def open_publisher(self, spec: TrunkSpec, direction: Direction) -> Publishing:
        """Open the one publisher of a direction."""

    @abstractmethod
    async def open_subscriber(self, spec: TrunkSpec, direction: Direction) -> Taking:
        """Open the one subscriber of a direction, which gets the sample of a publisher that is there already, too."""

    @abstractmethod
    async def open_report_publisher(self, name: str) -> ReportPublishing: ...

    @abstractmethod
    async def open_report_subscriber(self, name: str) -> ReportTaking: ...

    @abstractmethod
    def map_cursors(self, spec: TrunkSpec) -> Memory:
        """Map the cursors of a connector, which outlive both halves. Raises `ServiceMismatch`: see `CursorFile`."""

    @abstractmethod
    def map_lasting(self, connector: str, name: str, size: int) -> Memory:
        """Map so many bytes that outlive a half, though not the run; zeros at first."""

    @abstractmethod
    def map_kept(self, name: str, size: int) -> Memory:
        """Map so many bytes that outlive the run; zeros at first."""

    @abstractmethod
    def map_snapshot(self, name: str, most: int) -> SnapshotWriter | None:
        """Return what writes snapshots of up to `most` bytes, under this name, for whoever looks from outside; `None`
        where nobody can."""

    @abstractmethod
    def last_snapshot(self, name: str) -> Snapshot | None:
        """Return what was written last under this name, as `read_snapshot` does."""

    @abstractmethod
    async def clean_up(self) -> None:
        """Free the places of processes that were killed."""
