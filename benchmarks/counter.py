"""The independent subscriber: counts the broker's messages, and says when the last one of an order has come.

python -m benchmarks.counter PORT

Subscribed at QoS 0, the least work for the machine that is being measured. Each topic has numbers of its own, 1, 2, 3
and so on; the first that is missing, doubled or out of order is told instead. A line of JSON for each order.
"""

from __future__ import annotations

import signal
import sys
import time

import msgspec

from benchmarks import message, wire

__all__ = ["ROOT", "Count", "Counted", "Wrong"]

ROOT = "benchmark/flood/"
"""The topics that are counted begin with it."""


class Counted(msgspec.Struct, frozen=True, tag=True):
    """The message that was marked as the last has come, and every one before it."""

    topic: str
    count: int
    at: int
    """The system's monotonic clock in ns, which all processes share."""


class Wrong(msgspec.Struct, frozen=True, tag=True):
    """A message came where another was to come; of this topic nothing more is told."""

    topic: str
    number: int
    expected: int


class Count:
    """The numbers of one topic."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._number = 0
        self._wrong = False

    def take(self, payload: bytes, at: int) -> Counted | Wrong | None:
        number, last = message.read_text(payload)
        self._number += 1
        if self._wrong:
            return None
        if number != self._number:
            self._wrong = True
            return Wrong(self._topic, number, self._number)
        return Counted(self._topic, number, at) if last else None


def main(port: int) -> None:
    """Count until the broker is gone, or this process is told to end."""
    connection = wire.connect(port, "counter")
    wire.subscribe(connection, f"{ROOT}#", 0)
    print("ready", flush=True)
    packets, counts = wire.Packets(), dict[bytes, Count]()
    while packets.read(connection):
        at = time.monotonic_ns()
        lines = []
        for _, body in packets:
            end = 2 + int.from_bytes(body[:2], "big")
            topic = body[2:end]
            count = counts.get(topic)
            if count is None:
                count = counts[topic] = Count(topic.decode())
            told = count.take(body[end:], at)
            if told is not None:
                lines.append(msgspec.json.encode(told).decode())
        if lines:  # at once: with a thousand topics it would else take its time from those who are measured
            print("\n".join(lines), flush=True)


_LIMIT = 3600  # seconds, should nobody end it

if __name__ == "__main__":
    signal.alarm(_LIMIT)
    main(int(sys.argv[1]))
