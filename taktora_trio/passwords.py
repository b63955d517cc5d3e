"""Keeping a password out of process lists and logs, on its way from a command line to the gateway's process."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from taktora_trio.errors import ConfigError

__all__ = ["PASSWORD_VARIABLE", "hide_password_in_arguments", "password_file", "read_password"]

PASSWORD_VARIABLE = "TAKTORA_BROKER_PASSWORD"  # noqa: S105 - the name of one


def password_file(password: str) -> tuple[int, str]:
    """A file in memory only, for an inheriting child: its descriptor, and the path by which the child can read it."""
    fd = os.memfd_create("broker-password", os.MFD_CLOEXEC)
    os.write(fd, password.encode())
    return fd, f"/proc/self/fd/{fd}"


def read_password(path: Path | None) -> str | None:
    """The password from a file (a final line break does not count), or else from the environment variable.

    Raises `ConfigError` if the file can't be read.
    """
    if path is None:
        return os.environ.get(PASSWORD_VARIABLE)
    try:
        return path.read_text().removesuffix("\n")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"the password file {path} can't be read: {exc}") from None


def hide_password_in_arguments(arguments: Sequence[str]) -> None:
    """Start this program again without the password that a broker URL on its command line shows to every `ps`.

    The password goes along in a file in memory. Returns if there is none to hide.
    """
    if any(argument.startswith("--broker-password-file") for argument in arguments):
        return  # one or the other; its error message comes later
    for index, argument in enumerate(arguments):
        url = argument.removeprefix("--broker=")
        shown = url != argument or (index > 0 and arguments[index - 1] == "--broker")
        if not shown or "@" not in url:
            continue
        try:
            password = urlsplit(url).password
        except ValueError:
            continue  # its own error message comes later
        if not password:
            continue
        fd, path = password_file(unquote(password))
        os.set_inheritable(fd, True)
        user, _, rest = url.rpartition("@")
        redacted = user[: -len(password) - 1] + "@" + rest
        replaced = [*arguments[:index], argument.removesuffix(url) + redacted, *arguments[index + 1 :]]
        python = sys.orig_argv[: len(sys.orig_argv) - len(arguments)]
        os.execv(  # noqa: S606 - this same program
            sys.executable, [*python, *replaced, "--broker-password-file", path]
        )
