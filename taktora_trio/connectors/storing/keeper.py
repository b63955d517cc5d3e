"""StoreKeeper: one connector's log on disk, opened and kept open whatever the disk does, and its channels."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

import trio

from taktora_trio.connectors.base import Connector
from taktora_trio.connectors.storing.catching_up import CatchUp
from taktora_trio.connectors.storing.filling import Filling
from taktora_trio.connectors.storing.outbound import StoredSource
from taktora_trio.connectors.storing.stores import ConnectorStore
from taktora_trio.errors import StoreError
from taktora_trio.health import HealthBoard
from taktora_trio.store import Log, open_log
from taktora_trio.supervision.backoff import Backoff

if TYPE_CHECKING:
    from taktora_trio.transport.source import PayloadSource

__all__ = ["StoreKeeper"]

log = logging.getLogger(__name__)

_PATIENCE = 1.0  # seconds for which messages wait for a disk that opens slowly, before they go on without it
_RETRY = Backoff(initial=0.5, maximum=30, factor=2, jitter=0.1)
_LOOK_EVERY = 1.0  # seconds
_SHOWN_FOR = 5.0  # seconds
_CLOSE = 0.4  # seconds: a gateway's stop has its drain, its farewell, and this


class StoreKeeper:
    """Keeps the log of one connector. Make it, let `serve` run once, and tell it of connections."""

    def __init__(
        self,
        connector: Connector,
        store: ConnectorStore,
        sources: Mapping[str, PayloadSource],
        health: HealthBoard,
    ) -> None:
        self._name = connector.name
        self._store = store
        self._health = health
        self._catch_up = CatchUp(store.priorities, store.shared.catch_up_rate)
        self._trouble = ""
        declared = {channel.name: channel for channel in connector.channels}
        self.sources = {
            name: StoredSource(
                name,
                sources[name],
                policy,
                topic=declared[name].routing.address,
                window=declared[name].window,
                max_inflight=connector.options.max_inflight,
                guarantee=connector.guarantee(declared[name]),
                catch_up=self._catch_up,
                on_trouble=partial(self._show_of, name),
            )
            for name, policy in store.channels.items()
        }
        """The channels that are stored, by name."""

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; started when the log is open, or if that takes too long: messages go on meanwhile.

        Raises `ConfigError` for a store of another deployment, or of a newer version.
        """
        opened = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_open, opened)
            with trio.move_on_after(_PATIENCE):
                await opened.wait()
            for source in self.sources.values():
                nursery.start_soon(source.serve)
            task_status.started()

    @contextlib.contextmanager
    def connected(self) -> Iterator[None]:
        """There is a connection for as long as the block lasts."""
        for source in self.sources.values():
            source.connected(True)
        try:
            yield
        finally:
            for source in self.sources.values():
                source.connected(False)

    def stop(self) -> None:
        """The gateway is about to end: store whatever is not acknowledged."""
        for source in self.sources.values():
            source.stop()

    async def _keep_open(self, opened: trio.Event) -> None:
        delays = _RETRY.delays()
        while True:
            try:
                async with self._open() as store:
                    delays = _RETRY.delays()
                    opened.set()
                    await self._look_after(store)
            except StoreError as exc:
                delay = next(delays)
                log.error("%s: %s; trying again in %.1f s", self._name, exc, delay)
                opened.set()
                self._trouble = str(exc)
                await self._show_trouble_for(delay)

    @contextlib.asynccontextmanager
    async def _open(self) -> AsyncIterator[Log]:
        shared = self._store.shared
        async with open_log(
            self._store.folder,
            identity=self._store.identity,
            max_bytes=shared.max_bytes,
            sync_every=shared.sync_every,
            close_timeout=_CLOSE,
        ) as store:
            self._trouble = ""
            self._log_what_is_there(store)
            for source in self.sources.values():
                source.opened(store)
            try:
                yield store
            finally:
                for source in self.sources.values():
                    source.stop()
                    source.closed()
                if left := sum(store.channel(name).count for name in self.sources):
                    log.info("%s: %d messages stay in the store, for the next gateway", self._name, left)

    def _log_what_is_there(self, store: Log) -> None:
        for name, channel in store.channels.items():
            if not channel.count:
                continue
            if name in self.sources:
                log.info("%s: channel %s goes on with %d stored messages", self._name, name, channel.count)
            else:
                text = "%s: the store has %d messages of channel %s, which is not declared any more: they stay there"
                log.warning(text, self._name, channel.count, name)

    async def _look_after(self, store: Log) -> None:
        """Show again and again how full the store is, and what is wrong with it; drop what is too old."""
        whole = Filling(store.capacity)
        limits = {name: policy.max_messages for name, policy in self._store.channels.items()}
        fillings = {name: Filling(limit) for name, limit in limits.items() if limit is not None}
        shown: dict[str, str] = {}
        while True:
            now = trio.current_time()
            remarks = {}
            if store.trouble:
                remarks["trouble"] = store.trouble
            if store.damage:
                remarks["damage"] = f"the store was damaged: {store.damage}"
            if remark := whole.look(now, store.used):
                remarks["filling"] = f"the store is {remark}"
            for name, filling in fillings.items():
                if remark := filling.look(now, store.channel(name).count):
                    remarks[f"filling of {name}"] = f"the store of channel {name} is {remark}"
            for about, remark in remarks.items():
                self._show(remark, instead_of=shown.get(about))
            if remarks != shown:
                shown = remarks
                if text := "; ".join(remarks.values()):
                    log.warning("%s: %s", self._name, text)
                else:
                    log.info("%s: the store is well again", self._name)
            for source in self.sources.values():
                source.drop_what_is_too_old()
            await trio.sleep(_LOOK_EVERY)

    async def _show_trouble_for(self, seconds: float) -> None:
        until = trio.current_time() + seconds
        while (now := trio.current_time()) < until:
            self._show(self._trouble)
            await trio.sleep(min(_LOOK_EVERY, until - now))

    def _show_of(self, channel: str, reason: str) -> None:
        self._show(f"channel {channel}: {reason}")

    def _show(self, reason: str, *, instead_of: str | None = None) -> None:
        self._health.degrade(self._name, reason, _SHOWN_FOR, instead_of=instead_of)
