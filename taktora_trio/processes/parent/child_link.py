"""The supervisor's end of the link to one incarnation of a child (`processes/link.py`)."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator

from taktora_trio.processes.link import VARIABLE, LinkEnd

__all__ = ["ChildLink", "open_link"]


class ChildLink(LinkEnd):
    """The supervisor's end, to one incarnation of a child."""

    def __init__(self, ours: socket.socket, theirs: socket.socket) -> None:
        super().__init__(ours)
        self._theirs = theirs

    @property
    def fd(self) -> int:
        """The descriptor that the child inherits."""
        return self._theirs.fileno()

    def environment(self, incarnation: int) -> dict[str, str]:
        """Variables for the child's environment."""
        return {VARIABLE: f"{self.fd} {os.getpid()} {incarnation}"}

    def child_has_it(self) -> None:
        """Close our copy of the child's end, so that only the child holds it."""
        self._theirs.close()


@contextlib.contextmanager
def open_link() -> Iterator[ChildLink]:
    """Open a link for one incarnation. Pass `fd` and `environment` to the child, then call `child_has_it`."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    link = ChildLink(ours, theirs)
    try:
        yield link
    finally:
        link.child_has_it()
        link.close()
