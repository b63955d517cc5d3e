"""The user's folder in /dev/shm, and the files of a domain: every name is checked before it is used.

/dev/shm is open to all users: one who knows a name may make it first. So all files that are no shared-memory segments
lie in a folder that other users may not look into, and that is kept. The names of the segments are random, and are
read in there. The folder is reached by a descriptor, and no symbolic link is followed.

Each run of a domain has a *generation* of files of its own. A name is never used twice, so a process that
removes one can be stopped at any moment, and go on much later: it harms no other.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import random
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec

from taktora_trio.errors import ConfigError, ConnectorError
from taktora_trio.escaping import escaped
from taktora_trio.transport.descriptors import refusal
from taktora_trio.transport.segments import SHM, segments

__all__ = [
    "ASKED",
    "AT_REST",
    "FLIGHT",
    "FLIGHT_BEFORE",
    "PULSE",
    "VITALS",
    "Generation",
    "all_generations",
    "generations",
    "new_generation",
    "open_folder",
    "other_users",
    "remove_generation",
    "user_folder",
]

log = logging.getLogger(__name__)

# From this iceoryx2 0.10 draws the ids of nodes: its version (16 bits each) and a counter. Where it makes that file
# itself, everybody may write to it, whatever the umask. So it finds one that is there already.
_NODE_IDS = "9204dd183d1c4d8e1ff592a30766ffa6765aa8b5_node.0_10_0.global_mgmt"
_NODE_IDS_BEGIN = (10 << 16).to_bytes(8, "little") + bytes(8)

_LETTERS = "abcdefghijklmnopqrstuvwxyz234567"
_TOKEN = re.compile(r"[a-z2-7]{8}")
_FOLDER_OF = re.compile(r"taktora-(\d+)")
_GONE = "~gone"
_NAME = "name"  # of the domain, where its label is another one
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_FOLDERS = ("cursors", "kept", "nodes", "services")
PULSE = "pulse."  # the beginning of the names of files in which a role's holder gives signs of life
VITALS = "vitals."  # and of those in which a half writes its figures
ASKED = "ask~"  # of named pipes by which somebody asks a run
AT_REST = "at-rest."  # and of those that say that an operator has stopped a half for now
FLIGHT = "flight."  # and of those with its last seconds
FLIGHT_BEFORE = f"{FLIGHT}before."  # and of those that a killed run has left
_BEGINNINGS = (PULSE, VITALS, FLIGHT, ASKED, AT_REST)
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Generation(msgspec.Struct, frozen=True):
    """The files of one run: a folder in the user's folder, and the segments with its prefix."""

    name: str
    """The folder's name: the domain's label, `~`, and eight random characters."""

    @property
    def label(self) -> str:
        """The domain's label."""
        return self.name.removesuffix(_GONE).rpartition("~")[0]

    @property
    def domain(self) -> str:
        """The domain's name; its label where nothing says more."""
        try:
            return escaped(self.path.joinpath(_NAME).read_text())
        except (OSError, ValueError):
            return self.label

    @property
    def path(self) -> Path:
        return user_folder() / self.name

    @property
    def prefix(self) -> str:
        """The beginning of its segments' names in /dev/shm, and of no other's."""
        return f"tk{self.name.removesuffix(_GONE)[-8:]}_"


def user_folder() -> Path:
    """Return the path of the folder of the present user."""
    return SHM / f"taktora-{os.geteuid()}"


def other_users() -> list[int]:
    """Return the users besides the present one who have or had a domain here. What they have can't be seen."""
    found = []
    with contextlib.suppress(OSError), os.scandir(SHM) as entries:
        for entry in entries:
            if (named := _FOLDER_OF.fullmatch(entry.name)) is not None:
                with contextlib.suppress(OSError):
                    if entry.stat(follow_symlinks=False).st_uid == int(named[1]) != os.geteuid():
                        found.append(int(named[1]))
    return sorted(found)


@contextlib.contextmanager
def open_folder() -> Iterator[int]:
    """Open the user's folder, which is made if there is none, and yield a descriptor of it.

    Raises `ConfigError` if it is anything else than a folder that is ours, and ours alone. An `OSError` in the block
    becomes `SharedMemoryFull`, `TooFewDescriptors` or `TransportError`, and names this folder.
    """
    path = user_folder()
    try:
        try:
            fd = os.open(path, _DIRECTORY)
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):
                os.mkdir(path, 0o700)  # noqa: PTH102 - no parents: there is only /dev/shm
            fd = os.open(path, _DIRECTORY)
    except OSError as exc:
        raise _explain(path, exc) from exc
    try:
        _check_ours(fd, path)
        try:
            yield fd
        except OSError as exc:
            raise refusal(f"the folder {path}", exc, f"cannot use {path}: {exc}") from exc
    finally:
        os.close(fd)


def _check_ours(fd: int, path: Path) -> None:
    """Take all rights of others away. Raises `ConfigError` if it is not ours, or if others could write there."""
    there = os.fstat(fd)
    if there.st_uid != os.geteuid():
        raise _refused(path, f"belongs to another user (uid {there.st_uid})")
    if there.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise _refused(path, f"can be written to by other users (mode {stat.S_IMODE(there.st_mode):04o})")
    if there.st_mode & _OTHERS:
        os.fchmod(fd, stat.S_IRWXU)


def _refused(path: Path, why: str) -> ConfigError:
    return ConfigError(
        f"{path} {why}, so nothing in it can be trusted: let its owner or root remove it, then try again"
    )


def _explain(path: Path, exc: OSError) -> ConnectorError:
    if exc.errno in (errno.ELOOP, errno.ENOTDIR) and SHM.is_dir():
        return _refused(path, "is no folder")
    if exc.errno in (errno.ENOSPC, errno.EDQUOT, errno.EMFILE):
        return refusal(f"the folder {path}", exc, "")
    with contextlib.suppress(OSError):
        if (owner := path.lstat().st_uid) != os.geteuid():
            return _refused(path, f"belongs to another user (uid {owner})")
    advice = {
        errno.EROFS: f"mount {SHM} so that it can be written to: mount -o remount,rw {SHM}",
        errno.EACCES: f"let everybody make files in {SHM}: chmod 1777 {SHM}, as root",
    }.get(exc.errno or 0, f"mount a tmpfs at {SHM}, with mode 1777")
    return ConfigError(f"cannot use shared memory at {path}: {exc.strerror}; {advice}")


# Generations


def generations(folder: int, label: str, *, gone: bool = False) -> list[Generation]:
    """Return the generations of a domain that are in use, or with `gone` those that somebody was removing."""
    return [one for one in all_generations(folder, gone=gone) if one.label == label]


def all_generations(folder: int, *, gone: bool = False) -> list[Generation]:
    """Return the generations of all domains of this user, as `generations` does."""
    names = (name for name in os.listdir(folder) if name.endswith(_GONE) == gone)
    return [Generation(name) for name in names if _TOKEN.fullmatch(name.removesuffix(_GONE).rpartition("~")[2])]


def new_generation(folder: int, label: str, domain: str = "") -> Generation:
    """Make the folders of a new generation, and the one segment that iceoryx2 must not make."""
    made = Generation(f"{label}~{''.join(random.SystemRandom().choices(_LETTERS, k=8))}")
    try:
        os.mkdir(made.name, 0o700, dir_fd=folder)
        fd = os.open(made.name, _DIRECTORY, dir_fd=folder)
        try:
            for name in _FOLDERS:
                os.mkdir(name, 0o700, dir_fd=fd)
        finally:
            os.close(fd)
        if domain not in ("", label):
            made.path.joinpath(_NAME).touch(mode=0o600)  # whatever the umask is
            made.path.joinpath(_NAME).write_text(domain)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(SHM / f"{made.prefix}{_NODE_IDS}", flags, 0o600)
        try:
            os.write(fd, _NODE_IDS_BEGIN)
        finally:
            os.close(fd)
    except OSError:
        remove_generation(folder, made)
        raise
    return made


def remove_generation(folder: int, generation: Generation) -> int:
    """Remove all of it, and return the number of files. Another process may do the same just now.

    A file that neither we nor iceoryx2 have made is named in a warning, and left.
    """
    gone = Generation(generation.name.removesuffix(_GONE) + _GONE)
    with contextlib.suppress(FileNotFoundError):
        os.rename(generation.name, gone.name, src_dir_fd=folder, dst_dir_fd=folder)
    count = 0
    for segment in segments(generation.prefix):
        with contextlib.suppress(FileNotFoundError):
            segment.path.unlink()
            count += 1
    with contextlib.suppress(FileNotFoundError):
        for below, folders, names, fd in os.fwalk(gone.name, topdown=False, dir_fd=folder):
            for name in (*names, *folders):
                if not _is_known(below.partition("/")[2], name, generation.prefix):
                    log.warning(
                        "%s/%s was not made by this library: it is left there",
                        user_folder() / below,
                        name,
                        extra={"event": "folder-foreign"},
                    )
                    continue
                with contextlib.suppress(OSError):  # gone already, or a folder in which something is left
                    _remove(name, fd)
                    count += 1
    with contextlib.suppress(OSError):
        os.rmdir(gone.name, dir_fd=folder)
    return count


def _remove(name: str, folder: int) -> None:
    try:
        os.unlink(name, dir_fd=folder)
    except IsADirectoryError:  # also a link to one counts as a folder to os.fwalk, and it is the link that is to go
        os.rmdir(name, dir_fd=folder)


def _is_known(below: str, name: str, prefix: str) -> bool:
    """True if we or iceoryx2 make such a name in a generation's folder."""
    if below == "":
        return name in (*_FOLDERS, "ready", "revived", _NAME) or name.startswith((*_BEGINNINGS, prefix))
    if below == "cursors":
        return name.startswith("taktora.connector.")
    return name.startswith(prefix) or (below == "nodes" and name.isdecimal())
