"""A half's life signs in shared memory: for those who are not its supervisor, such as `taktora-trio healthcheck`.

They are a small file of the domain for each role. The process that has the role writes there when its loop turned last.
"""

from __future__ import annotations

import contextlib
import os
import struct
import time
from collections.abc import Callable, Iterator

from taktora_trio.transport.descriptors import refusal
from taktora_trio.transport.domain import Domain, Role

__all__ = ["last_sign", "open_pulse", "silence"]

_TIME = struct.Struct("<Q")  # nanoseconds, by a clock that is the same for all processes and can't be set


@contextlib.contextmanager
def open_pulse(domain: Domain, *roles: Role) -> Iterator[Callable[[], None]]:
    """Yield a function that gives a sign of life for each of these roles, which this process has. It never waits.

    Raises `SharedMemoryFull` where /dev/shm has no page for it, and `TooFewDescriptors`.
    """
    with contextlib.ExitStack() as stack:
        fds = []
        for role in roles:
            what = f"the life signs of the {role} of domain {domain.name!r}"
            try:
                fd = os.open(domain.pulse_path(role), os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
                stack.callback(os.close, fd)
                os.posix_fallocate(fd, 0, _TIME.size)
            except OSError as exc:
                raise refusal(what, exc, f"cannot write {what}: {exc}") from exc
            fds.append(fd)

        def beat() -> None:
            now = _TIME.pack(time.monotonic_ns())
            for fd in fds:
                os.pwrite(fd, now, 0)

        beat()
        yield beat


def silence(domain: Domain, role: Role) -> float | None:
    """Return the seconds since the last sign of life in a role; `None` if none was ever given."""
    sign = last_sign(domain, role)
    return None if sign is None else max(0.0, (time.monotonic_ns() - sign) / 1e9)


def last_sign(domain: Domain, role: Role) -> int | None:
    """Return the time of the last sign of life in a role, by `CLOCK_MONOTONIC` in nanoseconds; `None` if there is none.

    It is the same for all roles of one process.
    """
    try:
        fd = os.open(domain.pulse_path(role), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        data = os.pread(fd, _TIME.size, 0)
    finally:
        os.close(fd)
    return None if len(data) < _TIME.size else int(_TIME.unpack(data)[0])
