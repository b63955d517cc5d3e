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
from taktora_trio.connectors.storing.opening import LOOK_EVERY, RETRY, Remarks, open_store, start_keeping
from taktora_trio.connectors.storing.outbound import StoredSource
from taktora_trio.connectors.storing.stores import ConnectorStore
from taktora_trio.errors import StoreError
from taktora_trio.health import HealthBoard
from taktora_trio.store import Log

if TYPE_CHECKING:
    from taktora_trio.transport.source import PayloadSource

__all__ = ["StoreKeeper"]

log = logging.getLogger(__name__)


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
        self._remarks = Remarks(connector.name, health)
        self._catch_up = CatchUp(store.priorities, store.shared.catch_up_rate)
        self._trouble = ""
        self.log: Log | None = None
        """The log, while it is open."""
        self.filling: Filling | None = None
        """How the log fills, as soon as it was looked at."""
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
        async with trio.open_nursery() as nursery:
            await start_keeping(nursery, self._keep_open)
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
        delays = RETRY.delays()
        while True:
            try:
                async with self._open() as store:
                    delays = RETRY.delays()
                    opened.set()
                    await self._look_after(store)
            except StoreError as exc:
                delay = next(delays)
                log.error(
                    "%s: %s; trying again in %.1f s",
                    self._name,
                    exc,
                    delay,
                    extra={"event": "store-unusable", "connector": self._name, "delay": delay},
                )
                opened.set()
                self._trouble = str(exc)
                await self._show_trouble_for(delay)

    @contextlib.asynccontextmanager
    async def _open(self) -> AsyncIterator[Log]:
        async with open_store(self._name, self._store, self.sources, self._remarks) as store:
            self._trouble = ""
            self.log = store
            for source in self.sources.values():
                source.opened(store)
            try:
                yield store
            finally:
                self.log = None
                for source in self.sources.values():
                    source.stop()
                    source.closed()
                if left := sum(store.channel(name).count for name in self.sources):
                    log.info(
                        "%s: %d messages stay in the store, for the next gateway",
                        self._name,
                        left,
                        extra={"event": "store-left", "connector": self._name, "count": left},
                    )

    async def _look_after(self, store: Log) -> None:
        """Show again and again how full the store is, and what is wrong with it; drop what is too old."""
        whole = self.filling = Filling(store.capacity)
        limits = {name: policy.max_messages for name, policy in self._store.channels.items()}
        fillings = {name: Filling(limit) for name, limit in limits.items() if limit is not None}
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
            self._remarks.show(remarks)
            for source in self.sources.values():
                source.drop_what_is_too_old()
            await trio.sleep(LOOK_EVERY)

    async def _show_trouble_for(self, seconds: float) -> None:
        until = trio.current_time() + seconds
        while (now := trio.current_time()) < until:
            self._remarks.show_one(self._trouble)
            await trio.sleep(min(LOOK_EVERY, until - now))

    def _show_of(self, channel: str, reason: str) -> None:
        self._remarks.show_one(f"channel {channel}: {reason}")
