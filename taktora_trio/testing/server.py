"""A server under control: on a port of loopback, started and stopped at will, and never left behind."""

from __future__ import annotations

import abc
import contextlib
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import attrs
import trio

from taktora_trio.errors import ConfigError

__all__ = ["Broker", "Server", "free_port"]

_PAUSE = 0.01
_DRAWS = 100
_LIFETIME = 3600  # seconds
# It cannot notice that whoever started it was killed. An alarm outlives exec (alarm(2)) and then ends it.
_LIMITED = "import os, signal, sys; signal.alarm(int(sys.argv[1])); os.execv(sys.argv[2], sys.argv[2:])"


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody uses now.

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
class Server(abc.ABC):
    """Can be stopped and started again, always on the same port."""

    scheme: ClassVar[str] = "tcp"
    """The scheme of its URL."""
    start_timeout: ClassVar[float] = 20.0
    """Seconds."""

    port: int
    _process: trio.Process | None = attrs.field(default=None, init=False)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @abc.abstractmethod
    def configure(self) -> Sequence[str]:
        """Write its configuration; return its command line, which begins with the program's path."""

    @property
    def log(self) -> Path:
        """The file that its output goes to; by default nowhere."""
        return Path("/dev/null")

    async def start(self) -> None:
        """Start, and return when it accepts connections. Raises `ConfigError` if it ends at once."""
        command = self.configure()
        # A process group of its own: the terminal's Ctrl-C is for whoever started it, who then ends it.
        with self.log.open("ab") as output:
            self._process = await trio.lowlevel.open_process(
                [sys.executable, "-ISc", _LIMITED, str(_LIFETIME), *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                process_group=0,
            )
        with trio.fail_after(self.start_timeout):
            while True:  # it tells nobody when it is ready, so ask
                if self._process.poll() is not None:
                    raise ConfigError(f"a server ended at once, by its configuration or its port: {' '.join(command)}")
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


@attrs.define
class Broker(Server):
    """A server of the protocol under test, that can be told to refuse its clients."""

    anonymous: bool = attrs.field(default=True, kw_only=True)
    """True if a client without a user name may log in, from the next start on."""
