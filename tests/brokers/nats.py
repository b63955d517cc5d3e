"""The second broker: NATS server with its MQTT 3.1.1 listener, on a free port of loopback."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import attrs
import pytest
import trio

from tests.mosquitto import free_port

__all__ = ["Nats", "find_nats", "open_nats"]

_PACKAGE = "nats-server is not installed, and this test needs it: apt-get install nats-server"
_START_TIMEOUT, _PAUSE = 20.0, 0.01
_LIFETIME = 3600  # seconds
# It cannot notice that whoever started it was killed. An alarm outlives exec (alarm(2)) and then ends it.
_LIMITED = "import os, signal, sys; signal.alarm(int(sys.argv[1])); os.execv(sys.argv[2], sys.argv[2:])"


def find_nats() -> str:
    """The path of the server; the test is skipped where there is none."""
    found = shutil.which("nats-server") or shutil.which("nats-server", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip(_PACKAGE)
    return found


@attrs.define
class Nats:
    """A server that runs, and can be stopped and started again, always on the same ports and with what it has kept."""

    port: int
    folder: Path
    lines: Sequence[str] = ()
    """Added to the configuration."""
    mqtt_lines: Sequence[str] = ()
    """Added to the `mqtt` block, such as `ack_wait: "1s"`."""
    _process: trio.Process | None = None

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Start, and return when it accepts connections."""
        config = self.folder / f"nats-{self.port}.conf"
        config.write_text("\n".join(self._settings()) + "\n")
        log = self.folder / f"nats-{self.port}.log"
        with log.open("ab") as output:
            self._process = await trio.lowlevel.open_process(
                [sys.executable, "-ISc", _LIMITED, str(_LIFETIME), find_nats(), "-c", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                process_group=0,
            )
        with trio.fail_after(_START_TIMEOUT):
            while True:  # it tells nobody when it is ready, so ask
                assert self._process.poll() is None, log.read_text()
                try:
                    await (await trio.open_tcp_stream("127.0.0.1", self.port)).aclose()
                except OSError:
                    await trio.sleep(_PAUSE)
                else:
                    return

    async def stop(self, signum: signal.Signals = signal.SIGKILL) -> None:
        """End it by this signal, and wait for its end."""
        if self._process is not None:
            self._process.send_signal(signum)
            await self._process.wait()
            self._process = None

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
    """One MQTT listener on loopback; what it keeps is below `folder`."""
    server = Nats(free_port(), folder, lines, mqtt_lines)
    try:
        await server.start()
        yield server
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
            await server.stop()
