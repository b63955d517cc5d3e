"""Keeping what is secret off command lines and out of environments, logs and messages, on its way to the gateway.

Secret are the broker's password, however it is given, and a URL with a password or a query. They travel in files in
memory (memfd_create(2)), which a program inherits by their descriptors. Passwords are bytes (MQTT 5, section 3.1.3.6):
the same ones whatever the locale.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from taktora_trio.errors import ConfigError
from taktora_trio.escaping import escaped

__all__ = [
    "PASSWORD_VARIABLE",
    "TAKE_PASSWORD",
    "hide_secrets",
    "is_from_variable",
    "password_file",
    "read_password",
    "read_url",
    "url_file",
]

PASSWORD_VARIABLE = "TAKTORA_BROKER_PASSWORD"  # noqa: S105 - the name of one
_PASSWORD_OPTION = "--broker-password-file"  # noqa: S105 - the name of an option
TAKE_PASSWORD = ("run", "gateway", "forget")
"""The commands that have a use for a password: those that log in at a broker."""
_LARGEST = 2**20  # bytes: far more than MQTT or a URL can have, so that no endless file fills the memory
_MARK = b"\xef\xbb\xbf"  # the byte order mark that some editors put in front
_FD = "/proc/self/fd/"


def password_file(password: bytes, name: str = "broker-password") -> tuple[int, str]:
    """A file in memory for an inheriting child: its descriptor, and the path by which the child can read it."""
    return _in_memory(name, password)


def url_file(url: str) -> tuple[int, str]:
    """The same for the broker's URL; what is returned as its path is a value of `--broker`."""
    fd, path = _in_memory("broker-url", url.encode("utf-8", "surrogateescape"))
    return fd, f"@{path}"


def read_password(path: Path) -> bytes:
    """The password from a file, without the byte order mark and the final line break that an editor may have added.

    Raises `ConfigError` if the file can't be read, or has more than MQTT can send.
    """
    password = _read(path, "the password file")
    if len(password) > 65_535:
        raise ConfigError(f"the password file {path} has more than 65535 bytes, where MQTT ends")
    return password


def read_url(argument: str) -> str:
    """The broker's URL from a command line: as it is, or `@PATH` of a file that has it.

    Bytes are taken for UTF-8 in every locale; those that are none are surrogates in the result.
    """
    content = _read(Path(argument[1:]), "the file of the broker URL") if argument[:1] == "@" else os.fsencode(argument)
    return content.decode("utf-8", "surrogateescape")


def is_from_variable(path: Path) -> bool:
    """Whether this is the file that `hide_secrets` has made of the environment variable."""
    with contextlib.suppress(OSError):
        return str(path).startswith(_FD) and str(path.readlink()).startswith(f"/memfd:{PASSWORD_VARIABLE} ")
    return False


def hide_secrets(first: Sequence[str], arguments: Sequence[str]) -> list[str]:
    """Start this program again without what its command line and environment show of secrets (proc(5)).

    They go along in files in memory. `arguments` is what was typed, `first` what comes before it. Returns the
    arguments to go on with, if there is nothing to hide, or if they are not what this program was started with.
    """
    hidden = [_hidden(argument) for argument in arguments]
    password = os.environb.pop(PASSWORD_VARIABLE.encode(), None)
    if hidden == list(arguments) and password is None:
        return hidden
    command = [*first, *hidden]
    is_given = any(argument.partition("=")[0] == _PASSWORD_OPTION for argument in command)  # and goes before it
    if password is not None and command and command[0] in TAKE_PASSWORD and not is_given:
        fd, path = password_file(password, PASSWORD_VARIABLE)
        os.set_inheritable(fd, True)
        position = 0 if first else 1
        hidden[position:position] = [_PASSWORD_OPTION, path]
    typed = len(sys.orig_argv) - len(arguments)
    if sys.executable and sys.orig_argv[typed:] == list(arguments):
        # By its full name, from which an interpreter knows what environment it is of.
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:typed], *hidden])  # noqa: S606 - this same program
    return hidden


def _hidden(argument: str) -> str:
    """The argument as it may be seen: `@PATH` instead of a URL with a secret, whatever option it is for."""
    option, equals, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
    _, is_url, rest = value.partition("://")
    login, _, _ = rest.rpartition("@")
    if not is_url or not (login.partition(":")[2] or "?" in rest):
        return argument
    fd, path = url_file(os.fsencode(value).decode("utf-8", "surrogateescape"))
    os.set_inheritable(fd, True)
    return f"{option}{equals}{path}"


def _in_memory(name: str, content: bytes) -> tuple[int, str]:
    fd = os.memfd_create(name, os.MFD_CLOEXEC)
    os.write(fd, _MARK + content + b"\r\n")  # which `_read` takes away again, and nothing else
    return fd, f"{_FD}{fd}"


def _read(path: Path, what: str) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except (OSError, ValueError) as exc:
        raise ConfigError(f"{what} {escaped(str(path))} can't be read: {escaped(str(exc))}") from None
    if len(content) > _LARGEST:
        raise ConfigError(f"{what} {path} has more than {_LARGEST} bytes")
    if str(path).startswith(_FD) and str(path.readlink()).startswith("/memfd:"):
        os.set_inheritable(int(path.name), False)  # what we start from now on has no use for it
    content = content.removeprefix(_MARK)
    return content[: -2 if content.endswith(b"\r\n") else -1 if content.endswith(b"\n") else None]
