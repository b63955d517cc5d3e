"""The socket of an endpoint: at a port of this machine, at a path, or one that was inherited."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from taktora_trio.errors import ConfigError, TemporaryFailure
from taktora_trio.escaping import escaped
from taktora_trio.runners.configuration.address import Address

__all__ = ["is_local", "open_listener", "url_of"]

_BACKLOG = 64
_PRIVATE = 0o600


@contextlib.contextmanager
def open_listener(address: Address) -> Iterator[socket.socket]:
    """Yield a socket that listens at this address. What it has made of a unix socket is removed at the end.

    Raises `ConfigError` where that can't be had, and `TemporaryFailure` where it may be later, for example because
    something listens there still.
    """
    if address.path:
        with _open_unix(address) as listener:
            yield listener
        return
    with _inherited(address) if address.fd >= 0 else _open_tcp(address) as listener:
        yield listener


def is_local(listener: socket.socket) -> bool:
    """Return whether only this machine can reach it."""
    if listener.family == socket.AF_UNIX:
        return True
    return ipaddress.ip_address(str(listener.getsockname()[0]).partition("%")[0]).is_loopback


def url_of(listener: socket.socket) -> str:
    """Return where it is reached, for people."""
    name = listener.getsockname()
    if listener.family == socket.AF_UNIX:
        return f"unix:{name}"
    return f"http://[{name[0]}]:{name[1]}/" if ":" in name[0] else f"http://{name[0]}:{name[1]}/"


def _open_tcp(address: Address) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in address.host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of a run before may still close
        listener.bind((address.host, address.port))
        listener.listen(_BACKLOG)
    except OSError as exc:
        listener.close()
        raise _refusal(address, exc) from None
    return listener


@contextlib.contextmanager
def _open_unix(address: Address) -> Iterator[socket.socket]:
    path = Path(address.path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        try:
            _remove_left(path)
            listener.bind(address.path)
            path.chmod(_PRIVATE)  # nobody can connect before it listens
            listener.listen(_BACKLOG)
            made = path.lstat().st_ino
        except OSError as exc:
            raise _refusal(address, exc) from None
        try:
            yield listener
        finally:
            with contextlib.suppress(OSError):  # somebody has removed it
                if path.lstat().st_ino == made:
                    path.unlink()


def _remove_left(path: Path) -> None:
    """Remove the socket that a killed run has left. Raises `OSError` where somebody listens, or it is none."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise FileExistsError(errno.EEXIST, "there is a file of that name, which is no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trial:
        try:
            trial.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
        else:
            raise OSError(errno.EADDRINUSE, "")


def _inherited(address: Address) -> socket.socket:
    try:
        listener = socket.socket(fileno=address.fd)
    except OSError as exc:
        raise ConfigError(f"endpoint {address.text}: this process has no such socket ({exc.strerror})") from None
    if listener.type != socket.SOCK_STREAM or not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        listener.detach()
        raise ConfigError(f"endpoint {address.text}: that socket does not listen")
    listener.set_inheritable(False)
    return listener


def _refusal(address: Address, error: OSError) -> ConfigError:
    text = f"endpoint {escaped(address.text)}"
    if error.errno == errno.EADDRINUSE:
        return TemporaryFailure(f"{text}: something listens there already: stop that, or choose another one")
    if error.errno == errno.EADDRNOTAVAIL:
        return TemporaryFailure(f"{text}: this machine has no such address")
    return ConfigError(f"{text} can't be used: {error.strerror or error}")
