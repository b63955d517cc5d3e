"""Checks what must hold after every fault. Pure: from what was seen before and after to what is wrong, in words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set

import attrs

from taktora_trio.chaos.fault import Fault
from taktora_trio.chaos.processes import Process
from taktora_trio.chaos.subject import Half

__all__ = ["LARGEST_GAP", "Snapshot", "events_match", "states_of", "what_is_wrong"]

LARGEST_GAP = 1.0
"""Seconds between two ticks of an app that ticks every 10 ms; so generous for a machine that does other things too."""


@attrs.frozen(kw_only=True)
class Snapshot:
    """The system at one moment."""

    pids: Mapping[Half, int | None]
    processes: Sequence[Process]
    """Those below the supervisor."""
    files: int
    """The number that the domain has in /dev/shm."""
    gaps: Sequence[str]
    """The numbers that the subscriber has missed so far, in words."""
    broken_chains: Sequence[str]
    """The places where the health events did not join, so far."""
    largest_gap: float
    """Seconds between two ticks since the moment before."""
    failures: Set[str]
    """The kinds of failure that the app was told of since the moment before."""


def states_of(texts: Sequence[str]) -> str:
    """Return the names of states, each with a space behind it, from their texts: `Down (why)` is `Down `."""
    return "".join(f"{text.partition(' ')[0]} " for text in texts)


def events_match(fault: Fault, states: str) -> bool:
    """Return true if the app has seen what it should."""
    return re.fullmatch(fault.events, states) is not None


def what_is_wrong(fault: Fault, before: Snapshot, after: Snapshot, states: str, children: int = 2) -> list[str]:
    """Return every promise that was broken; `children` is the number of processes that the run has below its first."""
    wrong = [f"the subscriber has missed something: {gap}" for gap in after.gaps[len(before.gaps) :]]
    wrong += [f"health events do not join: {link}" for link in after.broken_chains[len(before.broken_chains) :]]
    if not events_match(fault, states):
        wrong.append(f"the app saw {states or 'nothing '}and should have seen {fault.events}")
    told = fault.failures & after.failures if fault.one_is_enough else fault.failures <= after.failures
    if not told or (after.failures and not fault.failures):
        named = (" or " if fault.one_is_enough else " and ").join(sorted(fault.failures)) or "none"
        wrong.append(f"the app was told of the failures {sorted(after.failures)}, and should have been of {named}")
    for half, pid in before.pids.items():
        if half in fault.replaces and after.pids[half] == pid:
            wrong.append(f"the {half} (pid {pid}) should have been replaced")
        if half not in fault.replaces and after.pids[half] != pid:
            wrong.append(f"the {half} was replaced (pid {pid}, now {after.pids[half]}) and should have lived on")
    if "plugin" not in fault.replaces and after.largest_gap > LARGEST_GAP:
        wrong.append(f"the app did not tick for {after.largest_gap * 1e3:.0f} ms")
    if len(after.processes) != children or any(process.is_zombie for process in after.processes):
        there = "; ".join(f"{process.pid} {process.state} {process.command}" for process in after.processes)
        wrong.append(f"the supervisor should have {children} processes, and has: {there}")
    if after.files > before.files + fault.files_left:
        wrong.append(f"files of the domain: {before.files} before, {after.files} after")
    return wrong
