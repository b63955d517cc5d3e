"""Opening: a connector's log, as its policy says; and telling people what is there, and what is wrong with it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping

import trio

from taktora_trio.connectors.storing.stores import ConnectorStore
from taktora_trio.health import HealthBoard
from taktora_trio.store import Log, open_log
from taktora_trio.supervision.backoff import Backoff

__all__ = ["LOOK_EVERY", "RETRY", "Remarks", "open_store", "start_keeping"]

log = logging.getLogger(__name__)

RETRY = Backoff(initial=0.5, maximum=30, factor=2, jitter=0.1)
"""When to try again to open what could not be opened, or has failed."""
LOOK_EVERY = 1.0
"""Seconds from one look at a store to the next."""
_PATIENCE = 1.0  # seconds for which a connection waits for a disk that opens slowly, before it goes on without it
_SHOWN_FOR = 5.0  # seconds
_CLOSE = 0.4  # seconds: a gateway's stop has its drain, its farewell, and this


class Remarks:
    """What is to be said of a store now: each in the health for as long as it is so, and in the log when it changes."""

    def __init__(self, connector: str, health: HealthBoard) -> None:
        self._connector = connector
        self._health = health
        self._shown: Mapping[str, str] = {}

    def show(self, remarks: Mapping[str, str]) -> None:
        """Show these, by what each is about: one takes the place of the last one about the same."""
        for about, remark in remarks.items():
            self._health.degrade(self._connector, remark, _SHOWN_FOR, instead_of=self._shown.get(about))
        if remarks != self._shown:
            self._shown, text = remarks, "; ".join(remarks.values())
            level = logging.WARNING if text else logging.INFO
            log.log(
                level,
                "%s: %s",
                self._connector,
                text or "the store is well again",
                extra={"event": "store-remark" if text else "store-well", "connector": self._connector},
            )

    def show_trouble(self, trouble: str) -> None:
        """Show it in the health if there is any."""
        if trouble:
            self.show_one(trouble)

    def show_one(self, remark: str) -> None:
        """Show it in the health alone."""
        self._health.degrade(self._connector, remark, _SHOWN_FOR)


async def start_keeping(nursery: trio.Nursery, keep_open: Callable[[trio.Event], Awaitable[object]]) -> None:
    """Start a task that keeps a log open; return when it has set its event, or if that takes too long."""
    opened = trio.Event()
    nursery.start_soon(keep_open, opened)
    with trio.move_on_after(_PATIENCE):
        await opened.wait()


@contextlib.asynccontextmanager
async def open_store(
    connector: str, store: ConnectorStore, kept: Collection[str], remarks: Remarks
) -> AsyncIterator[Log]:
    """Open the log, and log what is in it. `kept` are the channels that are declared to be stored there.

    What is wrong with it is shown as soon as that is so, and for a while: a full disk to which nothing more is to be
    written, since all is acknowledged by then, would else not be seen.

    Raises `StoreError` if it can't be used now, and `ConfigError` for a store of another deployment, or of a newer
    version.
    """
    shared = store.shared
    async with open_log(
        store.folder,
        identity=store.identity,
        max_bytes=shared.max_bytes,
        sync_every=shared.sync_every,
        close_timeout=_CLOSE,
    ) as opened:
        for name, channel in opened.channels.items():
            if channel.count and name in kept:
                log.info(
                    "%s: channel %s goes on with %d stored messages",
                    connector,
                    name,
                    channel.count,
                    extra={"event": "store-goes-on", "connector": connector, "channel": name, "count": channel.count},
                )
            elif channel.count:
                text = "%s: the store has %d messages of channel %s, which is not stored any more: they stay there"
                log.warning(
                    text,
                    connector,
                    channel.count,
                    name,
                    extra={"event": "store-orphaned", "connector": connector, "channel": name, "count": channel.count},
                )
        opened.on_trouble = remarks.show_trouble
        yield opened
