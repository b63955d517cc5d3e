"""A broker and its sessions inside one process, for tests and for trying things out without a network."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping

import trio

from taktora_trio.mqtt.options import MqttOptions
from taktora_trio.mqtt.sessions.session import ConnectFailed, ConnectRefused, Message, OnMessage, Session, SessionLost
from taktora_trio.mqtt.topics import FilterTree

__all__ = ["MemoryBroker", "open_memory_session"]


class MemoryBroker:
    """What a broker does, without one. There is one for each address; see `MemoryBroker.at`."""

    _brokers: defaultdict[tuple[str, int], MemoryBroker]

    def __init__(self) -> None:
        self.sessions: list[MemorySession] = []
        self.connects = 0
        self.subscribed: list[dict[str, int]] = []
        """Every SUBSCRIBE that came, for tests to look at."""
        self.unreachable = False
        self.refuses_login = False
        self.retained: dict[str, Message] = {}

    @classmethod
    def at(cls, host: str, port: int) -> MemoryBroker:
        return cls._brokers[host, port]

    def deliver(self, message: Message) -> None:
        if message.retain:
            self.retained[message.topic] = message
        for session in list(self.sessions):
            for _ in session.filters.match(message.topic)[:1]:
                session.on_message(message)

    def drop_all(self, reason: str = "connection reset") -> None:
        """Cut every connection."""
        for session in list(self.sessions):
            session.lose(reason)


MemoryBroker._brokers = defaultdict(MemoryBroker)


class MemorySession(Session):
    def __init__(self, broker: MemoryBroker, on_message: OnMessage) -> None:
        self.filters = FilterTree[int]()
        self.on_message = on_message
        self._broker = broker
        self._lost: SessionLost | None = None
        self._ended = trio.Event()

    async def subscribe(self, filters: Mapping[str, int]) -> None:
        await trio.lowlevel.checkpoint()
        if self._lost:
            raise self._lost
        self._broker.subscribed.append(dict(filters))
        for topic_filter, qos in filters.items():
            self.filters.add(topic_filter, qos)
            only = FilterTree([(topic_filter, qos)])
            for message in list(self._broker.retained.values()):
                if only.match(message.topic):
                    self.on_message(message)

    def publish(self, message: Message, on_done: Callable[[], None]) -> None:
        if self._lost is None:
            self._broker.deliver(message)
            on_done()

    async def wait_until_lost(self) -> SessionLost:
        await self._ended.wait()
        assert self._lost is not None
        return self._lost

    def lose(self, reason: str) -> None:
        if self._lost is None:
            self._lost = SessionLost(reason)
            self._broker.sessions.remove(self)
            self._ended.set()


@contextlib.asynccontextmanager
async def open_memory_session(options: MqttOptions, on_message: OnMessage) -> AsyncIterator[MemorySession]:
    await trio.lowlevel.checkpoint()
    broker = MemoryBroker.at(options.broker.host, options.broker.port)
    broker.connects += 1
    if broker.unreachable:
        raise ConnectFailed("the broker is unreachable")
    if broker.refuses_login:
        raise ConnectRefused("the broker refused the login: Not authorized")
    session = MemorySession(broker, on_message)
    broker.sessions.append(session)
    try:
        yield session
    finally:
        session.lose("disconnected")
