"""File descriptors: a connector takes some in each process that has it open, and the number in a process is limited."""

from __future__ import annotations

import errno
import os
import resource

from taktora_trio.errors import ConfigError, ConnectorError, TransportError
from taktora_trio.transport.segments import SharedMemoryFull

__all__ = ["TooFewDescriptors", "check_descriptors", "refusal", "shortage"]

_SOME = 12  # without which nothing is worth a try

_ELSE = 32  # pipes, sockets to the other side, files of the app


class TooFewDescriptors(ConfigError):
    """The process may not open as many files as it needs."""

    def __init__(self, what: str, needed: int, used: int, allowed: int) -> None:
        super().__init__(
            f"too few descriptors: {what} takes about {needed}, and {used} of {allowed} are in use; raise the limit to"
            f" {used + needed} or more (LimitNOFILE= of a unit, ulimit -n of a shell, --ulimit nofile= of a container)"
        )


def check_descriptors(needed: int, what: str) -> None:
    """Raise `TooFewDescriptors` unless this process can open `needed` more, and has some left for all else."""
    used, allowed = _count()
    if used + needed + _ELSE > allowed:
        raise TooFewDescriptors(what, needed + _ELSE, used, allowed)


def shortage(what: str) -> TooFewDescriptors | None:
    """Return the error that says that there are hardly any left, if that is so."""
    used, allowed = _count()
    return TooFewDescriptors(what, _SOME, used, allowed) if used + _SOME > allowed else None


def refusal(what: str, exc: Exception, otherwise: str) -> ConnectorError:
    """Return the error to raise if `what` could not be opened. (iceoryx2 names its step that failed, and not why.)

    It is `TooFewDescriptors` or `SharedMemoryFull` if that is why, and else a `TransportError` that says `otherwise`.
    """
    used, allowed = _count()
    number = getattr(exc, "errno", None)
    if number == errno.EMFILE or used + _SOME > allowed:
        return TooFewDescriptors(what, _SOME, used, allowed)
    if number in (errno.ENOSPC, errno.EDQUOT):
        return SharedMemoryFull(what)
    return TransportError(otherwise)


def _count() -> tuple[int, int]:
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        return len(os.listdir("/proc/self/fd")) - 1, allowed  # the one that is open for looking does not count
    except OSError:  # there is not even one left to look with
        return allowed, allowed
