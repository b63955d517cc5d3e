"""Tries the addresses behind a broker's name. One is good if MQTT is spoken there; that TCP connects is not enough."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

import trio

from taktora_trio.connectors.mqtt.address import BrokerAddress
from taktora_trio.connectors.mqtt.options import MqttOptions
from taktora_trio.connectors.mqtt.sessions.session import ConnectFailed
from taktora_trio.connectors.sockets import SocketAddress, open_any, resolve_host, why

__all__ = ["EndpointOrder", "connect_to_any", "open_socket", "resolve"]

T = TypeVar("T")
_AT_ONCE = 4  # addresses of an attempt: more have their turn in the next one


class EndpointOrder:
    """Remembers which of a broker's addresses failed, from one connection to the next. Sans-I/O."""

    def __init__(self) -> None:
        self._failures: dict[SocketAddress, int] = {}  # since it last was good; the larger, the later
        self._count = 0

    def failed(self, endpoint: SocketAddress) -> None:
        """Note that a connection to it failed: all others are tried before it."""
        self._count += 1
        self._failures[endpoint] = self._count

    def was_good(self, endpoint: SocketAddress) -> None:
        self._failures.pop(endpoint, None)

    def sorted(self, found: Iterable[SocketAddress]) -> list[SocketAddress]:
        """Return them in the order found, but those that failed last, and the latest failure at the end."""
        there = list(dict.fromkeys(found))
        self._failures = {endpoint: when for endpoint, when in self._failures.items() if endpoint in there}
        return sorted(there, key=lambda endpoint: self._failures.get(endpoint, 0))

    def best_of(self, endpoints: Sequence[SocketAddress]) -> Sequence[SocketAddress]:
        """Return those that have not failed; all, if all have."""
        return [endpoint for endpoint in endpoints if endpoint not in self._failures] or endpoints


async def connect_to_any(
    options: MqttOptions, order: EndpointOrder, speak: Callable[[trio.SocketStream], Awaitable[T]]
) -> tuple[SocketAddress, T]:
    """Connect to one address after the other until `speak` succeeds; return the address and the result of `speak`.

    Each has `connect_timeout` seconds. Raises `ConnectFailed` with the reason of each. If the broker itself refuses the
    login, no other address is tried: an attempt is one login. The next attempt begins with another address.
    """
    reasons: list[str] = []
    overdue = False
    answered: bool | None = None
    found: list[SocketAddress] = []
    untried: list[SocketAddress] = []
    while not reasons or (untried and len(reasons) < _AT_ONCE):
        endpoint: SocketAddress | None = None
        candidates: Sequence[SocketAddress] = ()
        reason = f"timed out: the broker did not answer within {options.connect_timeout:g} s"
        with trio.move_on_after(options.connect_timeout) as patience:
            try:
                if not found:
                    found = await resolve(options.broker)
                    untried = order.sorted(found)
                candidates = order.best_of(untried)  # no slow link is to let one win that is known to hang
                endpoint, stream = await open_any(candidates)
                spoken = await speak(stream)
                order.was_good(endpoint)
                return endpoint, spoken
            except (OSError, ValueError) as exc:
                reason = why(exc)
            except ConnectFailed as exc:
                if exc.answered and endpoint is not None:
                    order.failed(endpoint)
                    raise
                reason, answered = str(exc), False if exc.answered is False else answered
        overdue = overdue or (patience.cancelled_caught and endpoint is not None)
        if endpoint is None:  # none of them can be connected to
            untried = [other for other in untried if other not in candidates]
            reasons.append(reason)
        else:
            order.failed(endpoint)
            untried.remove(endpoint)
            reasons.append(f"{endpoint}: {reason}" if len(found) > 1 else reason)
    raise ConnectFailed("; ".join(dict.fromkeys(reasons)), answered=answered, overdue=overdue)


async def resolve(address: BrokerAddress) -> list[SocketAddress]:
    """Return all addresses behind the name, in the resolver's order. Raises `OSError`."""
    if address.transport == "unix":
        return [SocketAddress(socket.AF_UNIX, address.path)]
    return await resolve_host(address.host, address.port)


async def open_socket(address: BrokerAddress) -> trio.SocketStream:
    """Connect to any of its addresses, without TLS or a websocket. Raises `OSError`."""
    _, stream = await open_any(await resolve(address))
    return stream
