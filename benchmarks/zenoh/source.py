"""Messages on Zenoh for a contestant to receive, as `benchmarks.source` sends them.

python -m benchmarks.zenoh.source PORT NAME TOPICS COUNT LENGTH QOS [RATE]

At QoS 0 they are put on the key of the first filter, at QoS 1 they are queries on that of the second.
"""

from __future__ import annotations

import os
import sys
import time

import zenoh

from benchmarks import message
from benchmarks.source import ROOT, Rate
from benchmarks.zenoh.node import ask_on, open_client

__all__: list[str] = []

_AHEAD = 256  # messages that are not acknowledged
_KNOWN_AFTER = 0.3  # seconds until this node knows who is subscribed


def main(port: int, name: str, count: int, length: int, qos: int, rate: int = 0) -> None:
    """Send all; end when all are acknowledged, or written."""
    key = f"{ROOT}{name}/{qos}/unit/value"
    messages = [message.text(number + 1, length=length) for number in range(count)]
    session = open_client(port)
    publisher = session.declare_publisher(key, congestion_control=zenoh.CongestionControl.BLOCK)
    ask = ask_on(session, key)
    time.sleep(_KNOWN_AFTER)
    print(time.monotonic_ns(), flush=True)
    pace, at_once = Rate(rate), max(rate // 100, 1) if rate else count
    if not qos:
        for number, payload in enumerate(messages):
            if number % at_once == 0:
                pace.wait(number)
            publisher.put(payload)
    else:
        asked = list[zenoh.Handler[zenoh.Reply]]()
        for number, payload in enumerate(messages):
            if number % at_once == 0:
                pace.wait(number)
            if number >= _AHEAD:
                _wait(asked[number - _AHEAD])
            asked.append(ask(payload))
        for replies in asked[-_AHEAD:]:
            _wait(replies)
    session.close()
    sys.stdout.flush()
    os._exit(0)


def _wait(replies: zenoh.Handler[zenoh.Reply]) -> None:
    if not [reply for reply in replies if reply.ok is not None]:
        raise SystemExit("a message was not acknowledged")


if __name__ == "__main__":
    port, name, _, *numbers = sys.argv[1:]
    main(int(port), name, *map(int, numbers))
