"""Where an endpoint listens: a port of this machine, a unix socket, or a socket that was inherited."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import re
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec

from taktora_trio.errors import ConfigError
from taktora_trio.escaping import escaped

__all__ = ["Address", "is_local", "open_listener", "parse_address", "url_of"]

_LONGEST = 107  # bytes of a unix socket's path (unix(7))
_BACKLOG = 64
_TCP = re.compile(r"(?:\[(?P<six>[^]]*)\]|(?P<host>[^:]*)):(?P<port>\d{1,5})")
_FORMS = "give HOST:PORT with an IP address or localhost, unix:PATH, or fd:NUMBER"
_PRIVATE = 0o600


class Address(msgspec.Struct, frozen=True):
    """One of the three: a host and a port, a path, or a descriptor."""

    text: str
    """As it was given."""
    host: str = ""
    port: int = 0
    path: str = ""
    fd: int = -1


def parse_address(text: str) -> Address:
    """Return the address that a text stands for: `127.0.0.1:9464`, `[::1]:9464`, `unix:PATH`, `fd:3`.

    A port 0 is any that is free. Raises `ConfigError`.
    """
    shown = escaped(text)
    kind, _, rest = text.partition(":")
    if kind == "unix":
        if not rest or "\0" in rest or len(os.fsencode(rest)) > _LONGEST:
            raise ConfigError(f"{shown}: a unix socket needs a path of 1 to {_LONGEST} bytes")
        return Address(text, path=rest)
    if kind == "fd":
        if not rest.isdecimal() or len(rest) > 9:
            raise ConfigError(f"{shown}: the number of a descriptor follows after `fd:`, as in fd:3")
        return Address(text, fd=int(rest))
    match = _TCP.fullmatch(text)
    if match is None:
        raise ConfigError(f"{shown!r} is no address: {_FORMS}, for example 127.0.0.1:9464")
    host, port = match["six"] if match["six"] is not None else match["host"], int(match["port"])
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        raise ConfigError(f"{shown}: {escaped(host)!r} is no IP address: {_FORMS}") from None
    if port > 65535:
        raise ConfigError(f"{shown}: a port is at most 65535")
    return Address(text, host=str(address), port=port)


@contextlib.contextmanager
def open_listener(address: Address) -> Iterator[socket.socket]:
    """Yield a socket that listens at this address. What it has made of a unix socket is removed at the end.

    Raises `ConfigError` where that can't be had, for example because something listens there already.
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
        return ConfigError(f"{text}: something listens there already: stop that, or choose another one")
    if error.errno == errno.EADDRNOTAVAIL:
        return ConfigError(f"{text}: this machine has no such address")
    return ConfigError(f"{text} can't be used: {error.strerror or error}")
