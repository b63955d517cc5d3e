"""A broker and its sessions inside one process, for tests and for trying things out without a network."""

from __future__ import annotations

import contextlib
import math
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping

import attrs
import msgspec
import trio
from trio_util import RepeatedEvent

from taktora_trio.connectors.mqtt.options import LastWill, MqttOptions
from taktora_trio.connectors.mqtt.sessions.session import (
    ConnectFailed,
    ConnectRefused,
    Session,
    SessionLost,
)
from taktora_trio.connectors.mqtt.topics import FilterTree, split_share
from taktora_trio.connectors.mqtt.wire.message import Message, OnDone, OnMessage
from taktora_trio.connectors.mqtt.wire.reasons import TAKEN_OVER
from taktora_trio.connectors.mqtt.wire.state import SessionState

__all__ = ["MemoryBroker", "open_memory_session"]


class _Kept(msgspec.Struct, frozen=True, gc=False):
    """A message that the broker keeps, and since when."""

    message: Message
    since: float

    @classmethod
    def now(cls, message: Message) -> _Kept:
        return cls(message, trio.current_time())

    @property
    def aged(self) -> Message | None:
        """The message with what is left of its life; `None` if nothing is (MQTT 5, section 3.3.2.3.3)."""
        metadata = self.message.metadata
        if metadata is None or metadata.message_expiry is None:
            return self.message
        left = metadata.message_expiry - int(trio.current_time() - self.since)
        if left <= 0:
            return None
        return msgspec.structs.replace(self.message, metadata=msgspec.structs.replace(metadata, message_expiry=left))


@attrs.define
class _Client:
    """A client as the broker knows it: its subscriptions, and the messages that it has not acknowledged."""

    filters: FilterTree[int] = attrs.field(factory=FilterTree)
    plain: dict[str, int] = attrs.field(factory=dict)
    """The same subscriptions: QoS by filter."""
    shared: dict[tuple[str, str], int] = attrs.field(factory=dict)
    """Shared subscriptions: QoS by group and filter."""
    unacknowledged: dict[int, _Kept] = attrs.field(factory=dict)
    sent: set[int] = attrs.field(factory=set)
    """Those of the unacknowledged that were sent before."""
    next_id: int = 0
    received: set[int] = attrs.field(factory=set)
    """The packet identifiers of QoS 2 that the broker has and has not acknowledged yet (section 4.3.3)."""

    def add(self, topic_filter: str, qos: int) -> bool:
        """Subscribe. Return true if the subscription is new."""
        group, plain = split_share(topic_filter)
        is_new = not self.remove(topic_filter)
        if group:
            self.shared[group, plain] = qos
        else:
            self.plain[plain] = qos
            self.filters.add(plain, qos)
        return is_new

    def remove(self, topic_filter: str) -> bool:
        """Unsubscribe. Return true if the client was subscribed."""
        group, plain = split_share(topic_filter)
        if group:
            return self.shared.pop((group, plain), None) is not None
        qos = self.plain.pop(plain, None)
        if qos is not None:
            self.filters.remove(plain, qos)
        return qos is not None

    def take(self, message: Message) -> Message | None:
        """Return the message as this client gets it, or `None` if it has not subscribed to the topic."""
        granted = self.filters.match(message.topic)
        return self.keep(message, max(granted)) if granted else None

    def due_again(self) -> Iterator[Message]:
        """Yield what is to be sent on a new connection, and forget what has had its time and was never sent."""
        for packet_id, kept in list(self.unacknowledged.items()):
            message = kept.message if packet_id in self.sent else kept.aged
            if message is None:
                del self.unacknowledged[packet_id]
            else:
                yield msgspec.structs.replace(message, redelivered=packet_id in self.sent)

    def keep(self, message: Message, granted: int) -> Message:
        """Return the message as this client gets it, and keep it until it is acknowledged."""
        qos = min(message.qos, granted)
        packet_id = 0
        if qos:
            self.next_id = self.next_id % 65_535 + 1
            packet_id = self.next_id
        message = msgspec.structs.replace(
            message, qos=qos, delivery_id=packet_id, redelivered=False, reliable=qos > 0, order=qos
        )
        if qos:
            self.unacknowledged[packet_id] = _Kept.now(message)
        return message


@attrs.define
class Line:
    """What lies between one client and the broker."""

    unreachable: bool = False
    refuses_login: bool = False
    delay: float = 0.0
    """Seconds to an acknowledgement of QoS 1 or 2; infinity for none."""


class MemoryBroker:
    """A broker without a network. There is one for each address; see `MemoryBroker.at`."""

    _brokers: defaultdict[tuple[str, int], MemoryBroker]

    def __init__(self) -> None:
        self.sessions: list[MemorySession] = []
        self.connects = 0
        self.subscribed: list[dict[str, int]] = []
        """The filters of each SUBSCRIBE, for tests."""
        self.unreachable = False
        self.refuses_login = False
        self.refused_topics: dict[str, str] = {}
        """Topics and filters that the broker refuses, with the reason that it gives."""
        self.retained: dict[str, _Kept] = {}
        self.kept: dict[str, _Client] = {}
        """The clients with a persistent session by client id, connected or not."""
        self.lines = defaultdict[str | None, Line](Line)
        """By client id, so that one connector has its faults while others of the same broker have none."""
        self.watchers: list[Callable[[str | None, Message], None]] = []
        """Each is called with the client id of whoever has published a message, and the message."""
        self._turn = 0  # of those who share a subscription

    @classmethod
    def at(cls, host: str, port: int) -> MemoryBroker:
        return cls._brokers[host, port]

    @classmethod
    def forget(cls, host: str, port: int) -> None:
        """Have a new broker there from now on, which knows nothing."""
        cls._brokers.pop((host, port), None)

    def set_delay(self, client_id: str | None, seconds: float) -> None:
        """Change the delay of a client's line. What waits for an acknowledgement there is told of it."""
        self.lines[client_id].delay = seconds
        for session in self.sessions:
            if session.client_id == client_id:
                session.delayed.set()

    def publish(self, client_id: str | None, message: Message) -> None:
        """Deliver a message of one of the clients."""
        for watcher in self.watchers:
            watcher(client_id, message)
        self.deliver(message)

    def deliver(self, message: Message) -> None:
        """Hand a message to all who have subscribed to its topic; of a shared subscription to one, in turn."""
        if message.retained:
            self.retained.pop(message.topic, None)
            if message.payload:  # without one, what was retained is gone (section 3.3.1.3)
                self.retained[message.topic] = _Kept.now(message)
            message = msgspec.structs.replace(message, retained=False)  # it is news to whoever has subscribed already
        connected = {id(session.client): session for session in self.sessions}
        clients = [session.client for session in self.sessions]
        clients += [client for client in self.kept.values() if id(client) not in connected]
        due = [(client, taken) for client in clients if (taken := client.take(message)) is not None]
        for (group, topic_filter), members in self._groups(clients).items():
            if FilterTree([(topic_filter, 0)]).match(message.topic):
                there = [client for client in members if id(client) in connected] or members
                self._turn += 1
                client = there[self._turn % len(there)]
                due.append((client, client.keep(message, client.shared[group, topic_filter])))
        for client, taken in due:
            if id(client) in connected:
                connected[id(client)].deliver(taken)

    def _groups(self, clients: list[_Client]) -> dict[tuple[str, str], list[_Client]]:
        """Return the members of each shared subscription (MQTT 5, section 4.8.2)."""
        groups = defaultdict[tuple[str, str], list[_Client]](list)
        for client in clients:
            for share in client.shared:
                groups[share].append(client)
        return groups

    def drop_all(self, reason: str = "connection reset") -> None:
        """Cut every connection."""
        for session in list(self.sessions):
            session.lose(reason)


MemoryBroker._brokers = defaultdict(MemoryBroker)


class MemorySession(Session):
    def __init__(
        self,
        broker: MemoryBroker,
        client: _Client,
        options: MqttOptions,
        state: SessionState,
        on_message: OnMessage,
    ) -> None:
        self.client = client
        self.client_id = options.client_id
        self._on_message = on_message
        self._state = state
        self._broker = broker
        self._line = broker.lines[options.client_id]
        self.v5 = options.protocol == "5"
        self._will: LastWill | None = options.will
        self.held: deque[Message] | None = None
        self._lost: SessionLost | None = None
        self._ended = trio.Event()
        self.delayed = RepeatedEvent()
        """Rung when an acknowledgement is to come later, and when the line's delay is another."""
        self._unanswered: deque[tuple[float, int, str, OnDone]] = deque()  # with the time of each

    def deliver(self, message: Message) -> None:
        if self.held is not None:
            self.held.append(message)
            return
        self.client.sent.add(message.delivery_id)
        if message.qos == 0 or self._state.arrived(message):
            self._on_message(message)
        else:
            self._acknowledge_due()

    async def subscribe(self, filters: Mapping[str, int]) -> dict[str, str]:
        await trio.lowlevel.checkpoint()
        if self._lost:
            raise self._lost
        self._broker.subscribed.append(dict(filters))
        for topic_filter, qos in filters.items():
            if topic_filter in self._broker.refused_topics:
                continue
            is_new = self.client.add(topic_filter, qos)
            if split_share(topic_filter)[0] or (self.v5 and not is_new):
                continue  # what is retained is not sent
            only = FilterTree([(topic_filter, qos)])
            for kept in list(self._broker.retained.values()):
                message = kept.aged
                if message is not None and only.match(message.topic) and (taken := self.client.take(message)):
                    self.deliver(taken)
        return {name: self._broker.refused_topics[name] for name in filters if name in self._broker.refused_topics}

    async def unsubscribe(self, filters: Iterable[str]) -> dict[str, str]:
        await trio.lowlevel.checkpoint()
        if self._lost:
            raise self._lost
        for topic_filter in filters:
            self.client.remove(topic_filter)
        return {}

    def publish(self, message: Message, packet_id: int, on_done: OnDone) -> None:
        if self._lost is None:
            refusal = self._broker.refused_topics.get(message.topic, "")
            if not refusal and not (message.qos == 2 and packet_id in self.client.received):
                sent = message if self.v5 else msgspec.structs.replace(message, metadata=None, correlation_id=b"")
                self._broker.publish(self.client_id, sent)
            refusal = refusal if self.v5 and message.qos else ""
            if not message.qos or not (self._line.delay or self._unanswered):  # they are answered in order
                on_done(packet_id, refusal)
                return
            if message.qos == 2:
                self.client.received.add(packet_id)
            self._unanswered.append((trio.current_time(), packet_id, refusal, on_done))
            self.delayed.set()

    def release(self, packet_id: int, on_done: OnDone) -> None:
        self.client.received.discard(packet_id)
        on_done(packet_id, "")

    @property
    def unanswered(self) -> int:
        return len(self._unanswered)

    async def answer_late(self) -> None:
        """Serve: acknowledge what was published when the line's delay is over. Runs until the connection is lost."""
        while True:
            due = self._unanswered[0][0] + self._line.delay if self._unanswered else math.inf
            if due > trio.current_time():
                with trio.move_on_at(due):
                    await self.delayed.wait()
                continue
            if self._lost is not None:
                return  # the broker holds them still, under their identifiers
            _, packet_id, refusal, on_done = self._unanswered.popleft()
            self.client.received.discard(packet_id)
            on_done(packet_id, refusal)

    def acknowledge(self, message: Message) -> None:
        self._state.acknowledge(message)
        if self._lost is None:
            self._acknowledge_due()

    def pause_reading(self) -> None:
        if self.held is None:
            self.held = deque()

    def resume_reading(self) -> None:
        held, self.held = self.held or deque(), None
        while held and self.held is None:
            self.deliver(held.popleft())
        if self.held is not None:
            self.held.extendleft(reversed(held))

    async def wait_until_lost(self) -> SessionLost:
        await self._ended.wait()
        assert self._lost is not None
        return self._lost

    def lose(self, reason: str, code: int = 0, *, politely: bool = False) -> None:
        if self._lost is None:
            self._lost = SessionLost(reason, code)
            self._broker.sessions.remove(self)
            self._ended.set()
            if self._will is not None and not politely:
                will = self._will
                told = Message(will.topic, will.payload, will.qos, retained=will.retain)
                self._broker.publish(self.client_id, told)

    def _acknowledge_due(self) -> None:
        for packet_id, _ in self._state.due():
            self.client.unacknowledged.pop(packet_id, None)
            self.client.sent.discard(packet_id)
            self._state.complete(packet_id)


@contextlib.asynccontextmanager
async def open_memory_session(
    options: MqttOptions, on_message: OnMessage, state: SessionState
) -> AsyncIterator[MemorySession]:
    """Connect to the broker in this process; see `open_session`."""
    await trio.lowlevel.checkpoint()
    broker = MemoryBroker.at(options.broker.host, options.broker.port)
    broker.connects += 1
    line = broker.lines[options.client_id]
    if broker.unreachable or line.unreachable:
        raise ConnectFailed("the broker is unreachable")
    if broker.refuses_login or line.refuses_login:
        raise ConnectRefused("the broker refused the login: Not authorized", 0x87)
    name = options.client_id or ""
    kept = broker.kept.pop(name, None)
    for other in [other for other in broker.sessions if name and other.client_id == name]:
        if other.v5:
            other.lose("the broker ended the connection: Session taken over", TAKEN_OVER)
        else:
            other.lose("the broker closed the connection")
    client = kept if kept is not None and options.persistent else _Client()
    if options.persistent and name:
        broker.kept[name] = client
    session = MemorySession(broker, client, options, state, on_message)
    session.session_present = client is kept
    state.connected(session.session_present)
    broker.sessions.append(session)
    try:
        async with trio.open_nursery() as nursery:
            if client.unacknowledged:
                session.held = deque(client.due_again())
                nursery.start_soon(_resend, session)
            async with trio.open_nursery() as services:
                services.start_soon(session.answer_late)
                yield session
                services.cancel_scope.cancel()
    finally:
        session.lose("disconnected", politely=True)


async def _resend(session: MemorySession) -> None:
    """Deliver what was kept for the client, but not before the caller has the session."""
    await trio.lowlevel.checkpoint()
    session.resume_reading()
