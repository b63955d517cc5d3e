"""A real router under control, on a free port of loopback: what zenohd runs, in a Python process of its own."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import attrs
import trio

from taktora_trio.errors import ConfigError
from taktora_trio.testing.server import Broker, free_port

__all__ = ["RouterTls", "ZenohRouter", "check_installed", "open_router"]

_PATIENCE = 5.0  # seconds for its end


@attrs.frozen
class RouterTls:
    """The files of a router that speaks TLS."""

    certificate: Path
    key: Path
    client_ca: Path | None = None
    """The authority of its clients' certificates; `None` if they need none."""

    @property
    def config(self) -> Mapping[str, Any]:
        files = {"listen_certificate": str(self.certificate), "listen_private_key": str(self.key)}
        if self.client_ca is None:
            return files
        return {**files, "root_ca_certificate": str(self.client_ca), "enable_mtls": True}


def check_installed() -> None:
    """Raise `ConfigError`, with what to install, where the library is not."""
    if importlib.util.find_spec("zenoh") is None:
        raise ConfigError("zenoh is not installed, and this needs it: pip install 'taktora-trio[zenoh]'")


@attrs.define
class ZenohRouter(Broker):
    """A router that keeps no messages, and that finds nobody by itself."""

    folder: Path
    """For its configuration, its users and its log."""
    lease: float = attrs.field(default=10.0, kw_only=True)
    """Seconds after which its peers take it for gone when it says nothing."""
    tls: RouterTls | None = attrs.field(default=None, kw_only=True)
    """If set, it speaks TLS instead of TCP."""
    users: Mapping[str, str] = attrs.field(factory=dict, kw_only=True)
    """Passwords by user name, from the next start on. If there are any, or if it is not `anonymous`, nobody else may
    log in."""
    listen: Sequence[str] = attrs.field(default=(), kw_only=True)
    """Further endpoints to listen at."""
    connect: Sequence[str] = attrs.field(default=(), kw_only=True)
    """The endpoints of other routers, which it connects to again and again."""
    settings: Mapping[str, Any] = attrs.field(factory=dict, kw_only=True)
    """More of its configuration, by path: `{"scouting/multicast/enabled": True}`."""

    @property
    def protocol(self) -> Literal["tcp", "tls"]:
        return "tcp" if self.tls is None else "tls"

    @property
    def endpoint(self) -> str:
        """Where its clients find it: `tcp/127.0.0.1:7447`."""
        return f"{self.protocol}/127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self.folder / f"router-{self.port}.log"

    def configure(self) -> Sequence[str]:
        check_installed()
        config = self.folder / f"router-{self.port}.json5"
        config.write_text(json.dumps(self._config(), indent=2))
        return [sys.executable, "-m", "taktora_trio.testing.zenoh", str(config)]

    def _config(self) -> dict[str, Any]:
        config: dict[str, Any] = {}
        for path, value in {
            "mode": "router",
            "listen/endpoints": [self.endpoint, *self.listen],
            "connect/endpoints": list(self.connect),
            "connect/timeout_ms": -1,
            "connect/exit_on_failure": False,
            "scouting/multicast/enabled": False,
            "scouting/gossip/enabled": False,
            "transport/link/tx/lease": round(self.lease * 1000),
            "transport/shared_memory/enabled": False,  # its file in /dev/shm would stay when it is killed
            **({"transport/link/tls": self.tls.config} if self.tls else {}),
            **({"transport/auth/usrpwd": self._login()} if self.users or not self.anonymous else {}),
            **self.settings,
        }.items():
            *folders, name = path.split("/")
            at = config
            for folder in folders:
                at = at.setdefault(folder, {})
            at[name] = value
        return config

    def _login(self) -> Mapping[str, str]:
        # Without a login of its own it asks nobody for one.
        users = self.users or {"nobody": secrets.token_hex()}
        file = self.folder / f"router-{self.port}.users"
        file.touch(0o600)
        file.write_text("".join(f"{user}:{password}\n" for user, password in users.items()))
        user, password = next(iter(users.items()))
        return {"dictionary_file": str(file), "user": user, "password": password}


@contextlib.asynccontextmanager
async def open_router(folder: Path, *, port: int | None = None, **options: Any) -> AsyncIterator[ZenohRouter]:
    """Run a router; `options` are the fields of `ZenohRouter`. Raises `ConfigError` if it can't start."""
    router = ZenohRouter(free_port() if port is None else port, folder, **options)
    try:
        await router.start()
        yield router
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + _PATIENCE):
            await router.stop(signal.SIGKILL)
