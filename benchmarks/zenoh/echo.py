"""The other side of a round trip on Zenoh: puts each sample on a ping key again, on the pong key beside it.

python -m benchmarks.zenoh.echo PORT

A query is replied to, and asked again there.
"""

from __future__ import annotations

import functools
import os
import signal
import sys

import zenoh

from benchmarks.echo import PING, PONG
from benchmarks.zenoh.node import ask_on, open_client

__all__: list[str] = []

_LIMIT = 3600  # seconds, should nobody end it


def main(port: int) -> None:
    """Echo until this process is told to end."""
    session = open_client(port)
    answer = functools.cache(functools.partial(ask_on, session))

    def came(sample: zenoh.Sample) -> None:
        key = str(sample.key_expr).replace(PING, PONG)
        session.put(key, sample.payload, congestion_control=zenoh.CongestionControl.BLOCK)

    def asked(query: zenoh.Query) -> None:
        key, payload = str(query.key_expr), query.payload
        assert payload is not None
        with query:
            query.reply(key, b"")
        answer(key.replace(PING, PONG))(payload)

    session.declare_subscriber(f"{PING}**", came)
    session.declare_queryable(f"{PING}**", asked, complete=True)
    print("ready", flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    os._exit(0)


if __name__ == "__main__":
    signal.alarm(_LIMIT)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    main(int(sys.argv[1]))
