"""A real broker, for the time of a benchmark."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from taktora_trio.errors import ConfigError
from taktora_trio.testing.mqtt import mosquitto

__all__ = ["find_mosquitto", "open_mosquitto"]


@contextlib.asynccontextmanager
async def open_mosquitto() -> AsyncIterator[int]:
    """Start mosquitto on a free port of 127.0.0.1, and yield the port. It drops nothing, however much is queued."""
    with tempfile.TemporaryDirectory() as folder:
        async with mosquitto.open_mosquitto(Path(folder)) as broker:
            yield broker.port


def find_mosquitto() -> str:
    """Return the path of the program. Raises `SystemExit`, with what to install."""
    try:
        return mosquitto.find_mosquitto()
    except ConfigError as exc:
        raise SystemExit(f"these benchmarks need the mosquitto broker: {exc}") from None
