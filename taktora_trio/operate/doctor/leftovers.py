"""Files in /dev/shm that no process uses any more, of this user and of others.

A process has mapped what it uses, or has it open, which /proc shows for this user's processes (for root: for all). A
process in another container that shares /dev/shm is not seen there, but the locks on its roles are.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from taktora_trio.connectors.finding import Finding, ok, warn
from taktora_trio.errors import ConnectorError
from taktora_trio.transport.domain import Domain
from taktora_trio.transport.folder import user_folder
from taktora_trio.transport.segments import SHM
from taktora_trio.transport.sizing import size_text
from taktora_trio.vitals import domains

__all__ = ["Remains", "examine_leftovers", "remains", "tokens_in_use"]

_SEGMENT = re.compile(r"tk([a-z2-7]{8})_")
_FOLDER = re.compile(r"(.+)~([a-z2-7]{8})(?:~gone)?")
_USED = re.compile(rb"/dev/shm/(?:tk|taktora-\d+/[^/\n]+~)([a-z2-7]{8})")
_USERS_FOLDER = re.compile(r"taktora-(\d+)")
_MOST = 4  # of which each is named


class Remains(msgspec.Struct, kw_only=True):
    """The files of one run in /dev/shm."""

    token: str
    """The random part of their names."""
    uid: int
    label: str | None = None
    """The domain's name, shortened if it is long; `None` where its folder can't be seen, or is gone."""
    files: int = 0
    bytes: int = 0

    @property
    def command(self) -> str:
        """What removes them."""
        folder = f" {SHM}/taktora-{self.uid}/{self.label}~{self.token}*" if self.label is not None else ""
        return f"rm -r{folder} {SHM}/tk{self.token}_*" if self.files else f"rm -r{folder}"


def examine_leftovers() -> Iterator[Finding]:
    """Yield what a killed run has left. Nothing is removed."""
    found = remains()
    used = tokens_in_use()  # behind it: what has come since then is not in the list
    me = os.geteuid()
    names = _names()
    own = [one for one in found if one.uid == me and one.token not in used and not _is_held(one, names)]
    for one in own[:_MOST]:
        whose = (
            f"of domain {names.get(one.label, one.label)!r}"
            if one.label is not None
            else "whose domain is not known any more"
        )
        next_run = "the next run in this domain removes them; or now: " if one.label is not None else ""
        text = f"{one.files + (one.label is not None)} files {whose}, {size_text(one.bytes)}, which no process uses"
        yield warn("leftovers", text, f"{next_run}{one.command}")
    if len(own) > _MOST:
        total = sum(one.bytes for one in own[_MOST:])
        advice = "remove the others first; then this shows these"
        yield warn("leftovers", f"{len(own) - _MOST} more runs have left files, {size_text(total)}", advice)
    others = [one for one in found if one.uid != me and one.token not in used]
    yield from _of_others(others)
    if not own:
        yield ok("leftovers", f"none of this user's (uid {me}); {len(found) - len(others)} runs use {SHM} now")


def _of_others(found: list[Remains]) -> Iterator[Finding]:
    running = _uids_with_processes() if os.geteuid() else set()  # what root sees nobody use, nobody uses
    for uid in sorted({one.uid for one in found}):
        theirs = [one for one in found if one.uid == uid]
        runs = f"{len(theirs)} run{'s' * (len(theirs) != 1)}"
        text = f"{runs} of another user (uid {uid}): {size_text(sum(one.bytes for one in theirs))} in {SHM}"
        if uid in running:
            yield ok("others", f"{text}; only that user and root can see whether they are used")
        else:
            commands = " && ".join(one.command for one in theirs[:_MOST])
            yield warn("others", f"{text}, and no process uses it", f"as that user or root: {commands}")


def remains() -> list[Remains]:
    """Return all that runs have in /dev/shm, of all users as far as they can be seen."""
    runs: dict[str, Remains] = {}
    with contextlib.suppress(OSError), os.scandir(SHM) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                there = entry.stat(follow_symlinks=False)
                if (segment := _SEGMENT.match(entry.name)) is not None:
                    run = runs.setdefault(segment[1], Remains(token=segment[1], uid=there.st_uid))
                    run.files += 1
                    run.bytes += 512 * there.st_blocks
                elif _USERS_FOLDER.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                    for name in os.listdir(entry.path):
                        if (folder := _FOLDER.fullmatch(name)) is not None:
                            run = runs.setdefault(folder[2], Remains(token=folder[2], uid=there.st_uid))
                            run.label = folder[1]
    return sorted(runs.values(), key=lambda one: (one.label or "", one.token))


def tokens_in_use() -> set[str]:
    """Return the tokens of the runs of which a process that can be seen uses something."""
    used: set[str] = set()
    for process in _processes():
        with contextlib.suppress(OSError):
            used.update(token.decode() for token in _USED.findall((process / "maps").read_bytes()))
        with contextlib.suppress(OSError):
            for name in os.listdir(process / "fd"):
                with contextlib.suppress(OSError):
                    used.update(
                        token.decode()
                        for token in _USED.findall(os.fsencode(os.readlink(process / "fd" / name)))  # noqa: PTH115
                    )
    return used


def _names() -> dict[str, str]:
    """Return the domains of this user by their labels, in which a long name is shortened."""
    with contextlib.suppress(OSError, ConnectorError):
        return {Domain(name).label: name for name in domains() if "~" not in name} if user_folder().is_dir() else {}
    return {}


def _is_held(one: Remains, names: Mapping[str, str]) -> bool:
    """True if a process has a role in the domain, also one that can't be seen from here."""
    name = None if one.label is None else names.get(one.label)
    with contextlib.suppress(OSError, ConnectorError):
        return name is not None and Domain(name).is_held
    return False


def _processes() -> list[Path]:
    with contextlib.suppress(OSError):
        return [Path("/proc", name) for name in os.listdir("/proc") if name.isdecimal()]
    return []


def _uids_with_processes() -> set[int]:
    uids = set()
    for process in _processes():
        with contextlib.suppress(OSError):
            uids.add(process.stat().st_uid)
    return uids
