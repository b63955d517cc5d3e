"""StoredInbox: inbound channels with a log on disk between the other side and the app.

A message is acknowledged when it is on disk, and goes to the app from there as that makes room. So a slow app holds up
neither other channels nor the other side's queue, and what was acknowledged outlives everything but the disk.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from taktora_trio.channels import ChannelDescriptor
from taktora_trio.connectors.base import Connector
from taktora_trio.connectors.connection import Incoming
from taktora_trio.connectors.inbox import Inbox
from taktora_trio.connectors.storing.filling import Filling
from taktora_trio.connectors.storing.opening import LOOK_EVERY, RETRY, Remarks, open_store, start_keeping
from taktora_trio.connectors.storing.sink import StoredSink, incoming
from taktora_trio.connectors.storing.stores import ConnectorStore
from taktora_trio.errors import StoreError, leaves
from taktora_trio.health import HealthBoard
from taktora_trio.store import Log, LogChannel

if TYPE_CHECKING:
    from taktora_trio.connectors.dead_letters.letters import DeadLetters
    from taktora_trio.connectors.pump import Pump
    from taktora_trio.transport.sink import PayloadSink

__all__ = ["StoredInbox"]

log = logging.getLogger(__name__)

_AT_ONCE = 64  # records that are read at once
_READ_AGAIN = 5.0  # seconds after a disk could not be read


class StoredInbox:
    """The stored channels of one connector. Make it, let `serve` run once."""

    def __init__(
        self,
        connector: Connector,
        store: ConnectorStore,
        sinks: Mapping[str, PayloadSink],
        health: HealthBoard,
        dead_letters: DeadLetters | None,
        pump: Pump,
    ) -> None:
        self._name = connector.name
        self._store = store
        self._health = health
        self._remarks = Remarks(connector.name, health)
        self.log: Log | None = None
        """The log, while it is open."""
        self.filling: Filling | None = None
        """How the log fills, as soon as it was looked at."""
        channels = [channel for channel in connector.channels if channel.name in store.channels]
        self.sinks = {
            channel.name: StoredSink(channel.routing.address, store.shared.max_messages) for channel in channels
        }
        """What the connector's inbox sends to, instead of to the app."""
        self.inbox = Inbox(
            connector.name,
            [(channel, sinks[channel.name]) for channel in channels],
            lambda topic: (),  # what comes from the other side goes to the sinks above
            connector.options.inbound_backlog,
            health,
            pump,
            dead_letters=dead_letters,
        )
        self._feeds = [
            _Feed(channel, self.sinks[channel.name], sinks[channel.name], self.inbox) for channel in channels
        ]

    def log_undelivered(self) -> None:
        """Settle at the end what the app is done with, and log how many stored messages it is not done with."""
        self.inbox.settle()
        for feed in self._feeds:
            feed.log_undelivered()

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; started when the log is open, or if that takes too long.

        While the log can't be used, nothing is acknowledged. Raises `ConfigError` for a store of another deployment, or
        of a newer version.
        """
        async with trio.open_nursery() as nursery:
            await start_keeping(nursery, self._keep_open)
            task_status.started()

    async def _keep_open(self, opened: trio.Event) -> None:
        delays = RETRY.delays()
        while True:
            try:
                async with self._open() as store, trio.open_nursery() as nursery:
                    delays = RETRY.delays()
                    opened.set()
                    for feed in self._feeds:
                        nursery.start_soon(feed.serve, store)
                    await self._look_after(store)
            except* StoreError as group:
                failure = leaves(group)[0]
                delay = next(delays)
                log.error(
                    "%s: the inbound store can't be used: %s; trying again in %.1f s",
                    self._name,
                    failure,
                    delay,
                    extra={"event": "store-unusable", "connector": self._name, "delay": delay},
                )
                opened.set()
                self._health.degrade(self._name, f"the inbound store can't be used: {failure}", delay + LOOK_EVERY)
            await trio.sleep(delay)

    @contextlib.asynccontextmanager
    async def _open(self) -> AsyncIterator[Log]:
        async with open_store(self._name, self._store, self.sinks, self._remarks) as store:
            try:
                for name, sink in self.sinks.items():
                    await sink.opened(store.channel(name))
                self.log = store
                yield store
            finally:
                self.log = None
                self.inbox.settle()
                for feed in self._feeds:
                    feed.closing()
                for sink in self.sinks.values():
                    sink.closed()

    async def _look_after(self, store: Log) -> None:
        """Show again and again how full the store is, and what is wrong with it."""
        filling = self.filling = Filling(store.capacity)
        while True:
            remarks = {}
            if store.damage:
                remarks["damage"] = f"the inbound store was damaged: {store.damage}"
            if store.trouble:
                remarks["trouble"] = f"the inbound store can't be written: {store.trouble}"
            if remark := filling.look(trio.current_time(), store.used):
                remarks["filling"] = f"the inbound store is {remark}"
            full = [name for name, sink in self.sinks.items() if sink.is_full]
            if full:
                remarks["full"] = f"no more is acknowledged of {', '.join(full)}: the inbound store is full"
            self._remarks.show(remarks)
            for sink in self.sinks.values():
                sink.progressed()  # another channel may have made room
            await trio.sleep(LOOK_EVERY)


class _Feed:
    """One channel: gives the app what is on disk, as it makes room."""

    def __init__(self, channel: ChannelDescriptor[Any], stored: StoredSink, sink: PayloadSink, inbox: Inbox) -> None:
        self._name = channel.name
        self._topic = channel.routing.address
        self._window = channel.window
        self._stored = stored
        self._sink = sink
        self._inbox = inbox
        self._log: LogChannel | None = None
        self._given = 0  # the last record that was given to the app
        self._in_hand = 0
        self._kept: set[int] = set()  # the app is done with them, and the other side may send them again
        self._noted = 0
        self._news = trio.Event()
        stored.on_acknowledged = self._is_acknowledged

    async def serve(self, store: Log) -> None:
        """Serve until cancelled, with this log. What the app had been given of it before is given once."""
        self._log = channel = store.channel(self._name)
        channel.on_stored = self._is_stored
        before = channel.last if not self._given else 0
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._note, store)
                while True:
                    self._settle()
                    try:
                        await self._feed(channel, before)
                    except StoreError as exc:
                        log.error(
                            "channel %s: stored messages can't be read now: %s",
                            self._name,
                            exc,
                            extra={"event": "store-unreadable-now", "channel": self._name},
                        )
                        await trio.sleep(_READ_AGAIN)
                        continue
                    await self._news.wait()
                    self._news = trio.Event()
        finally:
            channel.on_stored = None

    def closing(self) -> None:
        """The log is about to be closed: settle what the app is done with."""
        self._settle()
        self._log = None

    def log_undelivered(self) -> None:
        self._settle()
        if (channel := self._log) is not None and (count := channel.count - len(self._kept)):
            log.info(
                "channel %s: stopped with %d stored messages, which the next run gets",
                self._name,
                count,
                extra={"event": "inbound-stored", "channel": self._name, "count": count},
            )

    async def _feed(self, channel: LogChannel, before: int) -> None:
        while (room := self._window - self._in_hand) > 0:
            while room and self._given < channel.stored and (fresh := self._stored.take_fresh(self._given + 1)):
                self._given += 1
                self._give(self._given, fresh)
                room -= 1
            if not room or self._given >= channel.stored:
                return
            records = await channel.read(self._given, min(room, _AT_ONCE))
            if not records:
                return
            for record in records:
                self._given = record.number
                self._stored.take_fresh(record.number)
                try:
                    message = incoming(record, self._topic, record.number <= before)
                except StoreError as exc:
                    log.error(
                        "channel %s: %s", self._name, exc, extra={"event": "stored-unreadable", "channel": self._name}
                    )
                    channel.settle(record.number)
                    continue
                self._give(record.number, message)

    def _give(self, record: int, message: Incoming) -> None:
        self._in_hand += 1
        self._inbox.give(self._name, message, partial(self._left, record))

    def _left(self, record: int, is_done: bool) -> None:
        """The app is done with it, or it is with the dead letters."""
        self._in_hand -= 1
        self._kept.add(record)
        self._news.set()

    def _is_acknowledged(self) -> None:
        if self._kept:
            self._news.set()

    def _is_stored(self) -> None:
        self._stored.progressed()
        self._news.set()

    def _settle(self) -> None:
        """Settle what the app is done with, in runs: many are done with at once."""
        if (channel := self._log) is None or not self._kept:
            return
        first = last = 0
        for record in sorted(filter(self._stored.may_settle, self._kept)):
            self._kept.discard(record)
            if record != last + 1:
                if last:
                    channel.settle(first, last)
                first = record
            last = record
        if last:
            channel.settle(first, last)
            if self._stored.is_full:
                self._stored.progressed()

    async def _note(self, store: Log) -> None:
        """Tell the app's reader now and then what the log has forgotten for good, so that it need not know it again."""
        while True:
            await trio.sleep(LOOK_EVERY)
            done = self._sink.done
            if done != self._noted and not self._kept:
                await store.commit()
                self._sink.note_acknowledged(done)
                self._noted = done
