"""The token that whoever asks an endpoint has to give, and where one is needed."""

from __future__ import annotations

import socket
from pathlib import Path

from taktora_trio.errors import ConfigError
from taktora_trio.runners.endpoint.listening import is_local

__all__ = ["check_token", "read_token"]

_SHORTEST, _LONGEST = 16, 4096  # characters of a token


def read_token(file: str | None) -> str | None:
    """Return the token in this file; `None` without one. Raises `ConfigError` if it can't be read, or has no token."""
    if file is None:
        return None
    path = Path(file)
    try:
        with path.open("rb") as opened:
            content = opened.read(_LONGEST + 3)
    except OSError as exc:
        raise ConfigError(f"--endpoint-token-file {path} can't be read: {exc.strerror}") from None
    token = content.removesuffix(b"\n").removesuffix(b"\r")
    if not _SHORTEST <= len(token) <= _LONGEST or not all(0x21 <= sign <= 0x7E for sign in token):
        raise ConfigError(
            f"--endpoint-token-file {path}: a token is {_SHORTEST} to {_LONGEST} visible ASCII characters in one line:"
            " `openssl rand -hex 32` makes one"
        )
    return token.decode("ascii")


def check_token(listener: socket.socket, token: str | None, address: str) -> None:
    """Raise `ConfigError` if others can reach it, and would be asked for no token."""
    if token is None and not is_local(listener):
        raise ConfigError(
            f"endpoint {address}: other machines can reach that address, so it needs a token:"
            " give --endpoint-token-file FILE, or listen on 127.0.0.1 or unix:PATH"
        )
