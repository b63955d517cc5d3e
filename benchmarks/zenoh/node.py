"""A node of Zenoh's, used directly: as a client of the router on a port of loopback."""

from __future__ import annotations

import json
from collections.abc import Callable

import zenoh

__all__ = ["ask_on", "open_client"]

_REPLIES = 4  # that may wait at a query: as many as there are receivers, or the session would wait


def open_client(port: int) -> zenoh.Session:
    config = zenoh.Config()
    for place, value in {
        "mode": "client",
        "connect/endpoints": [f"tcp/127.0.0.1:{port}"],
        "scouting/multicast/enabled": False,
        "transport/shared_memory/enabled": False,  # as a gateway's node has it
    }.items():
        config.insert_json5(place, json.dumps(value))
    return zenoh.open(config)


def ask_on(session: zenoh.Session, key: str) -> Callable[[bytes | zenoh.ZBytes], zenoh.Handler[zenoh.Reply]]:
    """Return what sends acknowledged messages on this key: queries to all that take what comes on it."""
    querier = session.declare_querier(
        key, target=zenoh.QueryTarget.ALL_COMPLETE, consolidation=zenoh.ConsolidationMode.NONE, timeout=60
    )
    return lambda payload: querier.get(zenoh.handlers.FifoChannel(_REPLIES), payload=payload)
