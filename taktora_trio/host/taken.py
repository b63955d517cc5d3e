"""A message that was taken from a reader as a piece of work, with what may become of it."""

from __future__ import annotations

from typing import Any, Generic, Protocol, TypeVar

from taktora_trio.channels import Header, Metadata, Received

__all__ = ["Taken"]

T = TypeVar("T")


class _Holder(Protocol):
    def _taken_done(self, taken: Taken[Any]) -> None: ...

    def _taken_back(self, taken: Taken[Any], reason: str | None) -> None: ...

    def _taken_rejected(self, taken: Taken[Any], reason: str) -> None: ...


class Taken(Generic[T]):
    """One message in hand. It stays so until `done`, `give_back` or `reject` is called, once."""

    __slots__ = (
        "_reader",
        "concrete",
        "count",
        "error",
        "failures",
        "header",
        "is_excusable",
        "metadata",
        "payload",
        "value",
    )

    def __init__(
        self,
        reader: _Holder,
        payload: bytes,
        header: Header,
        concrete: str,
        metadata: Metadata | None,
        count: int,
        failures: int,
    ) -> None:
        self._reader = reader
        self.payload = payload
        """As it came, for it is decoded anew each time."""
        self.header = header
        self.concrete = concrete
        self.metadata = metadata
        self.count = count
        """The number of times that the app was given it."""
        self.failures = failures
        """The number of times that it was given back, or that nobody knows what became of it."""
        self.is_excusable = False
        """True if it was given back since its work was cancelled."""
        self.value: Received[T] | None = None
        self.error: Exception | None = None

    @property
    def received(self) -> Received[T]:
        """The message. Raises what its reader raised for one that can't be decoded."""
        if self.error is not None:
            raise self.error
        assert self.value is not None
        return self.value

    def done(self) -> None:
        """The app is done with it."""
        self._reader._taken_done(self)

    def give_back(self, reason: str | None) -> None:
        """It comes again, as the reader's next; with a reason up to the channel's `max_deliveries`, then it goes to
        the dead letters. Without one the work was cancelled."""
        self._reader._taken_back(self, reason)

    def reject(self, reason: str) -> None:
        """Give it up: it goes to the dead letters, where the channel has them."""
        self._reader._taken_rejected(self, reason)
