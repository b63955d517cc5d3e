"""The child's end of the link to its supervisor (`processes/link.py`)."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import AsyncGenerator

from taktora_trio.errors import ConfigError
from taktora_trio.processes.link import VARIABLE, LinkEnd, LogFrom, Message
from taktora_trio.processes.pidfd import wait_for_exit

__all__ = ["SupervisorLink", "inherited_link"]


class SupervisorLink(LinkEnd):
    """A link to the supervisor `pid`, in the `incarnation`-th process of its kind."""

    def __init__(self, sock: socket.socket, pid: int, incarnation: int) -> None:
        super().__init__(sock)
        self.pid = pid
        self.incarnation = incarnation

    async def messages(self) -> AsyncGenerator[Message]:
        """Yield each message of the supervisor, but the level of the log, which is set here."""
        async with contextlib.aclosing(super().messages()) as messages:
            async for message in messages:
                if isinstance(message, LogFrom):
                    logging.getLogger().setLevel(message.level.upper())
                    self.send(message)  # so that the supervisor knows
                else:
                    yield message

    @property
    def is_gone(self) -> bool:
        """True once the supervisor has ended, also if another process has its id by now."""
        return os.getppid() != self.pid

    async def wait_until_gone(self) -> None:
        """Wait until the supervisor has ended, however it did."""
        if not self.is_gone:
            await wait_for_exit(self.pid)


def inherited_link() -> SupervisorLink | None:
    """Return the link to the supervisor, or `None` if no supervisor of ours has started this process. Call it once.

    Raises `ConfigError` if the environment variable is not from a supervisor of ours.
    """
    value = os.environ.pop(VARIABLE, None)
    if value is None:
        return None
    try:
        fd, pid, incarnation = map(int, value.split())
        os.set_inheritable(fd, False)
        sock = socket.socket(fileno=fd)
    except (ValueError, OverflowError, OSError) as exc:
        raise ConfigError(f"{VARIABLE}={value!r} is not from a supervisor of ours: unset it") from exc
    return SupervisorLink(sock, pid, incarnation)
