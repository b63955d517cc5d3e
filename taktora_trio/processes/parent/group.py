"""A child process and the group that it leads: how it is signalled, stopped, and spoken of."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from typing import Protocol

import trio
from trio_util import move_on_when

from taktora_trio.processes.patience import sleep_running

__all__ = ["Child", "describe", "exit_code", "signal_group", "stop_process"]

log = logging.getLogger(__name__)


class Child(Protocol):
    """A process that was started. Like `trio.Process`, which is one."""

    @property
    def pid(self) -> int: ...

    @property
    def returncode(self) -> int | None: ...

    async def wait(self) -> int: ...


async def stop_process(name: str, child: Child, grace: float) -> None:
    """End a process that leads its own group, and what it left in the group: SIGTERM, `grace` seconds, SIGKILL."""
    if child.returncode is None:
        # First the act that makes the wait finite, then the shielded wait.
        signal_group(child.pid, signal.SIGTERM)
        with trio.CancelScope(shield=True):
            async with move_on_when(sleep_running, grace):
                await child.wait()
            if child.returncode is None:
                log.warning(
                    "%s: did not stop within %.1f s, so it is killed",
                    name,
                    grace,
                    extra={"event": "process-stop-forced", "half": name},
                )
                signal_group(child.pid, signal.SIGKILL)
                await child.wait()
        log.info(
            "%s: stopped (%s)", name, describe(child.returncode or 0), extra={"event": "process-stopped", "half": name}
        )
    signal_group(child.pid, signal.SIGKILL)


def signal_group(group: int, signum: signal.Signals) -> None:
    """Send a signal to every process of a group, if any is left in it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signum)


def exit_code(pid: int) -> int:
    """Return the exit code of a child that has ended, negative for a signal, and leave it to be waited for."""
    end = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert end is not None
    return end.si_status if end.si_code == os.CLD_EXITED else -end.si_status


def describe(returncode: int) -> str:
    """Say how a process ended; a negative `returncode` is a signal's."""
    if returncode >= 0:
        return f"exit code {returncode}"
    try:
        return f"killed by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"killed by signal {-returncode}"
