"""Asks a run from outside to start its gateway again, or to connect at once; and the run's answer."""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Iterator

from taktora_trio.errors import ConnectorError
from taktora_trio.runners.parts.asking import find_supervising
from taktora_trio.runners.parts.requests import Answer, open_request
from taktora_trio.transport.domain import Domain

__all__ = ["HELD", "STARTS_AGAIN", "answer", "ask_to_revive"]

STARTS_AGAIN = "the gateway was given up, and starts again"
HELD = "the gateway was stopped by an operator: `taktora-trio start` starts it again"

_PIPE = "revived"  # in the domain's folder, while somebody waits for an answer
_PATIENCE = 3.0  # seconds
_LIMIT = 4096  # bytes, which a pipe takes in one piece (PIPE_BUF, pipe(7))


def ask_to_revive(domain: Domain) -> Answer:
    """Ask the process that can revive the domain's gateway; return a line that says which it was, and its answer.

    The code is 1 if the gateway stays stopped, or if nobody has answered.

    Usually that is the run which supervises the gateway: it starts the gateway again if it was given up, and else has
    it connect at once. A gateway that is supervised by another program is asked itself, and can only connect at once.

    Raises `NoSuchDomain` if neither runs.
    """
    with (
        find_supervising(domain) as asked,
        _open_answers(domain) as answers,
        open_request(domain, "revive", half="gateway"),  # by which the run knows who asks
    ):
        asked.signal()
        text = _read(answers)
    told = f"it has not answered within {_PATIENCE:g} s, see its log" if text is None else text
    line = f"asked the {asked.name} of domain {domain.name} (pid {asked.pid}): {told}"
    return Answer(1 if text in (None, HELD) else 0, (line,))


def answer(domain: Domain, text: str) -> None:
    """Answer whoever has asked, if anybody waits for it. Never waits."""
    with contextlib.suppress(OSError, ConnectorError):
        fd = os.open(domain.root / _PIPE, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode(errors="backslashreplace")[: _LIMIT - 1] + b"\n")
        finally:
            os.close(fd)


@contextlib.contextmanager
def _open_answers(domain: Domain) -> Iterator[int]:
    """Yield the end of the pipe that is read."""
    path = domain.root / _PIPE
    with contextlib.suppress(FileExistsError):  # left by one who was killed, or another one asks too
        os.mkfifo(path, 0o600)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            yield fd
        finally:
            os.close(fd)
    finally:
        path.unlink(missing_ok=True)


def _read(fd: int) -> str | None:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    if poll.poll(_PATIENCE * 1000):
        return os.read(fd, _LIMIT).decode(errors="replace").partition("\n")[0]
    return None
