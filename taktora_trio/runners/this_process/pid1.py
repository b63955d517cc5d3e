"""Process 1 of a container has duties of its own, which are left to a process that does nothing else."""

from __future__ import annotations

import os
import signal

__all__ = ["leave_pid_1"]


def leave_pid_1() -> None:
    """If this is process 1, fork: return in the child, while process 1 stays behind and ends as the child does.

    Whoever loses its parent becomes a child of process 1, which must wait for it. A process that runs an app can't: it
    does not know the app's own children from others. Besides, the kernel does not end process 1 by a signal that has no
    handler (pid_namespaces(7)), which is how a hung process ends itself.

    Call it before there are threads. Process 1 stays what it is where somebody listens to it at a notify socket, for it
    may listen to no other (systemd.service(5), NotifyAccess=).
    """
    if os.getpid() != 1 or "NOTIFY_SOCKET" in os.environ:
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    child = os.fork()
    if child:
        os._exit(_serve(child))
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(child: int) -> int:
    """Wait for whoever ends, pass signals on, and return the child's exit code."""
    while True:
        signalled = signal.sigwaitinfo(signal.valid_signals())
        if signalled.si_signo == signal.SIGCHLD:
            if (status := _reap(child)) is not None:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
        elif signalled.si_code <= 0:  # by a process; what a terminal sends, it sends to the child, too (sigaction(2))
            os.kill(child, signalled.si_signo)


def _reap(child: int) -> int | None:
    """Wait for all processes that have ended; return the child's status, if it is among them."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if not pid:
            return found
        if pid == child:
            found = status
