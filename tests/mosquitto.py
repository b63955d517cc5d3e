"""A real broker for tests: mosquitto on a free port of loopback, with the configuration that a test asks for."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import attrs
import trio

MISSING = "mosquitto is not installed: `make test` installs it where it may, else `apt-get install mosquitto`"


def find_mosquitto(program: str = "mosquitto") -> str:
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise RuntimeError(MISSING)
    return found


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@attrs.define
class Mosquitto:
    """A broker that runs, and can be stopped and started again, always on the same port."""

    port: int
    config: Path
    _process: trio.Process | None = None

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        self._process = await trio.lowlevel.open_process(
            [find_mosquitto(), "-c", str(self.config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        with trio.fail_after(10):
            while True:  # mosquitto tells nobody when it is ready, so ask
                assert self._process.poll() is None, "mosquitto ended at once: see its configuration"
                try:
                    await (await trio.open_tcp_stream("127.0.0.1", self.port)).aclose()
                except OSError:
                    await trio.sleep(0.01)
                else:
                    return

    async def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            await self._process.wait()
            self._process = None


@contextlib.asynccontextmanager
async def open_mosquitto(
    folder: Path, lines: Sequence[str] = (), *, anonymous: bool = True
) -> AsyncIterator[Mosquitto]:
    """Lossless queues and one listener on loopback; `lines` follow the listener in the configuration."""
    port = free_port()
    config = folder / f"mosquitto-{port}.conf"
    base = [
        "persistence false",
        "max_queued_messages 0",
        "max_inflight_messages 0",
        f"listener {port} 127.0.0.1",
        f"allow_anonymous {'true' if anonymous else 'false'}",
    ]
    config.write_text("\n".join([*base, *lines]) + "\n")
    broker = Mosquitto(port, config)
    try:
        await broker.start()
        yield broker
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
            await broker.stop()
