"""Files of a domain that are mapped, or read by others: made for their owner alone, and reached through no link."""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

from taktora_trio.errors import TransportError
from taktora_trio.transport.descriptors import refusal

__all__ = ["map_file", "open_to_read"]


def map_file(path: Path, size: int, what: str) -> mmap.mmap:
    """Map this file, with its memory set aside; it is made if there is none, and goes on as it is if there is one.

    Raises `SharedMemoryFull` or `TooFewDescriptors`, which say `what` could not be had, and else `TransportError`.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, size)
            return mmap.mmap(fd, size)
        finally:
            os.close(fd)
    except OSError as exc:
        raise refusal(what, exc, f"cannot open {path}: {exc.strerror}") from exc


@contextlib.contextmanager
def open_to_read(path: Path) -> Iterator[int]:
    """Yield a descriptor of this file. Raises `FileNotFoundError`.

    Any other `OSError`, also one in the block, becomes a `TransportError`.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            yield fd
        finally:
            os.close(fd)
    except FileNotFoundError:
        raise
    except OSError as exc:
        raise TransportError(f"{path} can't be read: {exc.strerror}") from exc
