"""Asks the library for what only it knows, by a short process of its own: a supervisor and an app have no Zenoh."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
from collections.abc import Mapping
from typing import Any

import msgspec

from taktora_trio.connectors.zenoh.configuring import one_line
from taktora_trio.errors import ConfigError
from taktora_trio.processes import interpreter

__all__ = ["Answer", "Question", "ask", "check_installed"]

_START = 20.0  # seconds for the process to start, on a busy machine
_LOGGED = re.compile(r"\b(?:WARN|ERROR)\b.*?Unable to connect to (?P<where>[^ !]+)! (?P<why>.+)")
_COLOR = re.compile(r"\x1b\[[0-9;]*m")


class Question(msgspec.Struct, frozen=True, kw_only=True):
    text: str
    """Zenoh's own configuration, as JSON5."""
    values: Mapping[str, Any]
    """What is set in it, by its place."""
    open: bool = False
    """If true, join the network with it."""
    trial: str = ""
    """If not empty, put messages to this key and see whether they come to another node."""
    scout: float = 0.0
    """If not 0, look around for so many seconds, instead."""


class Answer(msgspec.Struct, frozen=True):
    version: str = ""
    error: str = ""
    """Why the library refuses the configuration, or could not join."""
    mode: str | None = None
    """The mode that the file has; `None` if it has none."""
    connect: tuple[str, ...] = ()
    """The endpoints to connect to."""
    routers: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()
    put: int = 0
    came: int = 0
    """So many messages were put, and came."""
    found: tuple[str, ...] = ()
    """Who was found by scouting."""
    failures: tuple[str, ...] = ()
    """What the library has logged of connections that it could not make."""


def check_installed() -> None:
    """Raise `ConfigError` if the library is not there. It is not imported for that."""
    if importlib.util.find_spec("zenoh") is None:
        raise ConfigError("the Zenoh connector needs eclipse-zenoh: pip install 'taktora-trio[zenoh]'")


def ask(question: Question, within: float = 0.0) -> Answer:
    """Return the library's answer. It may take `within` seconds, besides the start. For a worker thread.

    Raises `ConfigError` if there is none.
    """
    check_installed()
    command = interpreter.program(__name__)
    environment = {**os.environ, **interpreter.environment(), "RUST_LOG": "zenoh=warn", "RUST_BACKTRACE": "0"}
    try:
        done = subprocess.run(
            command,
            input=msgspec.json.encode(question),
            capture_output=True,
            env=environment,
            timeout=_START + within,
            check=False,
        )
        *logged, last = done.stdout.decode(errors="replace").strip().splitlines() or [""]
        answer = msgspec.convert(json.loads(last), Answer)
    except subprocess.TimeoutExpired:
        raise ConfigError(f"zenoh did not answer within {_START + within:g} s: look at this machine's load") from None
    except (OSError, ValueError, msgspec.ValidationError):
        said = one_line(done.stderr.decode(errors="replace").strip().rpartition("\n")[2])
        raise ConfigError(f"zenoh can't be asked, for its process ended with code {done.returncode}: {said}") from None
    failures = [found["why"] for line in logged if (found := _LOGGED.search(_COLOR.sub("", line)))]
    return msgspec.structs.replace(
        answer,
        error=one_line(answer.error) if answer.error else "",
        failures=tuple(dict.fromkeys(map(one_line, failures))),
    )
