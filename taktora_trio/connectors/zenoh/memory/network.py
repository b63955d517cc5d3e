"""Lines, and the network that they lead to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Literal, Protocol, TypeAlias

import attrs
import trio
from trio_util import AsyncValue

from taktora_trio.connectors.connection import ConnectFailed, ConnectRefused
from taktora_trio.connectors.zenoh.session import OnQuestion, Question, Sample

__all__ = ["Attached", "Line", "MemoryNetwork", "OnSent", "Queryable"]

OnSent: TypeAlias = Callable[[Literal["put", "ask"], Sample], None]
"""Called with each sample that a line carries from its node, and with each question."""
Queryable: TypeAlias = "tuple[Attached, OnQuestion]"


class Attached(Protocol):
    """A session, as its network has it."""

    tokens: list[str]
    questions: set[Question]
    """What it was asked and has not closed."""

    def take_sample(self, sample: Sample, *, is_own: bool) -> None: ...
    def take_question(self, on_question: OnQuestion, question: Question) -> None: ...
    def take_token(self, sample: Sample) -> None: ...
    def tell_matching(self) -> None: ...
    def subscribes(self, key: str, *, is_own: bool) -> bool: ...
    def queryables_for(self, key: str, complete: bool, *, is_own: bool) -> Iterator[Queryable]: ...
    def kept_for(self, key: str, most: int) -> list[Sample]: ...
    def lose(self, reason: str) -> None: ...


@attrs.define(eq=False)
class Line:
    """What lies between the nodes of one address and their network."""

    network: MemoryNetwork
    is_linking: AsyncValue[bool] = attrs.field(factory=lambda: AsyncValue(True), init=False)
    """False while the other side is out of reach, or refuses."""
    joined: AsyncValue[int] = attrs.field(factory=lambda: AsyncValue(0), init=False)
    """Counts the attempts to join the network by this line, however they fared."""
    sessions: list[Attached] = attrs.field(factory=list)
    watchers: list[OnSent] = attrs.field(factory=list)
    _unreachable: bool = attrs.field(default=False, init=False)
    _refuses: bool = attrs.field(default=False, init=False)

    def cut(self, reason: str = "the connection was reset") -> None:
        """End the connections that there are."""
        for session in list(self.sessions):
            session.lose(reason)

    def set(self, *, unreachable: bool | None = None, refuses: bool | None = None) -> None:
        """Change how the other side behaves from now on; `None` leaves it as it is.

        It refuses a client for good, as with a wrong password. Peers find nobody then.
        """
        self._unreachable = self._unreachable if unreachable is None else unreachable
        self._refuses = self._refuses if refuses is None else refuses
        self.is_linking.value = not (self._unreachable or self._refuses)

    def check(self, address: str) -> None:
        """Raise `ConnectFailed` or `ConnectRefused` where a client can't connect."""
        if self._unreachable:
            raise ConnectFailed(f"{address} is unreachable")
        if self._refuses:
            raise ConnectRefused(f"{address} refuses this node: its login, or its certificate")


class MemoryNetwork:
    """A network without a network: what its nodes have declared."""

    _lines: dict[tuple[str, ...], Line]

    def __init__(self) -> None:
        self.sessions: list[Attached] = []
        self._time_ns = 0

    @classmethod
    def line_at(cls, endpoints: tuple[str, ...]) -> Line:
        """Return the line to these endpoints; where there is none, one to a network of its own."""
        if endpoints not in cls._lines:
            cls._lines[endpoints] = Line(cls())
        return cls._lines[endpoints]

    @classmethod
    def lay_line(cls, endpoints: tuple[str, ...], network: MemoryNetwork) -> Line:
        """Have these endpoints lead to that network, and return the line."""
        line = cls._lines[endpoints] = Line(network)
        return line

    @classmethod
    def forget(cls, endpoints: tuple[str, ...]) -> None:
        cls._lines.pop(endpoints, None)

    def put(self, sample: Sample, origin: Attached) -> None:
        for session in self.sessions:
            session.take_sample(sample, is_own=session is origin)

    def timestamp(self) -> str:
        """Return the present time of the network, later than the last one by at least a nanosecond."""
        self._time_ns = max(self._time_ns + 1, round(trio.current_time() * 1e9))
        seconds, ns = divmod(self._time_ns, 10**9)
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{ns:09}Z"

    def put_token(self, key: str, *, is_there: bool) -> None:
        sample = Sample(key, b"", is_delete=not is_there)
        for session in self.sessions:
            session.take_token(sample)

    def queryables_for(self, key: str, complete: bool, asker: Attached | None) -> Iterator[Queryable]:
        for session in self.sessions:
            yield from session.queryables_for(key, complete, is_own=session is asker)

    def tell_matching(self) -> None:
        """Tell whoever wants to know which keys have a queryable, or a subscriber, now."""
        for session in self.sessions:
            session.tell_matching()


MemoryNetwork._lines = {}
