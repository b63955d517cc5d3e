"""Tries the addresses behind a broker's name. One is good if MQTT is spoken there; that TCP connects is not enough."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

import msgspec
import trio

from taktora_trio.connectors.mqtt.address import BrokerAddress
from taktora_trio.connectors.mqtt.options import MqttOptions
from taktora_trio.connectors.mqtt.sessions.session import ConnectFailed
from taktora_trio.connectors.mqtt.sessions.streams import why

__all__ = ["Endpoint", "EndpointOrder", "connect_to_any", "open_any", "open_socket", "resolve"]

T = TypeVar("T")
_AT_ONCE = 4  # addresses of an attempt: more have their turn in the next one
_STAGGER = 0.25  # seconds until the next address is tried beside one that has not answered (RFC 8305, section 5)


class Endpoint(msgspec.Struct, frozen=True):
    """One address of a broker."""

    family: int
    address: Any
    """As `socket.connect` takes it."""

    def __str__(self) -> str:
        return str(self.address if isinstance(self.address, str) else self.address[0])


class EndpointOrder:
    """Remembers which of a broker's addresses failed, from one connection to the next. Sans-I/O."""

    def __init__(self) -> None:
        self._failures: dict[Endpoint, int] = {}  # since it last was good; the larger, the later
        self._count = 0

    def failed(self, endpoint: Endpoint) -> None:
        """Note that a connection to it failed: all others are tried before it."""
        self._count += 1
        self._failures[endpoint] = self._count

    def was_good(self, endpoint: Endpoint) -> None:
        self._failures.pop(endpoint, None)

    def sorted(self, found: Iterable[Endpoint]) -> list[Endpoint]:
        """Return them in the order found, but those that failed last, and the latest failure at the end."""
        there = list(dict.fromkeys(found))
        self._failures = {endpoint: when for endpoint, when in self._failures.items() if endpoint in there}
        return sorted(there, key=lambda endpoint: self._failures.get(endpoint, 0))

    def best_of(self, endpoints: Sequence[Endpoint]) -> Sequence[Endpoint]:
        """Return those that have not failed; all, if all have."""
        return [endpoint for endpoint in endpoints if endpoint not in self._failures] or endpoints


async def connect_to_any(
    options: MqttOptions, order: EndpointOrder, speak: Callable[[trio.SocketStream], Awaitable[T]]
) -> tuple[Endpoint, T]:
    """Connect to one address after the other until `speak` succeeds; return the address and the result of `speak`.

    Each has `connect_timeout` seconds. Raises `ConnectFailed` with the reason of each. If the broker itself refuses the
    login, no other address is tried: an attempt is one login. The next attempt begins with another address.
    """
    reasons: list[str] = []
    overdue = False
    answered: bool | None = None
    found: list[Endpoint] = []
    untried: list[Endpoint] = []
    while not reasons or (untried and len(reasons) < _AT_ONCE):
        endpoint: Endpoint | None = None
        candidates: Sequence[Endpoint] = ()
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


async def resolve(address: BrokerAddress) -> list[Endpoint]:
    """Return all addresses behind the name, in the resolver's order. Raises `OSError`."""
    if address.transport == "unix":
        return [Endpoint(socket.AF_UNIX, address.path)]
    # As bytes where it can be: for a text Python imports a codec, with 0.1 MB of tables.
    host = address.host.encode() if address.host.isascii() else address.host
    found = await trio.socket.getaddrinfo(host, address.port, type=socket.SOCK_STREAM)
    return [Endpoint(family, where) for family, _, _, _, where in found]


async def open_any(endpoints: Sequence[Endpoint]) -> tuple[Endpoint, trio.SocketStream]:
    """Connect to the first that answers. Each has a head start of a quarter of a second before the next.

    Raises the `OSError` of the first one if none answers.
    """
    opened: list[tuple[Endpoint, trio.SocketStream]] = []
    errors: list[tuple[int, OSError]] = []

    async def connect(position: int, endpoint: Endpoint, decided: trio.Event) -> None:
        try:
            sock = trio.socket.socket(endpoint.family, socket.SOCK_STREAM)
            try:
                await sock.connect(endpoint.address)
                opened.append((endpoint, trio.SocketStream(sock)))  # which does without Nagle's algorithm
            except BaseException:
                sock.close()
                raise
            nursery.cancel_scope.cancel()
        except OSError as exc:
            errors.append((position, exc))
        decided.set()

    try:
        async with trio.open_nursery() as nursery:
            for position, endpoint in enumerate(endpoints):
                decided = trio.Event()
                nursery.start_soon(connect, position, endpoint, decided)
                with trio.move_on_after(_STAGGER):
                    await decided.wait()
    except BaseException:
        for _, stream in opened:
            await trio.aclose_forcefully(stream)
        raise
    for _, late in opened[1:]:  # it answered in the same moment
        await trio.aclose_forcefully(late)
    if not opened:
        raise min(errors, key=lambda error: error[0])[1]
    return opened[0]


async def open_socket(address: BrokerAddress) -> trio.SocketStream:
    """Connect to any of its addresses, without TLS or a websocket. Raises `OSError`."""
    _, stream = await open_any(await resolve(address))
    return stream
