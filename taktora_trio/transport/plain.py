"""Memory that outlives who has it open: a mapped file, or what stands for one within a process."""

from __future__ import annotations

import mmap
from typing import TypeAlias

__all__ = ["Memory", "PlainMemory"]


class PlainMemory(bytearray):
    """Stands for a mapped file where there is none: its owner keeps it for who opens it next."""

    def close(self) -> None:
        """Do nothing."""


Memory: TypeAlias = mmap.mmap | PlainMemory
