"""Messages for a contestant to receive: at QoS 1, on as many topics as it has filters, one after the other.

python -m benchmarks.source PORT NAME TOPICS COUNT

Says when it began, by the system's monotonic clock in ns, and ends when the broker has acknowledged all.
"""

from __future__ import annotations

import itertools
import sys
import time

from benchmarks import message, wire

__all__ = ["ROOT"]

ROOT = "benchmark/inflow/"
_BATCH = 64


def main(port: int, name: str, topics: int, count: int) -> None:
    """Publish all of them, never more than a few batches ahead of the acknowledgements."""
    connection = wire.connect(port, f"{name}-source")
    numbers, packets = itertools.cycle(range(1, 2**16)), wire.Packets()
    print(time.monotonic_ns(), flush=True)
    sent = acknowledged = 0
    while acknowledged < count:
        if sent < count and sent - acknowledged < 4 * _BATCH:
            batch = range(sent, min(sent + _BATCH, count))
            connection.sendall(
                b"".join(
                    wire.publish(f"{ROOT}{name}/{number % topics}/unit/value", message.text(number + 1), next(numbers))
                    for number in batch
                )
            )
            sent = batch.stop
        elif packets.read(connection):
            acknowledged += sum(first == wire.PUBACK for first, _ in packets)
        else:
            raise SystemExit("the broker is gone")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
