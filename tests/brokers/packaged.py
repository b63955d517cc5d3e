"""More brokers that come from a package, each with as little configuration as it starts with.

ejabberd (Debian) and rumqttd (in the wheel `iotcore`) speak MQTT 5 beside 3.1.1. RabbitMQ (Debian, before 4) does not.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import attrs
import pytest
import trio

from taktora_trio.testing.server import Server, free_port

__all__ = ["PACKAGED", "Packaged", "open_packaged"]

_RABBIT = next(iter(sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin/rabbitmq-server"))), None)
_EJABBERD = next(iter(sorted(Path("/usr/lib/x86_64-linux-gnu").glob("ejabberd-*/ebin/ejabberd.app"))), None)


@attrs.frozen
class Packaged:
    """A broker, and what it can't do."""

    name: str
    package: str
    """To be installed, and by what."""
    is_there: bool
    levels: frozenset[int] = frozenset({4, 5})
    """Of the protocol (section 3.1.2.2)."""
    highest_qos: int = 2
    qos_over_cuts: int = 2
    """The highest QoS at which its session goes on after a connection was cut."""
    login: str = ""
    """In its URL."""

    def __str__(self) -> str:
        return self.name

    @property
    def marks(self) -> list[pytest.MarkDecorator]:
        missing = pytest.mark.skipif(not self.is_there, reason=f"{self.name} is not installed: {self.package}")
        return [missing] if self.name == "rumqttd" else [missing, pytest.mark.brokers]


EJABBERD = Packaged("ejabberd", "apt-get install ejabberd", bool(_EJABBERD and shutil.which("erl")), login="me:x@")
RUMQTTD = Packaged("rumqttd", "pip install iotcore", importlib.util.find_spec("iotcore") is not None, qos_over_cuts=1)
RABBITMQ = Packaged(
    "rabbitmq",
    "apt-get install rabbitmq-server",
    _RABBIT is not None,
    levels=frozenset({4}),
    highest_qos=1,
    qos_over_cuts=1,
)
PACKAGED = (EJABBERD, RUMQTTD, RABBITMQ)


@attrs.define
class _Ejabberd(Server):
    scheme = "mqtt"
    folder: Path

    @property
    def log(self) -> Path:
        return self.folder / "ejabberd.out"

    def configure(self) -> Sequence[str]:
        config = self.folder / "ejabberd.yml"
        config.write_text(
            "hosts: [localhost]\n"
            f'listen:\n  - {{port: {self.port}, ip: "127.0.0.1", module: mod_mqtt}}\n'
            "auth_method: anonymous\nanonymous_protocol: login_anon\n"
            'modules:\n  mod_mqtt:\n    access_publish: {"#": [{allow: all}]}\n'
            '    access_subscribe: {"#": [{allow: all}]}\n'
        )
        spool, log = self.folder / "spool", self.folder / "ejabberd.log"
        arguments = ["-mnesia", "dir", f'"{spool}"', "-ejabberd", "config", f'"{config}"', "log_path", f'"{log}"']
        assert _EJABBERD is not None
        path = ["-env", "ERL_LIBS", str(_EJABBERD.parents[2])]
        return [shutil.which("erl") or "erl", *path, "-noinput", "-boot", "start_sasl", *arguments, "-s", "ejabberd"]


@attrs.define
class _Rumqttd(Server):
    scheme = "mqtt"
    folder: Path
    level: int

    @property
    def log(self) -> Path:
        return self.folder / "rumqttd.out"

    def configure(self) -> Sequence[str]:
        config = self.folder / "rumqttd.toml"
        version = "v5" if self.level == 5 else "v4"  # it has a port for each
        config.write_text(
            "id = 0\n[router]\nid = 0\nmax_connections = 100\nmax_outgoing_packet_count = 200\n"
            "max_segment_size = 104857600\nmax_segment_count = 10\n"
            f'[{version}.1]\nname = "{version}"\nlisten = "127.0.0.1:{self.port}"\nnext_connection_delay_ms = 1\n'
            f"[{version}.1.connections]\nconnection_timeout_ms = 5000\nmax_payload_size = 1048576\n"
            "max_inflight_count = 100\ndynamic_filters = true\n"
        )
        return [sys.executable, "-m", "iotcore", "--config", str(config)]


@attrs.define
class _RabbitMq(Server):
    scheme = "mqtt"
    start_timeout = 60.0
    folder: Path
    dist: int = attrs.field(factory=free_port)
    epmd: int = attrs.field(factory=free_port)

    @property
    def log(self) -> Path:
        return self.folder / "rabbitmq.out"

    def configure(self) -> Sequence[str]:
        config, plugins = self.folder / "rabbitmq.conf", self.folder / "enabled_plugins"
        config.write_text(
            f"listeners.tcp = none\nmqtt.listeners.tcp.1 = 127.0.0.1:{self.port}\nmqtt.allow_anonymous = true\n"
        )
        plugins.write_text("[rabbitmq_mqtt].\n")
        variables = {
            "HOME": self.folder,
            "RABBITMQ_MNESIA_BASE": self.folder / "mnesia",
            "RABBITMQ_LOG_BASE": self.folder / "log",
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_CONFIG_FILE": config,
            "RABBITMQ_ENABLED_PLUGINS_FILE": plugins,
            "RABBITMQ_NODENAME": f"taktora{self.port}@localhost",
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_DIST_PORT": self.dist,
            # A daemon that it starts, and does not end.
            "ERL_EPMD_PORT": self.epmd,
            "ERL_EPMD_RELAXED_COMMAND_CHECK": "1",
        }
        # Where it is killed, its database leaves a dump in the working directory.
        there = f"--chdir={self.folder}"
        return ["/usr/bin/env", there, *[f"{name}={value}" for name, value in variables.items()], str(_RABBIT)]

    async def stop(self, signum: signal.Signals = signal.SIGKILL) -> None:
        """End it, and what its script has started."""
        if self._process is not None:
            os.killpg(self._process.pid, signum)
            await self._process.wait()
            self._process = None
        environment = {**os.environ, "ERL_EPMD_PORT": str(self.epmd)}
        await trio.run_process(["epmd", "-kill"], env=environment, capture_stdout=True, check=False)


@contextlib.asynccontextmanager
async def open_packaged(kind: Packaged, level: int, folder: Path) -> AsyncIterator[str]:
    """Run it for clients of this level of the protocol, and yield its URL."""
    port = free_port()
    server: Server
    if kind is EJABBERD:
        server = _Ejabberd(port, folder)
    elif kind is RUMQTTD:
        server = _Rumqttd(port, folder, level)
    else:
        server = _RabbitMq(port, folder)
    try:
        await server.start()
        yield f"mqtt://{kind.login}127.0.0.1:{port}"
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 20):
            await server.stop()
