"""A real broker under control: mosquitto on a free port of loopback."""

from __future__ import annotations

import contextlib
import os
import pwd
import random
import shutil
import socket
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import attrs
import trio

from taktora_trio.chaos.server import Server
from taktora_trio.errors import ConfigError

__all__ = ["Mosquitto", "find_mosquitto", "free_port", "open_mosquitto"]

_SYSTEM_FOLDERS = "/usr/sbin:/usr/local/sbin"  # often not on the PATH
_DRAWS = 100


def find_mosquitto(program: str = "mosquitto") -> str:
    """The path of the broker, or of a tool that comes with it. Raises `ConfigError` that says what to install."""
    found = shutil.which(program) or shutil.which(program, path=_SYSTEM_FOLDERS)
    if found is None:
        raise ConfigError(f"{program} is not installed, and this needs it: apt-get install mosquitto")
    return found


def free_port() -> int:
    """A port of 127.0.0.1 that nobody uses now.

    It is below those that the kernel gives to connections (ip(7), ip_local_port_range): else some other program's might
    have it before the server is there, or while it is stopped. Raises `ConfigError`.
    """
    above = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    dice = random.SystemRandom()  # unlike the global one, nobody has seeded it to draw the same in every process
    for _ in range(_DRAWS):
        port = dice.randrange(max(1024, above - 20_000), above)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise ConfigError("no port of 127.0.0.1 is free")


@attrs.define
class Mosquitto(Server):
    """A broker that drops nothing."""

    config: Path
    lines: Sequence[str] = ()
    anonymous: bool = True
    """Whether a client without a user name may log in, from the next start on."""

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
    """Lossless queues and one listener on loopback; `lines` follow the listener in the configuration."""
    port = free_port()
    broker = Mosquitto(port, folder / f"mosquitto-{port}.conf", lines, anonymous)
    try:
        await broker.start()
        yield broker
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
            await broker.stop()
