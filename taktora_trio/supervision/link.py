"""Binding a child's life to its supervisor's: an inherited pipe whose end of file means that the parent is gone.

(PR_SET_PDEATHSIG would be bound to the thread that spawned the child, which trio ends when it has been idle.)
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import attrs
import trio

from taktora_trio.supervision.process import wait_for_exit

__all__ = ["SupervisorLink", "inherited_link", "open_link"]

_VARIABLE = "TAKTORA_SUPERVISOR"
_DYING = 2.0  # seconds; more than any process takes to end that has been killed


@attrs.frozen
class SupervisorLink:
    """The reading end of the pipe, and whose it is."""

    fd: int
    pid: int

    @property
    def environment(self) -> dict[str, str]:
        """What a child needs besides the inherited descriptor."""
        return {_VARIABLE: f"{self.fd} {self.pid}"}

    async def wait_until_gone(self) -> None:
        """In the child: wait until the supervisor has ended, however it did."""
        await trio.lowlevel.wait_readable(self.fd)
        # The kernel closes a dying process's descriptors one by one: after this one, it may still hold its locks.
        with trio.move_on_after(_DYING):
            await wait_for_exit(self.pid)


@contextlib.contextmanager
def open_link() -> Iterator[SupervisorLink]:
    """In the supervisor: pass `fd` and `environment` to each child."""
    reading, writing = os.pipe()  # not inheritable: only this process ever holds the writing end
    try:
        yield SupervisorLink(reading, os.getpid())
    finally:
        os.close(writing)
        os.close(reading)


def inherited_link() -> SupervisorLink | None:
    """In a child: the link to its supervisor, or `None` where nobody of ours supervises it. Ask once."""
    value = os.environ.pop(_VARIABLE, None)
    if value is None:
        return None
    fd, pid = map(int, value.split())
    os.set_inheritable(fd, False)
    return SupervisorLink(fd, pid)
