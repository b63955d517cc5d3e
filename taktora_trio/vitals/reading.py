"""Reading a run's vitals from outside. Nobody is asked: a half that hangs, or that was killed, is seen as well."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import msgspec
import trio

from taktora_trio.errors import ConfigError, NoSuchDomain, TransportError
from taktora_trio.processes.procfs import process_stat
from taktora_trio.transport.domain import HALVES, ROLES, Domain, Role
from taktora_trio.transport.folder import VITALS, all_generations, open_folder, other_users
from taktora_trio.transport.pulse import last_sign
from taktora_trio.transport.snapshot import Snapshot, read_snapshot
from taktora_trio.vitals.merging import connectors_of, history_of, merged_channels
from taktora_trio.vitals.model import DomainVitals, HalfState, HalfVitals, Mode, Page

__all__ = ["domains", "half_name", "nothing_runs", "page_name", "read", "running", "watch"]

_LATE = 3.0  # intervals without a page after which a half that is there hangs
_NAMED = 20  # domains that an error names
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGESIZE")
_decode = msgspec.msgpack.Decoder(Page).decode


def page_name(half: str) -> str:
    """Return the name of the file in which this half writes."""
    return VITALS + half


def half_name(file_name: str) -> str:
    """Return the half that writes in the file of this name."""
    return file_name.removeprefix(VITALS)


def domains() -> list[str]:
    """Return the names of all domains of this user, also of those that a killed run has left."""
    with open_folder() as folder:
        return sorted({generation.domain for generation in all_generations(folder)})


def read(domain: Domain | str) -> DomainVitals:
    """Return what is known of a run, now. It is read in files and in /proc, in about a millisecond.

    Raises `NoSuchDomain`, with the domains that there are, and `ConfigError` for a name that can't be one.
    """
    domain = Domain(domain) if isinstance(domain, str) else domain
    generation = domain.generation
    if generation is None:
        raise no_such(domain)
    now, monotonic = time.clock_gettime_ns(time.CLOCK_BOOTTIME), time.monotonic_ns()
    halves: dict[str, HalfVitals | None] = {}
    pages: list[tuple[Page, Snapshot]] = []
    names = sorted({*HALVES, *_written(generation.path)}, key=lambda name: (not name.startswith("plugin"), name))
    for name in names:
        role: Role = "plugin" if name == "plugin" else "gateway"
        holder = domain.holder(role)
        try:
            snapshot = read_snapshot(generation.path / page_name(name))
            page = None if snapshot is None else _page_of(snapshot, name)
        except TransportError as exc:
            halves[name] = HalfVitals(name=name, state="unreadable", problem=str(exc), pid=holder or None)
            continue
        if snapshot is None or page is None:
            halves[name] = _without_page(domain, name, role, holder)
            continue
        pages.append((page, snapshot))
        halves[name] = _half(page, snapshot, holder, now, monotonic, domain.is_at_rest(role))
    whole = halves["gateway"]
    if any(map(_is_of_some, halves)) and (whole is None or whole.state in ("starts", "waits")):
        del halves["gateway"]  # it is one of those that have written
    pages.sort(key=lambda one: one[1].boottime_ns)
    return DomainVitals(
        domain=domain.name,
        app=pages[-1][0].app if pages else "",
        mode=_mode(domain, [page for page, _ in pages]),
        read_at=now / 1e9,
        owner=domain.holder("owner"),
        halves=halves,
        connectors=connectors_of([page for page, _ in pages], halves),
        channels=merged_channels(pages, now),
        history=history_of([page for page, _ in pages]),
    )


async def watch(domain: Domain | str, every: float = 1.0) -> AsyncGenerator[DomainVitals, None]:
    """Yield what is known of a run, again and again, `every` so many seconds. Raises as `read` does: also when the run
    has ended. Close it, by `contextlib.aclosing`, when you leave it early.

    The files are in memory, so it reads them in its own task.
    """
    due = trio.current_time()
    while True:
        yield read(domain)
        due = max(due + every, trio.current_time())
        await trio.sleep_until(due)


def _written(folder: Path) -> list[str]:
    """Return the names of the halves that have a page there."""
    try:
        found = os.listdir(folder)
    except FileNotFoundError:
        return []
    return [half_name(name) for name in found if name.startswith(VITALS) and "~" not in name]


def _page_of(snapshot: Snapshot, name: str) -> Page:
    try:
        return _decode(snapshot.content)
    except msgspec.MsgspecError as exc:
        raise TransportError(f"the page {page_name(name)} can't be read: {exc}") from exc


def running() -> list[str]:
    """Return the names of the domains of this user in which a process has a role."""
    return [name for name in domains() if _is_held(name)]


def nothing_runs() -> str:
    """Return what to say where this user has no run: who has, as far as that can be seen."""
    others = ", ".join(map(str, other_users()))
    hint = f"; other users have or had runs here (uid {others}): only they see them" if others else ""
    return f"nothing runs here as this user (uid {os.geteuid()}){hint}"


def no_such(domain: Domain) -> NoSuchDomain:
    """Return the error that names the domains that there are."""
    every = domains()
    there = [name for name in every if _is_held(name)]
    more = f" and {len(there) - _NAMED} more" if len(there) > _NAMED else ""
    others = f"there are {', '.join(there[:_NAMED])}{more}" if there else nothing_runs()
    if left := len(every) - len(there):
        others += f" ({left} more were left by runs that were killed)"
    return NoSuchDomain(f"there is no run in domain {domain.name!r}: {others} (--domain NAME)")


def _is_held(name: str) -> bool:
    """True if a process has a role there: what a killed run has left is not held."""
    try:
        return Domain(name).is_held
    except ConfigError:  # a label, which is all that is known of it
        return False


def _mode(domain: Domain, pages: Sequence[Page]) -> Mode:
    owner, plugin, gateway = (domain.holder(role) for role in ROLES)
    if owner is not None:
        if owner == plugin == gateway:
            return "in-process"
        return "separate" if owner == plugin else "split"
    pids = {page.name: page.pid for page in pages}  # who owned it was killed, and has left what tells of it
    if "plugin" in pids and pids["plugin"] == pids.get("gateway"):
        return "in-process"
    try:
        signs = last_sign(domain, "owner"), last_sign(domain, "plugin")
    except (OSError, TransportError):  # it is removed just now
        return "separate"
    return "split" if signs[0] is not None and signs[0] != signs[1] else "separate"


def _without_page(domain: Domain, name: str, role: Role, holder: int | None) -> HalfVitals | None:
    if holder is not None:
        return HalfVitals(name=name, state="starts", pid=holder or None)
    if domain.is_at_rest(role):
        return HalfVitals(name=name, state="gone", problem=_at_rest(role))
    if role == "gateway" and domain.is_awaited():
        return HalfVitals(name=name, state="waits", problem="waits for its plugin")
    return None


def _half(page: Page, snapshot: Snapshot, holder: int | None, now: int, monotonic: int, rests: bool) -> HalfVitals:
    age = max(0, monotonic - snapshot.monotonic_ns) / 1e9
    late = age > _LATE * page.interval
    state: HalfState = "runs"
    problem, memory, cpu = "", page.memory, page.cpu
    process = _process(page.pid, page.process_started)
    is_followed = holder not in (None, 0, page.pid) and not _is_of_some(page.name)
    if is_followed and (process is None or page.has_ended):
        state, problem = "starts", f"process {page.pid} has ended, and process {holder} starts"
    elif page.has_ended:
        state, problem = "gone", f"it has ended, {age:.0f} s ago"
    elif holder is None or (process is None and holder and _is_of_some(page.name)):
        state, problem = "gone", f"process {page.pid} has ended, {age:.1f} s after it had written last at most"
    elif process is not None and process[0] in "Tt":
        state, problem = "stopped", f"process {page.pid} is stopped: `kill -CONT {page.pid}` lets it go on"
    elif late:
        state, problem = "hangs", f"process {page.pid} has not turned its loop for {age:.1f} s"
    if state == "gone" and rests:
        problem = _at_rest(page.name.partition(":")[0])
    if process is not None:
        _, memory, cpu = process
    return HalfVitals(
        name=page.name,
        state=state,
        problem=problem,
        pid=holder if state == "starts" else page.pid,
        incarnation=page.incarnation,
        restarts=page.restarts,
        uptime=max(0.0, now / 1e9 - page.started_at) if state != "gone" else None,
        memory=memory if state != "gone" else None,
        cpu=cpu,
        loop_lag=max(page.loop_lag, age - page.interval) if state == "hangs" else page.loop_lag,
        age=age,
        written_at=snapshot.boottime_ns / 1e9,
    )


def _at_rest(half: str) -> str:
    return f"an operator has stopped it, and `taktora-trio start --half {half}` starts it again"


def _is_of_some(name: str) -> bool:
    """True for a gateway that has some of the connectors alone: others hold the same role."""
    return name.startswith("gateway:")


def _process(pid: int, started: int) -> tuple[str, int, float] | None:
    """Return state, bytes in memory and seconds of processor time of a process; `None` if it is not there, or can't be
    seen from here."""
    try:
        stat = process_stat(pid)
        state, times, start, pages = stat[0], stat[11:13], stat[19], stat[21]
    except (OSError, IndexError):
        return None
    if started and int(start) != started:
        return None
    return state, int(pages) * _PAGE_BYTES, sum(map(int, times)) / _TICKS
