"""Asks a run from outside to start its gateway again, or to connect at once; and the run's answer."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Iterator
from pathlib import Path

from taktora_trio.errors import ConfigError, ConnectorError
from taktora_trio.runners.this_process.signals import REVIVE
from taktora_trio.transport.domain import Domain, Role

__all__ = ["STARTS_AGAIN", "answer", "ask_to_revive"]

STARTS_AGAIN = "the gateway was given up, and starts again"

_PIPE = "revived"  # in the domain's folder, while somebody waits for an answer
_PATIENCE = 3.0  # seconds
_LIMIT = 4096  # bytes, which a pipe takes in one piece (PIPE_BUF, pipe(7))


def ask_to_revive(domain: Domain) -> str:
    """Ask the process that can revive the domain's gateway; return a line that says which it was, and its answer.

    Usually that is the run which supervises the gateway: it starts the gateway again if it was given up, and else has
    it connect at once. A gateway that is supervised by another program is asked itself, and can only connect at once.

    Raises `ConfigError` if neither runs. SIGUSR1 ends a process that does not catch it, so it only goes to one
    that does, and that still is the one that was looked at.
    """
    owner, plugin, gateway = domain.holder("owner"), domain.holder("plugin"), domain.holder("gateway")
    if not owner:
        raise ConfigError(f"no run holds domain {domain.name!r}: name the domain of one that runs, with --domain NAME")
    # In-process it holds every role; a plugin alone holds these two, and its app may use the signal otherwise.
    alone = owner == plugin != gateway
    with _open_answers(domain) as answers:
        if not alone and _signal(domain, "owner", owner):
            return f"asked the run of domain {domain.name} (pid {owner}): {_read(answers)}"
        if alone and gateway and _signal(domain, "gateway", gateway):
            return f"asked the gateway of domain {domain.name} (pid {gateway}): {_read(answers)}"
    raise ConfigError(
        f"the process of domain {domain.name!r} (pid {owner}) does not supervise its gateway:"
        " start the gateway where it was started, for example by systemctl start"
    )


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


def _read(fd: int) -> str:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    if poll.poll(_PATIENCE * 1000):
        return os.read(fd, _LIMIT).decode(errors="replace").partition("\n")[0]
    return f"it has not answered within {_PATIENCE:g} s, see its log"


def _signal(domain: Domain, role: Role, pid: int) -> bool:
    """Send the signal to the holder of the role, if it has a handler. Return whether it was sent."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        raise ConfigError(
            f"the {role} of domain {domain.name!r} (pid {pid}) has just ended: try again once it runs"
        ) from None
    try:
        if not _catches(pid, REVIVE) or domain.holder(role) != pid:
            return False
        signal.pidfd_send_signal(fd, REVIVE)
    finally:
        os.close(fd)
    return True


def _catches(pid: int, signum: signal.Signals) -> bool:
    """Return whether the process has a handler for the signal (proc_pid_status(5), SigCgt)."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    masks = [int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigCgt:")]
    return any(mask >> (signum - 1) & 1 for mask in masks)
