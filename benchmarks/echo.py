"""The other side of a round trip: publishes each message on a ping topic again, at QoS 1, on the pong topic beside it.

python -m benchmarks.echo PORT

The same for every contestant. An answer and its acknowledgement go out in one write.
"""

from __future__ import annotations

import itertools
import signal
import sys

from benchmarks import wire

__all__ = ["PING", "PONG"]

PING, PONG = "benchmark/ping/", "benchmark/pong/"


def main(port: int) -> None:
    """Echo until the broker is gone, or this process is told to end."""
    connection = wire.connect(port, "echo")
    wire.subscribe(connection, f"{PING}#", 1)
    print("ready", flush=True)
    packets, numbers = wire.Packets(), itertools.cycle(range(1, 2**16))
    while packets.read(connection):
        for first, body in packets:
            if first & 0xF0 == wire.PUBLISH:
                end = 2 + int.from_bytes(body[:2], "big")
                topic = PONG + body[2:end].decode().removeprefix(PING)
                answer = wire.publish(topic, body[end + 2 :], next(numbers))
                connection.sendall(wire.puback(body[end : end + 2]) + answer)


_LIMIT = 3600  # seconds, should nobody end it

if __name__ == "__main__":
    signal.alarm(_LIMIT)
    main(int(sys.argv[1]))
