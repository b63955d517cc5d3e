"""Supervise a process: it runs in a process group of its own, is started again by policy, and never left behind."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence

import attrs
import trio

from taktora_trio.supervision.policy import Finish, GiveUp, Restart, RestartHistory, RestartPolicy

__all__ = ["ProcessExit", "stop_process", "supervise_process", "wait_for_exit"]

log = logging.getLogger(__name__)


@attrs.frozen
class ProcessExit:
    """How a process ended: `returncode` as `subprocess` has it, negative for a signal."""

    returncode: int

    @property
    def failed(self) -> bool:
        return self.returncode != 0

    def __str__(self) -> str:
        if self.returncode >= 0:
            return f"exit code {self.returncode}"
        try:
            return f"killed by {signal.Signals(-self.returncode).name}"
        except ValueError:
            return f"killed by signal {-self.returncode}"


async def supervise_process(
    name: str,
    command: Sequence[str],
    policy: RestartPolicy,
    *,
    pass_fds: Sequence[int] = (),
    env: Mapping[str, str] | None = None,
    on_start: Callable[[int], None] = lambda pid: None,
    on_exit: Callable[[ProcessExit, Restart | GiveUp | Finish], None] = lambda exit_, decision: None,
    never_restart_codes: Sequence[int] = (),
) -> ProcessExit:
    """Run `command` again and again as the policy says; return how the last run ended when it says no more.

    When cancelled, the process gets SIGTERM, then SIGKILL after `policy.stop_grace` seconds, and has always ended,
    with all of its group, when this returns. An exit code in `never_restart_codes` means that another try would end
    the same way. `on_exit` is called at once, before the delay.
    """
    history = RestartHistory(policy)
    while True:
        started = trio.current_time()
        exit_ = await _run_once(name, command, policy.stop_grace, pass_fds, env, on_start)
        if exit_.returncode in never_restart_codes:
            log.critical("%s: %s; starting it again would end the same way", name, exit_)
            on_exit(exit_, GiveUp(str(exit_)))
            return exit_
        decision = history.decide(failed=exit_.failed, started=started, now=trio.current_time())
        on_exit(exit_, decision)
        match decision:
            case Finish():
                log.info("%s: ended (%s)", name, exit_)
                return exit_
            case GiveUp(reason=reason):
                log.critical("%s: given up (%s): %s", name, exit_, reason)
                return exit_
            case Restart(delay=delay):
                log.warning("%s: ended (%s), starts again in %.2f s", name, exit_, delay)
                await trio.sleep(delay)


async def _run_once(
    name: str,
    command: Sequence[str],
    stop_grace: float,
    pass_fds: Sequence[int],
    env: Mapping[str, str] | None,
    on_start: Callable[[int], None],
) -> ProcessExit:
    # process_group=0: the terminal's Ctrl-C must reach the child once, from its supervisor, and not twice.
    process = await trio.lowlevel.open_process(
        list(command), stdin=subprocess.DEVNULL, pass_fds=pass_fds, env=env, process_group=0
    )
    log.info("%s: started, pid %d", name, process.pid)
    try:
        on_start(process.pid)
        await process.wait()
    finally:
        await stop_process(name, process, stop_grace)
    assert process.returncode is not None
    return ProcessExit(process.returncode)


async def stop_process(name: str, process: trio.Process, grace: float) -> None:
    """End a process that leads its own group, and what it left in the group: SIGTERM, `grace` seconds, SIGKILL."""
    if process.returncode is None:
        # First the act that makes the wait finite, then the shielded wait.
        _signal_group(process.pid, signal.SIGTERM)
        with trio.CancelScope(shield=True):
            with trio.move_on_after(grace):
                await process.wait()
            if process.returncode is None:
                log.warning("%s: did not stop within %.1f s, so it is killed", name, grace)
                _signal_group(process.pid, signal.SIGKILL)
                await process.wait()
        log.info("%s: stopped (%s)", name, ProcessExit(process.returncode or 0))
    _signal_group(process.pid, signal.SIGKILL)


def _signal_group(group: int, signum: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # nobody is left in it
        os.killpg(group, signum)


async def wait_for_exit(pid: int) -> None:
    """Wait until the process has ended, whoever's child it is; at once if it doesn't exist (pidfd_open(2))."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        await trio.lowlevel.wait_readable(fd)
    finally:
        os.close(fd)
