"""Messages for a contestant to receive, on as many topics as it has filters, one after the other.

python -m benchmarks.source PORT NAME TOPICS COUNT [LENGTH [QOS [RATE]]]

Says when it began, by the system's monotonic clock in ns, and ends when the broker has acknowledged all; at QoS 0, when
it has taken all. The packets are made before that, so that it takes little of the machine that is measured. Without a
rate, which is in messages a second, it sends as fast as it can.
"""

from __future__ import annotations

import itertools
import socket
import sys
import time

from benchmarks import message, wire

__all__ = ["ROOT", "Rate"]

ROOT = "benchmark/inflow/"
_BATCH = 64
_AHEAD = 4 * _BATCH  # messages that are not acknowledged
_BYTES_AHEAD = 8 * 2**20


class Rate:
    """Keeps to so many messages a second, or to none."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._start = time.monotonic()

    def wait(self, sent: int) -> None:
        """Wait until message `sent` is due."""
        if self._rate:
            time.sleep(max(0.0, self._start + sent / self._rate - time.monotonic()))


def main(
    port: int, name: str, topics: int, count: int, length: int = message.LENGTH, qos: int = 1, rate: int = 0
) -> None:
    """Publish all of them, never more than a few batches ahead of the acknowledgements."""
    numbers = itertools.cycle(range(1, 2**16))
    ahead = max(min(_AHEAD, _BYTES_AHEAD // length), 4)
    size = min(_BATCH, ahead // 4, max(rate // 100, 1) if rate else _BATCH)
    batches = [
        b"".join(
            wire.publish(
                f"{ROOT}{name}/{number % topics}/unit/value",
                message.text(number + 1, length=length),
                next(numbers) if qos else 0,
            )
            for number in range(first, min(first + size, count))
        )
        for first in range(0, count, size)
    ]
    connection, packets = wire.connect(port, f"{name}-source"), wire.Packets()
    print(time.monotonic_ns(), flush=True)
    sent = acknowledged = 0
    pace = Rate(rate)
    for batch in batches:
        pace.wait(sent)
        while qos and sent - acknowledged > ahead - size:
            acknowledged += _wait(packets, connection)
        connection.sendall(batch)
        sent += size
    while qos and acknowledged < count:
        acknowledged += _wait(packets, connection)
    wire.disconnect(connection)


def _wait(packets: wire.Packets, connection: socket.socket) -> int:
    """Return how many more are acknowledged."""
    if not packets.read(connection):
        raise SystemExit("the broker is gone")
    return sum(first == wire.PUBACK for first, _ in packets)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:]))
