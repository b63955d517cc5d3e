"""A real broker, for the time of a benchmark."""

from __future__ import annotations

import contextlib
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import trio

from benchmarks.children import open_child

__all__ = ["find_mosquitto", "open_mosquitto"]

_START_TIMEOUT, _PAUSE, _LIMIT = 10.0, 0.02, 600


@contextlib.asynccontextmanager
async def open_mosquitto() -> AsyncIterator[int]:
    """Start mosquitto on a free port of 127.0.0.1, and yield the port. It drops nothing, however much is queued."""
    with tempfile.TemporaryDirectory() as folder:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port: int = probe.getsockname()[1]
        # It has no way to notice that this process was killed, so its time is limited from outside.
        broker = [find_mosquitto(), "-c", str(_write_config(Path(folder), port))]
        async with open_child(["timeout", str(_LIMIT), *broker]):
            with trio.fail_after(_START_TIMEOUT):
                await _wait_for(port)
            yield port


def find_mosquitto() -> str:
    """The path of the program. Raises `SystemExit` that says what to install."""
    for candidate in ("mosquitto", "/usr/sbin/mosquitto"):  # sbin is often not on the PATH
        if found := shutil.which(candidate):
            return found
    raise SystemExit("these benchmarks need the mosquitto broker: apt install mosquitto, or dnf install mosquitto")


def _write_config(folder: Path, port: int) -> Path:
    config = folder / "mosquitto.conf"
    lines = [f"listener {port} 127.0.0.1", "allow_anonymous true", "log_dest none"]
    lines += ["max_queued_messages 0", "max_inflight_messages 0"]  # no limits
    config.write_text("\n".join(lines) + "\n")
    folder.chmod(0o755)  # started by root, mosquitto gives that up, and must still be able to read this
    return config


async def _wait_for(port: int) -> None:
    while True:
        try:
            stream = await trio.open_tcp_stream("127.0.0.1", port)
        except OSError:
            await trio.sleep(_PAUSE)  # mosquitto has no way to say that it listens
        else:
            await stream.aclose()
            return
