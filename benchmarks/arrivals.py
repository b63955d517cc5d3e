"""The independent subscriber of scheduled messages: how long after its time by the schedule each has come.

python -m benchmarks.arrivals PORT FOLDER

Subscribed at QoS 0 by a socket of its own, as `counter.py` is, and as strict about the numbers. When the last of an
order has come it writes the latencies to a file in FOLDER and says so in a line of JSON.
"""

from __future__ import annotations

import signal
import sys
import time
from array import array
from pathlib import Path

import msgspec

from benchmarks import message, wire
from benchmarks.counter import Count, Wrong

__all__ = ["ROOT", "Arrived", "Latencies"]

ROOT = "benchmark/paced/"
"""The topics that are listened to begin with it."""


class Arrived(msgspec.Struct, frozen=True, tag=True):
    """All of an order have come."""

    topic: str
    at: int
    """When the last came, by the system's monotonic clock in ns."""
    file: str

    def read(self) -> array[int]:
        """Return the latencies in ns, and delete the file."""
        latencies = array("q", Path(self.file).read_bytes())
        Path(self.file).unlink()
        return latencies


class Latencies:
    """Those of one topic: each is the time from when the message was to be sent, not from when it was, to its arrival.

    So a sender that stalls makes every message late that was due meanwhile (no coordinated omission).
    """

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._count = Count(topic)
        self.ns = array("q")

    def take(self, payload: bytes, at: int) -> Wrong | bool:
        """Return true if this was the last."""
        self.ns.append(at - message.read_due(payload))
        told = self._count.take(payload, at)
        return told if isinstance(told, Wrong) else told is not None

    def write(self, folder: Path, at: int) -> Arrived:
        file = folder / f"{self._topic.replace('/', '-')}-{at}"
        file.write_bytes(self.ns.tobytes())
        self.ns = array("q")
        return Arrived(self._topic, at, str(file))


def main(port: int, folder: Path) -> None:
    """Listen until the broker is gone, or this process is told to end."""
    connection = wire.connect(port, "arrivals")
    wire.subscribe(connection, f"{ROOT}#", 0)
    print("ready", flush=True)
    packets, topics = wire.Packets(), dict[bytes, Latencies]()
    while packets.read(connection):
        at = time.monotonic_ns()
        for _, body in packets:
            end = 2 + int.from_bytes(body[:2], "big")
            latencies = topics.get(body[2:end])
            if latencies is None:
                latencies = topics[body[2:end]] = Latencies(body[2:end].decode())
            told = latencies.take(body[end:], at)
            if isinstance(told, Wrong):
                print(msgspec.json.encode(told).decode(), flush=True)
            elif told:
                print(msgspec.json.encode(latencies.write(folder, at)).decode(), flush=True)


_LIMIT = 7200  # seconds, should nobody end it

if __name__ == "__main__":
    signal.alarm(_LIMIT)
    main(int(sys.argv[1]), Path(sys.argv[2]))
