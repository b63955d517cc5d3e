"""The independent subscriber on Zenoh: as `benchmarks.counter`, of samples and of queries, which it replies to.

python -m benchmarks.zenoh.counter PORT
"""

from __future__ import annotations

import os
import signal
import sys
import time

import msgspec
import zenoh

from benchmarks.counter import ROOT, Count
from benchmarks.peers.control import TICKS
from benchmarks.zenoh.node import open_client

__all__: list[str] = []

_LIMIT = 3600  # seconds, should nobody end it


def main(port: int) -> None:
    """Count until this process is told to end."""
    session, counts = open_client(port), dict[str, Count]()

    def take(key: str, payload: bytes) -> None:
        count = counts.get(key)
        if count is None:
            count = counts[key] = Count(key)
        told = count.take(payload, time.monotonic_ns())
        if told is not None:
            print(msgspec.json.encode(told).decode(), flush=True)

    def came(sample: zenoh.Sample) -> None:
        take(str(sample.key_expr), sample.payload.to_bytes())

    def asked(query: zenoh.Query) -> None:
        key = str(query.key_expr)
        assert query.payload is not None
        take(key, query.payload.to_bytes())
        with query:
            query.reply(key, b"")

    def taken(query: zenoh.Query) -> None:
        with query:
            query.reply(query.key_expr, b"")

    session.declare_subscriber(f"{ROOT}**", came)
    session.declare_queryable(f"{ROOT}**", asked, complete=True)
    session.declare_subscriber(f"{TICKS}**", lambda _: None)
    session.declare_queryable(f"{TICKS}**", taken, complete=True)
    print("ready", flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    os._exit(0)  # its threads need no goodbye


if __name__ == "__main__":
    signal.alarm(_LIMIT)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    main(int(sys.argv[1]))
