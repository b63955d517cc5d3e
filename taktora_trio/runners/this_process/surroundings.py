"""Makes what a command has inherited from whoever started it fit to work with, before anything else is done."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

from taktora_trio.errors import ConfigError

__all__ = ["settle"]


def settle() -> None:
    """Give this process standard streams, no blocked signal, news of its children's ends, and files it may use itself.

    Call it once, first of all. Raises `ConfigError` where this can't work at all.
    """
    if threading.current_thread() is not threading.main_thread():
        raise ConfigError("the command must run in the main thread, for it handles signals")
    _open_standard_streams()
    # Who blocks signals and then starts us, blocks them for us too, and none of ours would ever arrive.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    # Where it is ignored, the kernel forgets how a child has ended, and each end looks like a success (wait(2)).
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.umask(os.umask(0o077) & 0o077)  # whatever it keeps from others, the owner of a file may use it
    _check_proc()


def _check_proc() -> None:
    """Raise `ConfigError` unless /proc tells of this PID namespace: descriptors, children and locks are read there."""
    try:
        answer = Path("/proc/self").readlink()
    except OSError as exc:
        raise ConfigError("/proc is not there: mount it (mount -t proc proc /proc)") from exc
    if answer != Path(str(os.getpid())):
        raise ConfigError(
            "/proc is of another PID namespace, so process ids mean other processes there:"
            " mount one of this namespace (unshare --mount-proc)"
        )


def _open_standard_streams() -> None:
    """Open /dev/null for each that is closed.

    Else the next file or socket that is opened gets its number, and whatever writes to "standard error" writes there.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free, which is this one
            os.set_inheritable(fd, True)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - as long as the process
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
