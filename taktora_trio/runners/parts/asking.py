"""Asks a run of this machine for something: the process that supervises a domain's gateway gets a signal."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import msgspec

from taktora_trio.errors import ConfigError
from taktora_trio.runners.this_process.signals import REVIVE
from taktora_trio.transport.domain import Domain, Role
from taktora_trio.vitals.reading import no_such

__all__ = ["Supervising", "catches", "find_supervising", "open_process"]


class Supervising(msgspec.Struct, frozen=True):
    """A process that supervises a domain's gateway: `run`, or `gateway` for one that another program supervises."""

    domain: Domain
    role: Role
    pid: int
    pidfd: int

    @property
    def name(self) -> str:
        return "gateway" if self.role == "gateway" else "run"

    def signal(self) -> None:
        """Send SIGUSR1. It ends a process that does not catch it, so it only goes to one that does, and that still is
        the one that was looked at. Raises `ConfigError` for another one.
        """
        if not catches(self.pid, REVIVE) or self.domain.holder(self.role) != self.pid:
            if self.domain.holder("gateway") == self.pid:
                raise ConfigError(
                    f"domain {self.domain.name!r} is that of a program (pid {self.pid}) which runs its gateway by"
                    " itself, as by open_deployment, and can't be asked: start that program again"
                )
            raise _unsupervised(self.domain, self.pid)
        signal.pidfd_send_signal(self.pidfd, REVIVE)


@contextlib.contextmanager
def find_supervising(domain: Domain) -> Iterator[Supervising]:
    """Yield the run that supervises the domain's gateway, or else the gateway. Raises `NoSuchDomain`.

    Raises `ConfigError` for a gateway that nobody supervises.
    """
    owner, plugin, gateway = domain.holder("owner"), domain.holder("plugin"), domain.holder("gateway")
    if owner is None and gateway is None:
        raise no_such(domain)
    # In-process it holds every role; a plugin alone holds these two, and its app may use the signal otherwise.
    alone = owner is None or owner == plugin != gateway
    role: Role = "gateway" if alone else "owner"
    pid = gateway if alone else owner
    if not pid:
        raise _unsupervised(domain, owner or 0)
    with open_process(pid, f"the {role} of domain {domain.name!r}") as fd:
        yield Supervising(domain, role, pid, fd)


@contextlib.contextmanager
def open_process(pid: int, what: str) -> Iterator[int]:
    """Yield a descriptor of a process (pidfd_open(2)). Raises `ConfigError`, which says `what`, if it has ended."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        raise ConfigError(f"{what} (pid {pid}) has just ended: try again once it runs") from None
    try:
        yield fd
    finally:
        os.close(fd)


def _unsupervised(domain: Domain, pid: int) -> ConfigError:
    return ConfigError(
        f"the process of domain {domain.name!r} (pid {pid}) does not supervise its gateway:"
        " start the gateway where it was started, for example by systemctl start"
    )


def catches(pid: int, signum: signal.Signals) -> bool:
    """Return whether the process has a handler for the signal (proc_pid_status(5), SigCgt)."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    masks = [int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigCgt:")]
    return any(mask >> (signum - 1) & 1 for mask in masks)
