"""Reading about a process in /proc.

A supervisor reads there between the end of a gateway and the app's knowing of it, so by the plainest calls: a `Path`'s
methods take twice as long.
"""

from __future__ import annotations

import os

__all__ = ["process_stat", "read_proc"]

_PIECE = 16 * 1024  # bytes


def read_proc(path: str) -> bytes:
    """Return all of a file. Raises `OSError`: the process may have ended."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        pieces = []
        while piece := os.read(fd, _PIECE):
            pieces.append(piece)
        return b"".join(pieces)
    finally:
        os.close(fd)


def process_stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the third on: state, parent, and so on (proc_pid_stat(5)).

    Raises `FileNotFoundError` or `ProcessLookupError` if there is no such process.
    """
    # The second field, the program's name in parentheses, may itself contain any character.
    return read_proc(f"/proc/{pid}/stat").rpartition(b")")[2].decode().split()
