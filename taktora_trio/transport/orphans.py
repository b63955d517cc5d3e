"""Orphans, halves whose supervisor was killed. They end by themselves; one that does not is ended."""

from __future__ import annotations

import contextlib
import logging
import os
import signal

import trio
from trio_util import move_on_when

from taktora_trio.processes.patience import sleep_running
from taktora_trio.processes.pidfd import wait_for_exit
from taktora_trio.transport.domain import HALVES, ROLES, Domain, Role

__all__ = ["end_orphan", "wait_for_orphans"]

log = logging.getLogger(__name__)


async def wait_for_orphans(domain: Domain, seconds: float = 5.0) -> None:
    """Before a run of both halves: let those of a killed run end, which they do by themselves.

    Raises `DomainInUse` if a half goes on after `seconds`, or if the domain has an owner.
    """
    if domain.holder("owner") is None:
        for role in HALVES:
            if pid := domain.holder(role):
                log.info(
                    "domain %s: waiting for the %s of the run before (pid %d) to end",
                    domain.name,
                    role,
                    pid,
                    extra={"event": "orphan-awaited", "domain": domain.name, "half": role},
                )
                async with move_on_when(sleep_running, seconds):
                    await wait_for_exit(pid)
    for role in ROLES:
        if domain.holder(role) is not None:
            raise domain.in_use(role)
    await trio.lowlevel.checkpoint()


async def end_orphan(domain: Domain, role: Role, seconds: float = 5.0) -> None:
    """As a half that has left: see to it that the other half ends, too.

    It does by itself, unless it hangs or is stopped; then it is killed after `seconds`, and what it used is removed.
    """
    if (pid := domain.holder(role)) is None:
        return
    async with move_on_when(sleep_running, seconds):
        await wait_for_exit(pid)
    if domain.holder(role) == pid:
        log.error(
            "domain %s: the %s (pid %d) does not end without its supervisor, so it is killed",
            domain.name,
            role,
            pid,
            extra={"event": "orphan-killed", "domain": domain.name, "half": role},
        )
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        await wait_for_exit(pid)
    domain.remove_if_unused()  # it may not have left as it should
