"""Reading about a process in /proc."""

from __future__ import annotations

from pathlib import Path

__all__ = ["process_stat"]


def process_stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the third on: state, parent, and so on (proc_pid_stat(5)).

    Raises `FileNotFoundError` or `ProcessLookupError` if there is no such process.
    """
    # The second field, the program's name in parentheses, may itself contain any character.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
