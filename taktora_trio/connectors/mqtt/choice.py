"""Which of several brokers is next, and in which order a client has them. Pure."""

from __future__ import annotations

import random
from collections.abc import Sequence

import attrs

from taktora_trio.connectors.mqtt.address import BrokerAddress
from taktora_trio.connectors.retry import Retry
from taktora_trio.digest import sha256

__all__ = ["BrokerChoice", "broker_number", "order_for"]


class BrokerChoice:
    """Chooses among brokers by their position. Each is left alone for as long as its own failures ask for.

    When one fails, the next is tried at once. In a round each is tried once at most; after it, the one whose delay is
    over first. So a broker that hangs, or refuses the login, holds up no other one, and an attempt at a broker that
    may lock the account is as seldom as if there were no others.
    """

    def __init__(self, count: int) -> None:
        self.current = 0
        self._due = [float("-inf")] * count
        self._refused = [False] * count
        self._tried: set[int] = set()  # in this round

    def failed(self, retry: Retry, now: float) -> Retry:
        """Note that the current broker failed, and is to be left alone for so long; choose the next, and say when.

        The connector is refused only if every broker refuses it. Times are in seconds of one clock.
        """
        self._due[self.current] = now + retry.delay
        self._refused[self.current] = retry.refused
        self._tried.add(self.current)
        self.current = self._next(now)
        return attrs.evolve(retry, delay=max(0.0, self._due[self.current] - now), refused=all(self._refused))

    def left_for(self, position: int) -> None:
        """Note that the current broker was left for this one, which works."""
        self.current = position
        self.connected()

    def connected(self) -> None:
        """Note that the current broker has accepted the login."""
        self._due[self.current] = float("-inf")
        self._refused[self.current] = False
        self._tried.clear()

    def _next(self, now: float) -> int:
        positions = range(len(self._due))
        for position in positions:
            if position not in self._tried and self._due[position] <= now:
                return position
        self._tried.clear()
        return min(positions, key=lambda position: (max(now, self._due[position]), position))


def order_for(client_id: str | None, brokers: Sequence[BrokerAddress]) -> list[BrokerAddress]:
    """Return brokers of which none is preferred in the order of this client: always the same, for it finds its session.

    Each client has another order, so a fleet divides itself, and so do those whose broker has gone (rendezvous
    hashing). A client without an id, of whom no broker remembers anything, has one by chance.
    """
    if client_id is None:
        return random.sample(brokers, len(brokers))
    return sorted(brokers, key=lambda broker: _digest(broker, client_id))


def broker_number(broker: BrokerAddress) -> int:
    """Return a number above 0 that stands for this address, in each process the same; it fits into 8 bytes."""
    return int.from_bytes(_digest(broker, "")[:8]) | 1


def _digest(broker: BrokerAddress, client_id: str) -> bytes:
    text = f"{client_id}\n{broker.host}\n{broker.port}\n{broker.path}"
    return sha256(text.encode("utf-8", "surrogateescape")).digest()
