"""Orders for a contestant, and its answers: lines of JSON over a unix socket, whatever its library and its loop.

It says `Hello` when it is connected to the broker, then answers each order when all of it is done.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import Any, Literal, TypeAlias, TypeVar

import msgspec

from benchmarks import arrivals, counter, echo, source

__all__ = [
    "TICKS",
    "A",
    "Answer",
    "Came",
    "Done",
    "Flood",
    "Hello",
    "Inflow",
    "Order",
    "Paced",
    "QoS",
    "Sends",
    "Sent",
    "Setting",
    "Ticks",
    "Times",
    "Trips",
    "decode_order",
    "encode",
    "orders",
    "setting",
]

_VARIABLE = "TAKTORA_BENCHMARK"
TICKS = "benchmark/tick/"
"""What is sent beside ticks begins with it. Nobody counts it."""

QoS: TypeAlias = Literal[0, 1]


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration of a contestant, fixed at its start."""

    name: str
    port: int
    """The broker's port of 127.0.0.1, or the router's."""
    protocol: Literal["mqtt", "zenoh"] = "mqtt"
    """With Zenoh, QoS 1 stands for messages that are acknowledged."""
    socket: str
    at_once: int = 1
    """The number of publish calls that it may await at the same time."""
    session: Any = "aiomqtt"
    """The session's name, as `MqttOptions` takes it."""
    qos: tuple[QoS, ...] = (0, 1)
    channels: int = 1
    """The number of channels for each QoS."""
    filters: int = 0
    """The number of topic filters that it subscribes to, besides `pong`."""
    max_payload: int = 128
    window: int = 64
    receipts: bool = False
    """If true, a flood at QoS 1 is done when each message's receipt has come, and it takes that long."""
    stored: bool = False
    """If true, messages are kept on disk until they are acknowledged."""
    vitals: bool = True
    """If false, neither half writes its figures down, but for a first page."""
    paced: bool = False
    """If true, it has channels for `Paced`; a client that has no channels needs none."""
    ticks: tuple[QoS, ...] = ()
    """The QoS of its channels for `Ticks`."""
    uvloop: bool = False
    """If true, its event loop is uvloop's."""

    def environment(self) -> dict[str, str]:
        """Return the environment in which `setting` finds it, in the contestant and in the processes that it starts."""
        return {**os.environ, _VARIABLE: msgspec.json.encode(self).decode()}

    def topic(self, qos: int, channel: int = 0) -> str:
        return f"{counter.ROOT}{self.name}/{qos}/{channel}"

    def paced_topic(self, qos: int) -> str:
        return f"{arrivals.ROOT}{self.name}/{qos}"

    def inflow_filter(self, number: int) -> str:
        return f"{source.ROOT}{self.name}/{number}/+/value"

    def inflow_qos(self, number: int) -> QoS:
        """Return the QoS of that filter. With MQTT the publisher's decides; with Zenoh there is one filter for each."""
        return 0 if self.protocol == "zenoh" and number == 0 else 1

    def tick(self, qos: int) -> str:
        return f"{TICKS}{self.name}/{qos}"

    @property
    def ping(self) -> str:
        return f"{echo.PING}{self.name}"

    @property
    def pong(self) -> str:
        return f"{echo.PONG}{self.name}"

    def trip(self, qos: int) -> tuple[str, str]:
        """Return the topics of pings and pongs at this QoS; `ping` and `pong` are those of QoS 1."""
        return (self.ping, self.pong) if qos else (f"{self.ping}-0", f"{self.pong}-0")


class Flood(msgspec.Struct, frozen=True, tag=True):
    """Publish `count` numbered messages (`message.text`) as fast as you can, on each channel in turn."""

    qos: QoS
    first: int
    """The first number of each channel."""
    count: int
    """The number of messages on each channel."""
    length: int


class Trips(msgspec.Struct, frozen=True, tag=True):
    """Send `count` messages to the echo, each when the answer to the one before has come."""

    count: int
    length: int
    qos: QoS = 1


class Sends(msgspec.Struct, frozen=True, tag=True):
    """Send `count` messages to the echo at QoS 1, one a millisecond, and tell how long each call took."""

    count: int
    length: int


class Paced(msgspec.Struct, frozen=True, tag=True):
    """Publish `count` messages (`message.scheduled`) when each is due, whatever has become of those before it.

    Message `first + n` is due at `start + n * interval`. Those that are late are sent at once. At `until` it is over:
    the next that is sent is the last.
    """

    qos: QoS
    first: int
    count: int
    length: int
    start: int
    """By the system's monotonic clock in ns, as `until`."""
    interval: int
    until: int


class Ticks(msgspec.Struct, frozen=True, tag=True):
    """Tell how late each of `count` ticks comes, one in 10 ms, with `batch` messages to send at each."""

    count: int
    qos: QoS
    batch: int


class Inflow(msgspec.Struct, frozen=True, tag=True):
    """Tell when so many messages have come in, counted from the start, on all filters together."""

    count: int


Order: TypeAlias = Flood | Trips | Sends | Paced | Inflow | Ticks


class Hello(msgspec.Struct, frozen=True, tag=True):
    """A contestant is connected."""

    pids: list[int]
    """The ids of the processes in which its library runs."""


class Done(msgspec.Struct, frozen=True, tag=True):
    """All was published; at QoS 1 acknowledged, as far as the publisher is told."""


class Sent(msgspec.Struct, frozen=True, tag=True):
    """The answer to `Paced`: so many were sent."""

    count: int


class Came(msgspec.Struct, frozen=True, tag=True):
    """The last of an `Inflow` has come."""

    at: int
    """The system's monotonic clock in ns."""


class Times(msgspec.Struct, frozen=True, tag=True):
    """The round trips, the calls of `send`, or how late each tick was, in ns."""

    ns: list[int]


Answer: TypeAlias = Hello | Done | Sent | Came | Times
A = TypeVar("A", Hello, Done, Sent, Came, Times)

decode_order = msgspec.json.Decoder(Order).decode


def setting() -> Setting:
    """Return the configuration that this process was started with."""
    return msgspec.json.decode(os.environ[_VARIABLE], type=Setting)


def encode(answer: Answer | Order) -> bytes:
    return msgspec.json.encode(answer) + b"\n"


def orders(connection: socket.socket) -> Iterator[Order]:
    """Yield each order, for a contestant that may block, until nobody is left to give one."""
    with connection.makefile("rb") as lines:
        for line in lines:
            yield decode_order(line)
