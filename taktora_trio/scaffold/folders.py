"""Folders that a command fills: with all of it or with nothing, and never over what stands there."""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from taktora_trio.errors import ConfigError
from taktora_trio.escaping import escaped

__all__ = ["fill", "given_folder", "in_shell"]

_LONGEST = 400  # characters of a path


def given_folder(text: str, option: str) -> Path:
    """Return the folder that an option names. Raises `ConfigError` for an empty one, which `Path` takes for this one.

    It comes of a variable that is not set.
    """
    if not text:
        raise ConfigError(f"{option} is empty: give a folder; the present one is .")
    return Path(text)


def in_shell(path: Path) -> str:
    """Return a path as it is typed, in one line."""
    return escaped(shlex.quote(str(path)), _LONGEST)


def fill(folder: Path, make: Callable[[Path], None]) -> None:
    """Have `make` write into a new folder, and move what it has made into this one, which is made where it is missing.

    The folder stays the one that it is: somebody may be in it, or it may be where a disk is mounted. Raises `OSError`
    for what can't be written, and leaves nothing of it then.
    """
    with _made(folder), TemporaryDirectory(dir=folder, prefix=".unfinished-") as unfinished:
        content = Path(unfinished, "content")
        content.mkdir()
        make(content)
        moved: list[Path] = []
        try:
            moved.extend(entry.rename(folder / entry.name) for entry in sorted(content.iterdir()))
        except BaseException:
            for entry in moved:
                entry.rename(content / entry.name)
            raise


@contextlib.contextmanager
def _made(folder: Path) -> Iterator[None]:
    """Make a folder and those above it; remove those again if the block fails."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for each in missing:
            with contextlib.suppress(OSError):
                each.rmdir()
        raise
