"""The flight recorder of a process: what went on in it lately, kept in memory that outlives it, and in a file when a
connector is `Down` or the plugin has failed.

Each half has a ring (`transport/flight.py`) of its log lines, in which its health is, and of its vitals. Whoever lives
has the file written: the plugin where it sees a connector `Down`, and a supervisor where the plugin fails. Without
`Deployment.flight_recorder` no file is written, and commands alone keep their log lines, for `taktora-trio logs`.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

import trio

from taktora_trio.errors import TransportError, check_library
from taktora_trio.runners.deployment import Deployment
from taktora_trio.runners.parts.flight_files import FlightFiles
from taktora_trio.runners.this_process.logs import is_set_up
from taktora_trio.transport.domain import Domain

if TYPE_CHECKING:  # a supervisor imports this module too, and is to be small
    from taktora_trio.host.host import ConnectorHost
    from taktora_trio.transport.flight import FlightRing

__all__ = ["GOOD_END", "LOG_LINE", "VITALS_PAGE", "open_flight_recorder"]

log = logging.getLogger(__name__)

LOG_LINE, VITALS_PAGE, GOOD_END = 1, 2, 3
"""The kinds of records in a ring. The last one is written where a half ends well."""
_LINES = 64 * 1024  # bytes of a ring of log lines alone: the last few hundred, for `taktora-trio logs`
_EVERY = 1.0  # seconds from one page of vitals to the next
_LAST = 3.0  # seconds for which the last file may still be written, at the end of the block


@contextlib.asynccontextmanager
async def open_flight_recorder(
    deployment: Deployment, domain: Domain, half: str, host: ConnectorHost | None = None
) -> AsyncIterator[FlightFiles]:
    """Record what goes on in this process during the block, if the deployment says so. The domain must exist.

    `half` is `plugin`, `gateway`, `gateway:CONNECTOR` for one that has some connectors alone, or `supervisor`. With a
    `host`, a file is written for each `Down` of a connector; by what is yielded, for more.

    Raises `ConfigError` if the library is missing that writes files.
    """
    files = FlightFiles(deployment, domain)
    if deployment.flight_recorder == "off":
        with _open_ring(domain, half, _LINES) if is_set_up() else contextlib.nullcontext():
            yield files
        return
    check_library("the flight recorder", "mcap", "mcap", "operate")
    if domain.holder("owner") == os.getpid() and (killed := _killed(domain, half)):
        files.write(killed)
    with _open_ring(domain, half) as ring:
        async with trio.open_nursery() as nursery:
            if ring is not None:
                nursery.start_soon(_keep_vitals, ring, domain, half)
            if host is not None:
                nursery.start_soon(files.follow, host.health_events())
            async with _serving(files):
                yield files
            nursery.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def _serving(files: FlightFiles) -> AsyncIterator[None]:
    """Have files written during the block, and the last one a little longer, even if the block was cancelled."""
    scope = trio.CancelScope(shield=True)

    async def serve() -> None:
        with scope:
            await files.serve()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        try:
            yield
        finally:
            files.stop()
            scope.deadline = trio.current_time() + _LAST


@contextlib.contextmanager
def _open_ring(domain: Domain, half: str, size: int | None = None) -> Iterator[FlightRing | None]:
    from taktora_trio.runners.this_process.flight_log import logging_into
    from taktora_trio.transport.flight import FLIGHT_BYTES, map_flight
    from taktora_trio.transport.folder import FLIGHT

    try:
        ring = map_flight(domain.present().path / f"{FLIGHT}{half}", size or FLIGHT_BYTES)
    except TransportError as exc:  # the app is worth more than its recorder
        log.warning("no flight recorder: %s", exc, extra={"event": "flight-off"})
        yield None
        return
    try:
        with logging_into(ring, LOG_LINE, half):
            yield ring
        ring.write(GOOD_END, b"")
    finally:
        ring.close()


def _killed(domain: Domain, half: str) -> str:
    """Return what was killed before this process began, which is the owner; empty if nothing was."""
    from taktora_trio.transport.flight import read_flight
    from taktora_trio.transport.folder import FLIGHT, FLIGHT_BEFORE

    folder = domain.present().path
    if any(folder.glob(f"{FLIGHT_BEFORE}*")):
        return "the run before was killed"
    with contextlib.suppress(TransportError):
        left = read_flight(folder / f"{FLIGHT}{half}")
        if left and left[-1].kind != GOOD_END:
            return f"the {half} before has failed or was killed"
    return ""


async def _keep_vitals(ring: FlightRing, domain: Domain, half: str) -> None:
    """Serve: keep what this half says of itself. Runs until cancelled."""
    from taktora_trio.transport.folder import VITALS
    from taktora_trio.transport.snapshot import read_snapshot

    path = domain.present().path / f"{VITALS}{half}"
    last = 0
    while True:
        with contextlib.suppress(TransportError):
            snapshot = read_snapshot(path)
            if snapshot is not None and snapshot.boottime_ns != last:
                last = snapshot.boottime_ns
                ring.write(VITALS_PAGE, snapshot.content)
        await trio.sleep(_EVERY)
