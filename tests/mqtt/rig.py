"""The bridge in virtual time, with fakes on both sides: what the app sends and takes, and the session."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias, cast

import attrs
import trio
from trio.testing import wait_all_tasks_blocked
from trio_util import AsyncBool

from taktora_trio import (
    Backoff,
    BackPressure,
    Header,
    Inbound,
    Metadata,
    MqttConnector,
    MqttOptions,
    MqttRouting,
    Outbound,
    PayloadOverflow,
    RawCodec,
)
from taktora_trio.channels import ChannelDescriptor, Envelope
from taktora_trio.connectors.base import GatewayChannels
from taktora_trio.connectors.mqtt.sessions.client_state import ClientState
from taktora_trio.connectors.mqtt.sessions.memory import MemoryBroker
from taktora_trio.connectors.mqtt.sessions.session import Message, OnDone, OnMessage, Session, SessionLost
from taktora_trio.health import HealthBoard

BACKOFF = Backoff(initial=1, maximum=4, factor=2, jitter=0)


class Source:
    """What the app has sent; an exception in the queue is what reading it raises."""

    def __init__(self, *payloads: bytes | Envelope | Exception) -> None:
        self.queue: deque[bytes | Envelope | Exception] = deque(payloads)
        self.acknowledged: list[int] = []
        self.begun_before = 0
        self.begun: list[int] = []
        self.has_writer = True
        self._taken = 0
        self._more = trio.Event()

    def put(self, *payloads: bytes | Envelope | Exception) -> None:
        self.queue.extend(payloads)
        self._more.set()

    @property
    def is_behind(self) -> bool:
        return bool(self.queue)

    @property
    def unacknowledged(self) -> int:
        return self._taken + len(self.queue) - (self.acknowledged[-1] if self.acknowledged else 0)

    def receive_nowait(self) -> Envelope:
        if not self.queue:
            raise trio.WouldBlock
        payload = self.queue.popleft()
        if isinstance(payload, Exception):
            raise payload
        self._taken += 1
        if isinstance(payload, Envelope):
            return payload
        return Envelope(payload, Header(self._taken, 0), "")

    def begin(self, header: Header) -> None:
        self.begun.append(header.sequence_number)

    def acknowledge(self, header: Header) -> None:
        self.acknowledged.append(header.sequence_number)

    async def wait(self) -> None:
        await self._more.wait()
        self._more = trio.Event()


class Sink:
    """A channel with room for `window` messages, until the app takes some."""

    def __init__(self, window: int = 1000, max_payload: int = 100) -> None:
        self._window, self._max_payload = window, max_payload
        self._waiting: deque[tuple[bytes, str]] = deque()
        self._space = trio.Event()
        self.unread = 0
        self.topics: list[str] = []
        self.said: list[tuple[bytes, Metadata | None]] = []
        self.retained: list[bool] = []

    def send_nowait(
        self,
        value: bytes,
        *,
        topic: str = "",
        correlation_id: bytes = b"",
        metadata: Metadata | None = None,
        retained: bool = False,
    ) -> None:
        if len(value) > self._max_payload:
            raise PayloadOverflow(f"{len(value)} bytes")
        if len(self._waiting) >= self._window:
            raise BackPressure("full")
        self._waiting.append((value, topic))
        self.topics.append(topic)
        self.said.append((correlation_id, metadata))
        self.retained.append(retained)

    async def send(
        self,
        value: bytes,
        *,
        topic: str = "",
        correlation_id: bytes = b"",
        metadata: Metadata | None = None,
        retained: bool = False,
    ) -> None:
        await trio.lowlevel.checkpoint()
        while True:
            try:
                return self.send_nowait(
                    value, topic=topic, correlation_id=correlation_id, metadata=metadata, retained=retained
                )
            except BackPressure:
                self._space = trio.Event()
                await self._space.wait()

    def take(self, count: int = 1000) -> list[bytes]:
        taken = [self._waiting.popleft()[0] for _ in range(min(count, len(self._waiting)))]
        self._space.set()
        return taken


class FakeSession(Session):
    """Acknowledges when the test says so, or at once."""

    def __init__(self, *, acknowledges: bool = True, refusal: str = "", session_present: bool = False) -> None:
        self.acknowledges = acknowledges
        self.refusal = refusal
        self.session_present = session_present
        self.published: list[Message] = []
        self.unacknowledged: list[Callable[[], None]] = []
        self.ids: list[int] = []
        self.inbound_acknowledged: list[Message] = []
        self.released: list[int] = []
        self.completes = True
        self.uncompleted: list[Callable[[], None]] = []
        self.holds: list[bool] = []
        self.subscribed: list[dict[str, int]] = []
        self.unsubscribed: list[str] = []
        self.refused_filters: dict[str, str] = {}
        self.closed_at: float | None = None
        self._lost = trio.Event()

    @property
    def payloads(self) -> list[bytes]:
        return [message.payload for message in self.published]

    async def subscribe(self, filters: Mapping[str, int]) -> dict[str, str]:
        await trio.lowlevel.checkpoint()
        self.subscribed.append(dict(filters))
        return {name: reason for name, reason in self.refused_filters.items() if name in filters}

    async def unsubscribe(self, filters: Iterable[str]) -> dict[str, str]:
        await trio.lowlevel.checkpoint()
        self.unsubscribed += filters
        return {}

    def publish(self, message: Message, packet_id: int, on_done: OnDone) -> None:
        self.published.append(message)
        self.ids.append(packet_id)
        if self.acknowledges:
            on_done(packet_id, self.refusal)
        else:
            self.unacknowledged.append(partial(on_done, packet_id, self.refusal))

    def finish(self, *indices: int) -> None:
        """The broker acknowledges what was published."""
        for on_done in [self.unacknowledged[index] for index in indices]:
            on_done()

    def acknowledge(self, message: Message) -> None:
        self.inbound_acknowledged.append(message)

    def release(self, packet_id: int, on_done: OnDone) -> None:
        self.released.append(packet_id)
        if self.completes:
            on_done(packet_id, "")
        else:
            self.uncompleted.append(partial(on_done, packet_id, ""))

    def pause_reading(self) -> None:
        self.holds.append(True)

    def resume_reading(self) -> None:
        self.holds.append(False)

    def lose(self, failure: SessionLost | None = None) -> None:
        self._failure = failure or SessionLost("connection reset")
        self._lost.set()

    async def wait_until_lost(self) -> SessionLost:
        await self._lost.wait()
        return self._failure


@attrs.define
class FakeBroker:
    """Takes the place of `open_session`: each connect gets the next of `answers`, the last one for ever."""

    answers: Sequence[Session | Exception | None]
    connects: list[float] = attrs.field(factory=list)
    on_message: OnMessage | None = None
    options: MqttOptions | None = None

    @contextlib.asynccontextmanager
    async def open_session(
        self, options: MqttOptions, on_message: OnMessage, state: ClientState, max_payload: int
    ) -> AsyncIterator[Session]:
        answer = self.answers[min(len(self.connects), len(self.answers) - 1)]
        self.connects.append(trio.current_time())
        self.on_message, self.options = on_message, options
        await trio.lowlevel.checkpoint()
        if answer is None:
            await trio.sleep_forever()
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, Session)
        try:
            yield answer
        finally:
            if isinstance(answer, FakeSession):
                answer.closed_at = trio.current_time()


@attrs.define
class Bridge:
    """A running bridge."""

    sources: dict[str, Source]
    sinks: dict[str, Sink]
    stop: trio.Event
    health: list[tuple[str, float]] = attrs.field(factory=list)
    duties: list[Callable[[], str | None]] = attrs.field(factory=list)
    revive: AsyncBool = attrs.field(factory=AsyncBool)
    ended: trio.Event = attrs.field(factory=trio.Event)
    ended_at: float | None = None

    async def stopped(self) -> float | None:
        """Stop it; return when it ended."""
        self.stop.set()
        await self.ended.wait()
        return self.ended_at


@contextlib.asynccontextmanager
async def open_bridge(
    *channels: ChannelDescriptor[Any], sinks: dict[str, Sink] | None = None, begun_before: int = 0, **options: Any
) -> AsyncIterator[Bridge]:
    """Serve these channels; every health event is recorded with its time."""
    connector = MqttConnector(channels, codec=RawCodec(), options=MqttOptions(**{"reconnect": BACKOFF, **options}))
    outbound = {channel.name: Source() for channel in channels if channel.direction == "out"}
    for source in outbound.values():
        source.begun_before = begun_before
    inbound = {channel.name: Sink() for channel in channels if channel.direction == "in"} | (sinks or {})
    running = Bridge(outbound, inbound, trio.Event())
    board = HealthBoard(
        [connector.name], on_event=lambda event: running.health.append((str(event.after), trio.current_time()))
    )

    async def serve() -> None:
        await connector.serve_gateway(
            GatewayChannels(cast(Any, outbound), cast(Any, inbound), duties=running.duties, revive=running.revive),
            board,
            running.stop,
        )
        running.ended_at = trio.current_time()
        running.ended.set()

    with trio.fail_after(1000):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(board.expire)
            nursery.start_soon(serve)
            await wait_all_tasks_blocked()
            yield running
            await running.stopped()
            nursery.cancel_scope.cancel()


def outbound(name: str = "out", **options: Any) -> Outbound[bytes]:
    return Outbound(name, bytes, MqttRouting(f"topic/{name}", qos=1), **options)


def inbound(name: str, topic_filter: str, qos: Any = 0) -> Inbound[bytes]:
    return Inbound(name, bytes, MqttRouting(topic_filter, qos=qos))


def numbered(count: int, start: int = 0) -> list[bytes]:
    return [b"%d" % number for number in range(start, start + count)]


Fake: TypeAlias = Callable[..., FakeBroker]
Memory: TypeAlias = tuple[MemoryBroker, dict[str, Any]]
