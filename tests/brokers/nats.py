"""The second broker: NATS server with its MQTT 3.1.1 listener, on a free port of loopback."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import ClassVar

import attrs
import pytest
import trio

from taktora_trio.testing.server import Server
from tests.mosquitto import free_port

__all__ = ["Nats", "find_nats", "nats_version", "needs_nats", "open_nats"]

_PACKAGE = "nats-server is not installed, and this test needs it: apt-get install nats-server"

_FOUND = shutil.which("nats-server") or shutil.which("nats-server", path="/usr/sbin:/usr/local/sbin")
needs_nats = pytest.mark.skipif(_FOUND is None, reason=_PACKAGE)


def find_nats() -> str:
    """Return the path of the server. A test that needs it is marked by `needs_nats`, and skipped where none is."""
    assert _FOUND is not None, _PACKAGE
    return _FOUND


def nats_version() -> tuple[int, ...]:
    """Return the server's version; empty where there is none."""
    if _FOUND is None:
        return ()
    said = subprocess.run([_FOUND, "--version"], capture_output=True, text=True, timeout=10, check=True).stdout
    return tuple(int(number) for number in re.findall(r"\d+", said)[:2])


@attrs.define
class Nats(Server):
    """A server that is started again with what it has kept."""

    scheme: ClassVar[str] = "mqtt"

    folder: Path
    lines: Sequence[str] = ()
    """Added to the configuration."""
    mqtt_lines: Sequence[str] = ()
    """Added to the `mqtt` block, such as `ack_wait: "1s"`."""

    def configure(self) -> Sequence[str]:
        config = self.folder / f"nats-{self.port}.conf"
        config.write_text("\n".join(self._settings()) + "\n")
        return [find_nats(), "-c", str(config)]

    @property
    def log(self) -> Path:
        return self.folder / f"nats-{self.port}.log"

    def _settings(self) -> list[str]:
        kept = self.folder / f"nats-{self.port}"
        return [
            f"server_name: taktora-{self.port}",  # without a name its MQTT listener does not start
            "host: 127.0.0.1",
            "port: -1",  # its own protocol's, which nobody here speaks
            # Sessions, retained messages and what waits for a subscriber are JetStream's.
            f'jetstream {{ store_dir: "{kept}", max_file_store: 1G, max_memory_store: 64M }}',
            "mqtt {",
            "  host: 127.0.0.1",
            f"  port: {self.port}",
            *[f"  {line}" for line in self.mqtt_lines],
            "}",
            *self.lines,
        ]


@contextlib.asynccontextmanager
async def open_nats(folder: Path, lines: Sequence[str] = (), *, mqtt_lines: Sequence[str] = ()) -> AsyncIterator[Nats]:
    """Run a server with one MQTT listener on loopback; its files are below `folder`."""
    server = Nats(free_port(), folder, lines, mqtt_lines)
    try:
        await server.start()
        yield server
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
            await server.stop()
