"""Keeps secrets off command lines and out of environments, logs and messages, on their way to the gateway.

Passwords are secret, however they are given, and so is a URL with a password or a query. They travel in files in memory
(memfd_create(2)), which a program inherits by their descriptors. Passwords are bytes: the same ones whatever the
locale.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import sys
from collections.abc import Iterator, MutableMapping, Sequence
from pathlib import Path
from typing import TypeAlias

from taktora_trio.errors import ConfigError
from taktora_trio.escaping import escaped

__all__ = [
    "COMMANDS_WITH_PASSWORD",
    "Once",
    "carries_secret",
    "hide_secrets",
    "is_memory_file",
    "memory_file",
    "passwords_as_settings",
    "raw_memory_file",
    "read_handed_over",
    "read_once",
    "read_secret",
    "read_url",
    "variable_of",
]

Once: TypeAlias = MutableMapping[Path, bytes]
"""What was read of pipes, so that a configuration can be read again."""

COMMANDS_WITH_PASSWORD = ("run", "gateway", "forget", "doctor", "config")
"""The commands that log in somewhere, and need a password for it; and the one that says where it came from."""
_VARIABLE = re.compile("TAKTORA_(?!APP_)([A-Z0-9]+(?:_[A-Z0-9]+)*)_PASSWORD")  # what is the app's, the app needs
_MOST = 65_535  # bytes of a secret: more than a login of any protocol takes
_LARGEST = 2**20  # bytes: far more than a URL can have, so that no endless file fills the memory
_MARK = b"\xef\xbb\xbf"  # the byte order mark that some editors put in front
_FD = "/proc/self/fd/"
_NAMED = re.compile("[A-Za-z0-9][A-Za-z0-9_-]*=")  # a value for one connector


def memory_file(content: bytes, name: str) -> tuple[int, str]:
    """Write a file in memory for an inheriting child. Return its descriptor, and the path for the child."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC)
    os.write(fd, _MARK + content + b"\r\n")  # which `_read` takes away again, and nothing else
    return fd, f"{_FD}{fd}"


def raw_memory_file(content: bytes, name: str) -> tuple[int, str]:
    """Write a file in memory that has this content and nothing else. Return its descriptor, and its path."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC)
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]
    return fd, f"{_FD}{fd}"


def read_secret(path: Path, once: Once | None = None) -> bytes:
    """Return a password from a file, without the byte order mark and the final line break that an editor may add.

    `once` keeps what can't be read a second time. Raises `ConfigError` if the file can't be read, or is longer than any
    password.
    """
    password = _read(path, "the password file", once)
    if len(password) > _MOST:
        raise ConfigError(f"the password file {path} has more than {_MOST} bytes: give one with the password alone")
    return password


def read_url(argument: str, file: str, once: Once | None = None) -> str:
    """Return the URL from a command line: as it is, or from a file given as `@PATH`. `file` names it in an error.

    Bytes are taken for UTF-8 in every locale; those that are none are surrogates in the result.
    """
    content = _read(Path(argument[1:]), file, once) if argument[:1] == "@" else os.fsencode(argument)
    return content.decode("utf-8", "surrogateescape")


def variable_of(path: Path) -> str | None:
    """Return the environment variable of which `hide_secrets` has made this file, if it is one."""
    with contextlib.suppress(OSError, ValueError):
        if str(path).startswith(_FD):
            name = str(path.readlink()).removeprefix("/memfd:").partition(" ")[0]
            return name if _is_ours(name) else None
    return None


def is_memory_file(path: Path) -> bool:
    """Return whether a path is a file in memory that this process has inherited."""
    with contextlib.suppress(OSError, ValueError):
        return str(path).startswith(_FD) and str(path.readlink()).startswith("/memfd:")
    return False


def read_handed_over(path: Path) -> bytes:
    """Return the content of a file in memory. Raises `ConfigError`."""
    return _read(path, "the file in memory", None)


def read_once(path: Path, most: int, once: Once | None) -> bytes:
    """Return so much of a file; of a pipe what was read the first time, which `once` has kept. Raises `OSError`."""
    if once is not None and path in once:
        return once[path]
    with path.open("rb") as file:
        content = file.read(most)
        if once is not None and not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            once[path] = content
    return content


def carries_secret(url: str) -> bool:
    """Return whether a text is a URL with a password or a query, where tokens stand."""
    _, is_url, rest = url.partition("://")
    login, _, _ = rest.rpartition("@")
    return bool(is_url and (login.partition(":")[2] or "?" in rest))


def hide_secrets(first: Sequence[str], arguments: Sequence[str]) -> list[str]:
    """Start this program again without the secrets that its command line and environment show (proc(5)).

    The secrets go along in files in memory. `arguments` are those that were typed, and `first` come before them.
    Returns the arguments to go on with if there is nothing to hide, or if this program was not started with them.

    A variable TAKTORA_X_PASSWORD stands for the option --x-password-file, and TAKTORA_X with a URL for --x.
    """
    hidden = [_hidden(argument) for argument in arguments]
    passwords, urls = _passwords(take=True), _urls(take=True)
    if hidden == list(arguments) and not passwords and not urls:
        return hidden
    command = [*first, *hidden]
    for name, url in urls.items():
        if command and command[0] in COMMANDS_WITH_PASSWORD:
            fd, path = memory_file(url, name)
            os.set_inheritable(fd, True)
            hidden[0 if first else 1 : 0 if first else 1] = [f"--{_option_of(name)}", f"@{path}"]
    for name, password in passwords.items():
        option = f"--{_setting_of(name)}"
        if command and command[0] in COMMANDS_WITH_PASSWORD and not _is_given(option, command):  # and goes before it
            fd, path = memory_file(password, name)
            os.set_inheritable(fd, True)
            position = 0 if first else 1
            hidden[position:position] = [option, path]
    typed = len(sys.orig_argv) - len(arguments)
    if sys.executable and sys.orig_argv[typed:] == list(arguments):
        # By its full name, from which an interpreter knows what environment it is of.
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:typed], *hidden])  # noqa: S606 - this same program
    return hidden


@contextlib.contextmanager
def passwords_as_settings(*, take: bool) -> Iterator[list[tuple[str, str]]]:
    """Yield a setting for each variable TAKTORA_X_PASSWORD: its name, and the path of a file in memory.

    With `take`, the variables are gone from the environment then.
    """
    files = {_setting_of(name): memory_file(password, name) for name, password in _passwords(take=take).items()}
    urls = {_option_of(name): memory_file(url, name) for name, url in _urls(take=take).items()}
    try:
        yield [
            *((setting, path) for setting, (_, path) in files.items()),
            *((setting, f"@{path}") for setting, (_, path) in urls.items()),
        ]
    finally:
        for fd, _ in (*files.values(), *urls.values()):
            os.close(fd)


def _passwords(*, take: bool) -> dict[str, bytes]:
    found = [name for name in sorted(map(os.fsdecode, os.environb)) if _VARIABLE.fullmatch(name)]
    return {name: os.environb.pop(name.encode()) if take else os.environb[name.encode()] for name in found}


def _urls(*, take: bool) -> dict[str, bytes]:
    """Return the variables of ours that have a URL with a secret in it."""
    names = [name for name in sorted(map(os.fsdecode, os.environb)) if _is_ours(name)]
    found = [name for name in names if carries_secret(os.fsdecode(os.environb[name.encode()]))]
    return {name: os.environb.pop(name.encode()) if take else os.environb[name.encode()] for name in found}


def _is_ours(variable: str) -> bool:
    """Return whether a variable may be a setting of connectors."""
    return variable.startswith("TAKTORA_") and not variable.startswith("TAKTORA_APP_") and variable.isupper()


def _option_of(variable: str) -> str:
    return variable.removeprefix("TAKTORA_").lower().replace("_", "-")


def _setting_of(variable: str) -> str:
    return f"{_option_of(variable)}-file"


def _is_given(option: str, command: Sequence[str]) -> bool:
    """Return whether the option is there for all connectors; for one by its name, the others may need the variable."""
    for argument, following in zip(command, [*command[1:], ""], strict=True):
        name, equals, value = argument.partition("=")
        if name == option and not _NAMED.match(value if equals else following):
            return True
    return False


def _hidden(argument: str) -> str:
    """Return the argument as it may be seen: `@PATH` instead of a URL with a secret, whatever option it is for."""
    option, equals, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
    only = found[0] if (found := re.match(f"{_NAMED.pattern}(?=[^=]*://)", value)) else ""
    url = value.removeprefix(only)
    if not carries_secret(url):
        return argument
    fd, path = memory_file(os.fsencode(url), "url")
    os.set_inheritable(fd, True)
    return f"{option}{equals}{only}@{path}"


def _read(path: Path, what: str, once: Once | None) -> bytes:
    try:
        content = read_once(path, _LARGEST + 1, once)
    except (OSError, ValueError) as exc:
        raise ConfigError(f"{what} {escaped(str(path))} can't be read: {escaped(str(exc))}") from None
    if len(content) > _LARGEST:
        raise ConfigError(f"{what} {path} has more than {_LARGEST} bytes")
    if str(path).startswith(_FD) and str(path.readlink()).startswith("/memfd:"):
        os.set_inheritable(int(path.name), False)  # what we start from now on has no use for it
    content = content.removeprefix(_MARK)
    return content[: -2 if content.endswith(b"\r\n") else -1 if content.endswith(b"\n") else None]
