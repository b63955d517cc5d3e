"""Asking a run from outside to start its gateway again, or to connect at once."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from taktora_trio.errors import ConfigError
from taktora_trio.signals import REVIVE
from taktora_trio.transport.domain import Domain, Role

__all__ = ["ask_to_revive"]


def ask_to_revive(domain: Domain) -> str:
    """Ask whoever can revive the gateway of that domain; return what was asked, and of whom.

    That is the run which supervises it. It starts again a gateway that was given up, and has one that is not connected
    connect at once. A gateway that somebody else supervises is asked itself, for the second of these.

    Raises `ConfigError` if there is none of them. SIGUSR1 ends a process that does not catch it, so it only goes to one
    that does, and that still is the one that was looked at.
    """
    owner, plugin, gateway = domain.holder("owner"), domain.holder("plugin"), domain.holder("gateway")
    if not owner:
        raise ConfigError(f"no run holds domain {domain.name!r}: name the domain of one that runs, with --domain NAME")
    # In-process it holds every role; a plugin alone holds these two, and its app may use the signal otherwise.
    alone = owner == plugin != gateway
    if not alone and _signal(domain, "owner", owner):
        return (
            f"asked the run of domain {domain.name} (pid {owner}) to start its gateway again if it was given up, and"
            " else to connect at once; see its log"
        )
    if alone and gateway and _signal(domain, "gateway", gateway):
        return f"asked the gateway of domain {domain.name} (pid {gateway}) to connect at once; see its log"
    raise ConfigError(
        f"the process of domain {domain.name!r} (pid {owner}) does not supervise its gateway:"
        " start the gateway where it was started, for example by systemctl start"
    )


def _signal(domain: Domain, role: Role, pid: int) -> bool:
    """Send it to the holder of that role, if that catches it; whether it was sent."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        raise ConfigError(f"the {role} of domain {domain.name!r} (pid {pid}) has just ended") from None
    try:
        if not _catches(pid, REVIVE) or domain.holder(role) != pid:
            return False
        signal.pidfd_send_signal(fd, REVIVE)
    finally:
        os.close(fd)
    return True


def _catches(pid: int, signum: signal.Signals) -> bool:
    """Whether the process has a handler for it (proc_pid_status(5), SigCgt)."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    masks = [int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigCgt:")]
    return any(mask >> (signum - 1) & 1 for mask in masks)
