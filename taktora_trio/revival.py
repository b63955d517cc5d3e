"""Asking a run from outside to start the gateway again that it has given up."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from taktora_trio.errors import ConfigError
from taktora_trio.signals import REVIVE
from taktora_trio.transport.domain import Domain

__all__ = ["ask_to_revive"]


def ask_to_revive(domain: Domain) -> int:
    """Ask the run of that domain to revive its gateway; return its process id. A gateway that works is left alone.

    Raises `ConfigError` if there is no run, or what is there does not supervise its gateway. SIGUSR1 ends a process
    that does not catch it, so it only goes to one that does, and that still is the one that was looked at.
    """
    pid = domain.holder("owner")
    if not pid:
        raise ConfigError(f"no run holds domain {domain.name!r}: name the domain of one that runs, with --domain NAME")
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        raise ConfigError(f"the run of domain {domain.name!r} (pid {pid}) has just ended") from None
    try:
        # In-process it holds every role; a plugin alone holds these two, and its app may use the signal otherwise.
        alone = domain.holder("plugin") == pid != domain.holder("gateway")
        if alone or not _catches(pid, REVIVE) or domain.holder("owner") != pid:
            raise ConfigError(
                f"the process of domain {domain.name!r} (pid {pid}) does not supervise its gateway:"
                " start the gateway where it was started, for example by systemctl start"
            )
        signal.pidfd_send_signal(fd, REVIVE)
    finally:
        os.close(fd)
    return pid


def _catches(pid: int, signum: signal.Signals) -> bool:
    """Whether the process has a handler for it (proc_pid_status(5), SigCgt)."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    masks = [int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigCgt:")]
    return any(mask >> (signum - 1) & 1 for mask in masks)
