"""The task of a half that writes its page, once a second."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import msgspec
import trio

from taktora_trio.errors import ConnectorError, TransportError
from taktora_trio.processes.procfs import read_proc
from taktora_trio.transport.health import start_time
from taktora_trio.transport.ports import Node
from taktora_trio.transport.snapshot import page_bytes
from taktora_trio.vitals.model import Channel, Connector, Page
from taktora_trio.vitals.record import HealthRecord
from taktora_trio.vitals.writing import PageWriter

__all__ = ["EVERY", "HalfFigures", "first_page", "next_page", "serve_vitals"]

log = logging.getLogger(__name__)

EVERY = 1.0
"""Seconds from one page to the next, for up to a thousand channels; as many times as long for so many thousands."""
_LOOKS = 4  # times in which it is seen how late the loop is
_AT_ONCE = 64  # channels, before others have their turn
_RETRY = 10.0  # seconds after there was no room for the page
_PAGE_BYTES = os.sysconf("SC_PAGESIZE")
_decode = msgspec.msgpack.Decoder(Page).decode


class HalfFigures(msgspec.Struct, frozen=True):
    """What a half says of itself, each asked for when a page is written."""

    half: str
    """`plugin`, `gateway`, or `gateway:CONNECTOR` for one that has some connectors alone."""
    deployment: str
    incarnation: int
    record: HealthRecord
    connectors: Callable[[], list[Connector]]
    channels: Callable[[], Iterator[Channel]]
    count: int
    """The number of channels."""


async def serve_vitals(node: Node, figures: HalfFigures) -> None:
    """Serve: write a half's page until cancelled, and a last one then.

    Without room for the page the half goes on, and tries again.
    """
    most = page_bytes(len(figures.connectors()), figures.count)
    before = _page_before(node, figures.half)
    if before is not None:
        figures.record.resume(before.history)
    restarts = 0 if before is None else before.restarts + 1
    while True:
        try:
            snapshots = node.map_snapshot(figures.half, most)
            break
        except ConnectorError as exc:
            log.warning(
                "%s: nobody sees from outside how it does: %s",
                figures.half,
                exc,
                extra={"event": "vitals-unwritten", "half": figures.half},
            )
            await trio.sleep(_RETRY)
    if snapshots is None:
        return
    del node  # whoever has a node of a domain holds a role in it for as long
    writer = PageWriter(snapshots)
    every = EVERY * max(1.0, figures.count / 1000)
    page = first_page(figures, restarts, every)
    try:
        lag = 0.0
        while True:
            channels = await _in_pieces(figures.channels())
            page = next_page(page, figures, channels, lag)
            writer.write(page)
            lag = await _pause(every, figures.record)
    finally:
        channels = list(figures.channels())
        writer.write(msgspec.structs.replace(next_page(page, figures, channels, 0.0), has_ended=True))
        snapshots.close()


def _page_before(node: Node, half: str) -> Page | None:
    """Return what an earlier half of this run has written last; `None` if there is none that can be read."""
    try:
        snapshot = node.last_snapshot(half)
        return None if snapshot is None else _decode(snapshot.content)
    except (TransportError, msgspec.MsgspecError):
        return None


def first_page(figures: HalfFigures, restarts: int, every: float) -> Page:
    """Return what does not change of a half's pages."""
    pid = os.getpid()
    return Page(
        name=figures.half,
        app=figures.deployment,
        pid=pid,
        process_started=start_time(pid) or 0,
        incarnation=figures.incarnation,
        restarts=restarts,
        started_at=time.clock_gettime(time.CLOCK_BOOTTIME),
        interval=every,
        memory=0,
        cpu=0.0,
        loop_lag=0.0,
        connectors=[],
        channels=[],
        history=[],
    )


def next_page(page: Page, figures: HalfFigures, channels: list[Channel], lag: float) -> Page:
    """Return the next page."""
    used, memory = os.times(), page.memory
    with contextlib.suppress(OSError):  # no descriptor is left, which is no reason to end
        memory = int(read_proc("/proc/self/statm").split()[1]) * _PAGE_BYTES
    return msgspec.structs.replace(
        page,
        memory=memory,
        cpu=used.user + used.system,
        loop_lag=lag,
        connectors=figures.connectors(),
        channels=channels,
        history=list(figures.record.history),
    )


async def _in_pieces(channels: Iterable[Channel]) -> list[Channel]:
    """Return all of them; with thousands, others have their turn meanwhile."""
    found: list[Channel] = []
    iterator = iter(channels)
    while piece := list(islice(iterator, _AT_ONCE)):
        found += piece
        if len(piece) == _AT_ONCE:
            await trio.lowlevel.checkpoint()
    return found


async def _pause(seconds: float, record: HealthRecord) -> float:
    """Wait, less long if the health changes, and return by how much the loop was late at most meanwhile."""
    lag, changes = 0.0, record.changes
    for _ in range(_LOOKS):
        due = trio.current_time() + seconds / _LOOKS
        await trio.sleep_until(due)
        lag = max(lag, trio.current_time() - due)
        if record.changes != changes:
            break
    return lag
