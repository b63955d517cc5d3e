"""Opens a `ConnectorHost`, with all that it needs to follow its gateways."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import trio

from taktora_trio.connectors.base import Connector
from taktora_trio.connectors.plan import check_ends
from taktora_trio.errors import summary
from taktora_trio.health import Connecting, ConnectorHealth, Degraded, Down, HealthBoard, HealthEvent, Up
from taktora_trio.host.gateways import Gateways
from taktora_trio.host.host import ConnectorHost
from taktora_trio.host.reader import ChannelReader as ChannelReader  # here, so that no app waits for it in its loop
from taktora_trio.host.writer import ChannelWriter as ChannelWriter
from taktora_trio.processes.link import LinkEnd, ReviveGateway
from taktora_trio.transport.ports import Node
from taktora_trio.transport.trunk import open_trunk

if TYPE_CHECKING:  # an app that has no executor does not load one
    from taktora_trio.executor import Observer

__all__ = ["open_connector_host", "open_watching_host"]

log = logging.getLogger(__name__)

_FLUSH_TIMEOUT = 1.0  # seconds that the app's end may take for the gateway to take what it sent last


@contextlib.asynccontextmanager
async def open_connector_host(
    node: Node,
    connectors: Sequence[Connector],
    *,
    link: LinkEnd | None = None,
    revive: Callable[[], object] | None = None,
    observers: Sequence[Observer] = (),
    settings: object = None,
    deployment: str = "",
    incarnation: int = 1,
) -> AsyncIterator[ConnectorHost]:
    """Open the host of these connectors; the services must exist. Health is followed while the block lasts.

    `link` leads to the supervisor, if the gateway has one of ours; `revive` revives it, if it runs in this process.
    `settings` are the app's own. `deployment` is the name that it is shown by, and `incarnation` the number of this
    start (`taktora_trio.vitals`).
    """
    async with open_watching_host(
        node,
        connectors,
        link=link,
        revive=revive,
        observers=observers,
        settings=settings,
        deployment=deployment,
        incarnation=incarnation,
    ) as (host, _):
        yield host


@contextlib.asynccontextmanager
async def open_watching_host(
    node: Node,
    connectors: Sequence[Connector],
    *,
    link: LinkEnd | None = None,
    revive: Callable[[], object] | None = None,
    observers: Sequence[Observer] = (),
    settings: object = None,
    deployment: str = "",
    incarnation: int = 1,
) -> AsyncIterator[tuple[ConnectorHost, Gateways]]:
    """Open the host as `open_connector_host` does, and yield its `Gateways` too.

    They are for whoever runs a gateway in this process, and tells by them how it fares.
    """
    from taktora_trio.vitals.record import HealthRecord  # a supervisor imports this module, too, and is to be small
    from taktora_trio.vitals.serving import HalfFigures, serve_vitals

    specs = check_ends(connectors, "app")
    for connector in connectors:
        if connector.tracing and not connector.trace_space:
            text = "%s: messages carry no trace, for what it speaks carries no metadata: leave tracing=True out"
            log.warning(text, connector.name, extra={"event": "trace-impossible", "connector": connector.name})
    if link is not None:
        revive = partial(link.send, ReviveGateway())
    record = HealthRecord(specs)

    def on_event(event: HealthEvent) -> None:
        record.note(event)
        _log_event(event)

    board = HealthBoard(specs, on_event=on_event)
    async with contextlib.AsyncExitStack() as stack:
        trunks = {name: await stack.enter_async_context(open_trunk(node, spec, "app")) for name, spec in specs.items()}
        nursery = await stack.enter_async_context(trio.open_nursery())
        gateways = Gateways._create(node, connectors, board, nursery, trunks, supervised=link is not None)
        host = ConnectorHost._create(connectors, trunks, board, gateways, revive, observers, settings, record)
        figures, count = host._vitals, sum(len(connector.channels) for connector in connectors)
        half = HalfFigures("plugin", deployment, incarnation, record, figures.connectors, figures.channels, count)
        nursery.start_soon(serve_vitals, node, half)
        nursery.start_soon(board.expire)
        if link is not None:
            nursery.start_soon(gateways.follow_supervisor, link)
        for connector in connectors:
            nursery.start_soon(gateways.follow, connector)
        try:
            yield host, gateways
        finally:
            gateway_works = not all(isinstance(state, Down) for state in board.states().values())
            await host._close(_FLUSH_TIMEOUT if gateway_works else 0)
            board.close()
            nursery.cancel_scope.cancel()


# By what the connector is now. docs/events.md says of each what to do.
_EVENTS: dict[type[ConnectorHealth], str] = {
    Up: "health-up",
    Connecting: "health-connecting",
    Degraded: "health-degraded",
    Down: "health-down",
}


def _log_event(event: HealthEvent) -> None:
    cause = event.cause
    if isinstance(cause, BaseException):
        cause = summary(cause)  # with its traceback it was logged where it was caught
    because = f" because {cause}" if cause and str(cause) not in str(event.after) else ""
    log.info(
        "health of %s: %s -> %s%s",
        event.component,
        type(event.before).__name__,
        event.after,
        because,
        extra={
            "event": _EVENTS[type(event.after)],
            "connector": event.component,
            "health": (event.component, type(event.after).__name__, getattr(event.after, "reason", "")),
        },
    )
