"""A real broker under control: mosquitto on a free port of loopback."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import ClassVar

import attrs
import trio

from taktora_trio.errors import ConfigError
from taktora_trio.testing.server import Broker, free_port

__all__ = ["Mosquitto", "find_mosquitto", "open_mosquitto"]

_SYSTEM_FOLDERS = "/usr/sbin:/usr/local/sbin"  # often not on the PATH


def find_mosquitto(program: str = "mosquitto") -> str:
    """Return the path of the broker, or of a tool that comes with it. Raises `ConfigError`, with what to install."""
    found = shutil.which(program) or shutil.which(program, path=_SYSTEM_FOLDERS)
    if found is None:
        raise ConfigError(f"{program} is not installed, and this needs it: apt-get install mosquitto")
    return found


@attrs.define
class Mosquitto(Broker):
    """A broker that drops nothing."""

    scheme: ClassVar[str] = "mqtt"

    config: Path
    lines: Sequence[str] = ()

    def configure(self) -> Sequence[str]:
        self.config.write_text("\n".join(self._settings()) + "\n")
        return [find_mosquitto(), "-c", str(self.config)]

    def _settings(self) -> list[str]:
        settings = ["persistence false", "max_queued_messages 0", "max_inflight_messages 0", "log_dest none"]
        if not any(line.startswith("user ") for line in self.lines):
            # Started by root it would become another user, who can't read the configuration, or can't exist here.
            settings.append(f"user {pwd.getpwuid(os.getuid()).pw_name}")
        settings += [f"listener {self.port} 127.0.0.1", f"allow_anonymous {'true' if self.anonymous else 'false'}"]
        return [*settings, *self.lines]


@contextlib.asynccontextmanager
async def open_mosquitto(
    folder: Path, lines: Sequence[str] = (), *, anonymous: bool = True
) -> AsyncIterator[Mosquitto]:
    """Run a broker with lossless queues and one listener; `lines` follow the listener in the configuration."""
    port = free_port()
    broker = Mosquitto(port, folder / f"mosquitto-{port}.conf", lines, anonymous=anonymous)
    try:
        await broker.start()
        yield broker
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
            await broker.stop()
