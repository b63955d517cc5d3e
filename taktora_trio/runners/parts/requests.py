"""Requests to a run, each with a named pipe for what is answered: in the domain's folder, while somebody waits.

Whoever asks makes the pipe, and then sends the signal of `asking`. The run first says how long it may take, so that
nobody waits for one that hangs, and then what has come of it. No end of a pipe is ever waited for by the run.
"""

from __future__ import annotations

import contextlib
import os
import select
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from taktora_trio.errors import ConfigError, ConnectorError
from taktora_trio.transport.domain import Domain

__all__ = ["Answer", "Answers", "Request", "open_request", "take_requests"]

_PREFIX = "reload-"
_SOON = 3.0  # seconds for the first word
_LIMIT = 60 * 1024  # bytes of what is answered: a pipe takes them without a reader (pipe(7))
_MOST = 16  # requests that are taken at once


class Expect(msgspec.Struct, frozen=True, tag=True):
    """The run has begun, or will when it is done with another request."""

    seconds: float


class Answer(msgspec.Struct, frozen=True, tag=True):
    """What has come of a request."""

    code: int
    """The exit code of the command that asked."""
    lines: tuple[str, ...]


_decode = msgspec.json.Decoder(Expect | Answer).decode
_encode = msgspec.json.Encoder().encode


class Request:
    """The run's end of a pipe."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def expect(self, seconds: float) -> None:
        """Say that an answer comes within so many seconds."""
        self._write(Expect(seconds))

    def answer(self, answer: Answer) -> None:
        """Answer, and be done with it."""
        self._write(answer)
        os.close(self._fd)

    def _write(self, message: Expect | Answer) -> None:
        line = _encode(message)
        if len(line) > _LIMIT and isinstance(message, Answer):
            line = _encode(Answer(message.code, ("it has said more than fits here: see its log",)))
        with contextlib.suppress(OSError):  # nobody waits any more
            os.write(self._fd, line + b"\n")


def take_requests(domain: Domain) -> list[Request]:
    """Take what somebody waits for now."""
    taken = []
    with contextlib.suppress(OSError, ConnectorError):
        for path in sorted(domain.root.glob(f"{_PREFIX}*"))[:_MOST]:
            try:
                fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
            except OSError:  # left by one who was killed
                path.unlink(missing_ok=True)
                continue
            path.unlink(missing_ok=True)  # so it is taken once
            if stat.S_ISFIFO(os.fstat(fd).st_mode):
                taken.append(Request(fd))
            else:
                os.close(fd)
    return taken


class Answers:
    """The end of whoever asks."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._read = b""

    def wait(self, pidfd: int) -> Answer | None:
        """Wait for the answer of the process of this descriptor; `None` if it has ended, or has not kept its word."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        poll.register(pidfd, select.POLLIN)
        until = time.monotonic() + _SOON
        while (left := until - time.monotonic()) > 0:
            ready = {fd for fd, _ in poll.poll(left * 1000)}
            if self._fd in ready:
                self._read += os.read(self._fd, _LIMIT)
            *lines, self._read = self._read.split(b"\n")
            for line in lines:
                match _decode(line):
                    case Expect(seconds=seconds):
                        until = time.monotonic() + seconds
                    case Answer() as answer:
                        return answer
            if ready == {pidfd}:
                return None
        return None


@contextlib.contextmanager
def open_request(domain: Domain) -> Iterator[Answers]:
    """Make the pipe. Raises `ConfigError` if nobody runs any more."""
    path: Path = domain.root / f"{_PREFIX}{os.urandom(8).hex()}"
    try:
        os.mkfifo(path, 0o600)
    except FileNotFoundError:
        raise ConfigError(f"the run of domain {domain.name!r} has just ended: try again once it runs") from None
    try:
        # For both ends, so that it has no end of file while nobody writes.
        fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            yield Answers(fd)
        finally:
            os.close(fd)
    finally:
        path.unlink(missing_ok=True)
