"""A Zenoh router for the time of a contest, and the programs around it."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path

from benchmarks.contest import Network
from taktora_trio.testing.server import Server
from taktora_trio.testing.zenoh.router import open_router

__all__ = ["ZENOH"]


def _open(folder: Path) -> AbstractAsyncContextManager[Server]:
    return open_router(folder)


ZENOH = Network(protocol="zenoh", open_server=_open, package="benchmarks.zenoh", arrivals=None)
