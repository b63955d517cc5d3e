"""Requests to a run, each with a named pipe for what is answered: in the domain's folder, while somebody waits.

Whoever asks makes the pipe, whose name says what is asked for, and then sends the signal of `asking`. The run first
says how long it may take, so that nobody waits for one that hangs, and then what has come of it. No end of a pipe is
ever waited for by the run.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TypeAlias, cast, get_args

import msgspec

from taktora_trio.errors import ConfigError, ConnectorError
from taktora_trio.escaping import escaped
from taktora_trio.transport.domain import Domain
from taktora_trio.transport.folder import ASKED

__all__ = ["Answer", "Answers", "Asked", "Request", "Verb", "open_request", "take_requests"]

Verb: TypeAlias = Literal["reload", "revive", "stop", "start", "restart", "log-level"]
_NAME = re.compile(r"ask~([a-z-]+)~([a-z]*)~([a-z]*)~(\d{1,5})~(\d{1,10})~[0-9a-f]{16}")
_COMMAND = 300  # characters of a command line that are shown
_SOON = 3.0  # seconds for the first word
_LIMIT = 60 * 1024  # bytes of what is answered: a pipe takes them without a reader (pipe(7))
_MOST = 16  # requests that are taken at once


class Asked(msgspec.Struct, frozen=True):
    """What somebody asks for, and who that is."""

    verb: Verb
    half: str = ""
    """The half that is meant; empty for the run."""
    what: str = ""
    """What else the verb needs to know: the level of the log."""
    seconds: int = 30
    """How long it may take."""
    pid: int = 0
    """The process that asks, by what it says."""
    uid: int = -1
    """The user whose process it is, by what the kernel says."""

    def __str__(self) -> str:
        of = f" of the {self.half}" if self.half else ""
        to = f" {self.what}" if self.what else ""
        return f"{self.verb}{to}{of}, asked for by uid {self.uid}, pid {self.pid} ({_command(self.pid, self.uid)})"


class Expect(msgspec.Struct, frozen=True, tag=True):
    """The run has begun, or will when it is done with another request."""

    seconds: float


class Answer(msgspec.Struct, frozen=True, tag=True):
    """What has come of a request."""

    code: int
    """The exit code of the command that asked."""
    lines: tuple[str, ...]
    ends: bool = False
    """True if the process that answers ends by it."""


_decode = msgspec.json.Decoder(Expect | Answer).decode
_encode = msgspec.json.Encoder().encode


class Request:
    """The run's end of a pipe."""

    def __init__(self, fd: int, asked: Asked) -> None:
        self._fd = fd
        self.asked = asked

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
        for path in sorted(domain.root.glob(f"{ASKED}*"))[:_MOST]:
            try:
                fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
            except OSError:  # left by one who was killed
                path.unlink(missing_ok=True)
                continue
            path.unlink(missing_ok=True)  # so it is taken once
            of = os.fstat(fd)
            asked = _read(path.name, of.st_uid)
            if asked is not None and stat.S_ISFIFO(of.st_mode):
                taken.append(Request(fd, asked))
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
                try:
                    said = _decode(line)
                except msgspec.MsgspecError:  # of another version, or broken
                    return None
                if isinstance(said, Answer):
                    return said
                until = time.monotonic() + said.seconds
            if ready == {pidfd}:
                return None
        return None


def _read(name: str, uid: int) -> Asked | None:
    """Return what the name of a pipe asks for; `None` if it makes no sense."""
    found = _NAME.fullmatch(name)
    if found is None or found[1] not in get_args(Verb):
        return None
    return Asked(cast(Verb, found[1]), found[2], found[3], int(found[4]), int(found[5]), uid)


def _command(pid: int, uid: int) -> str:
    """Return the command line of who asks, if that process is of this user."""
    try:
        of, line = Path(f"/proc/{pid}").stat().st_uid, Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return "which has ended"
    if of != uid:
        return "which is another user's"
    return escaped(" ".join(word.decode(errors="replace") for word in line.split(b"\0") if word), _COMMAND)


@contextlib.contextmanager
def open_request(
    domain: Domain, verb: Verb = "reload", *, half: str = "", what: str = "", seconds: float = 30
) -> Iterator[Answers]:
    """Make the pipe. Raises `ConfigError` if nobody runs any more."""
    asked = f"{verb}~{half}~{what}~{min(99999, round(seconds))}~{os.getpid()}"
    path: Path = domain.root / f"{ASKED}{asked}~{os.urandom(8).hex()}"
    made = path.with_name(f".{path.name}")  # until it is open here: who takes requests removes one that nobody has open
    try:
        os.mkfifo(made, 0o600)
    except FileNotFoundError:
        raise ConfigError(f"the run of domain {domain.name!r} has just ended: try again once it runs") from None
    try:
        # For both ends, so that it has no end of file while nobody writes.
        fd = os.open(made, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            made.rename(path)
            yield Answers(fd)
        finally:
            os.close(fd)
    finally:
        made.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
