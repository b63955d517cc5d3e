"""A bridge in virtual time, with fakes on both sides: the app's channels, and a connection."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from functools import partial
from typing import Any, ClassVar, Literal, cast

import attrs
import trio
from msgspec.structs import replace
from trio.testing import wait_all_tasks_blocked

from taktora_trio import (
    Backoff,
    BackPressure,
    ChannelDescriptor,
    Connector,
    ConnectorOptions,
    Header,
    Inbound,
    Metadata,
    Outbound,
    PayloadOverflow,
    RawCodec,
    Routing,
)
from taktora_trio.channels import Envelope
from taktora_trio.connectors.base import GatewayChannels
from taktora_trio.connectors.bridge import Bridge
from taktora_trio.connectors.connection import (
    Client,
    Connection,
    ConnectionLost,
    Guarantee,
    Incoming,
    OnDone,
    OnMessage,
)
from taktora_trio.connectors.pump import Turn
from taktora_trio.executor import Executor, every
from taktora_trio.executor.context import Step
from taktora_trio.health import HealthBoard

BACKOFF = Backoff(initial=1, maximum=4, factor=2, jitter=0)


class Source:
    """The app's messages. An exception in the queue is raised when its turn comes."""

    announces = True

    def __init__(self, *payloads: bytes | Envelope | Exception) -> None:
        self.queue: deque[bytes | Envelope | Exception] = deque(payloads)
        self.acknowledged: list[int] = []
        self.settled_alone: list[tuple[int, str]] = []
        self.begun_before = 0
        self.begun: list[int] = []
        self.has_writer = True
        self.stored = 0
        self.attached = 0
        self.topic = ""
        self._taken = 0
        self._turn: Turn | None = None

    def put(self, *payloads: bytes | Envelope | Exception) -> None:
        self.queue.extend(payloads)
        if self._turn is not None:
            self._turn.ask()

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
            return replace(payload, topic=payload.topic or self.topic)
        return Envelope(payload, Header(self._taken, 0), self.topic)

    def begin(self, header: Header, begun: Callable[[], None]) -> None:
        self.begun.append(header.sequence_number)
        begun()

    def acknowledge(self, header: Header) -> None:
        self.acknowledged.append(header.sequence_number)

    def settled(self, number: int, refusal: str) -> None:
        self.settled_alone.append((number, refusal))

    def attach(self) -> None:
        self.attached += 1

    def watch(self, turn: Turn) -> None:
        self._turn = turn


class Sink:
    """A channel with room for `window` messages. The app is done with those that it has taken."""

    def __init__(self, window: int = 1000, max_payload: int = 100) -> None:
        self._window, self._max_payload = window, max_payload
        self._waiting: deque[tuple[bytes, str]] = deque()
        self._turn: Turn | None = None
        self._sent = 0
        self.done = 0
        self.unread = 0
        self.topics: list[str] = []
        self.said: list[tuple[bytes, Metadata | None]] = []
        self.retained: list[bool] = []
        self.redelivered: list[tuple[bool, int]] = []
        self.reliable: list[bool] = []
        self.acknowledged = 0
        self.forgotten: list[int] = []
        """How many were sent, each time that the other side had forgotten all."""
        self.given = set[int]()
        """Numbers that the app was given, of those that arrive at most once."""
        self.dead: dict[int, tuple[str, int]] = {}
        """Numbers that the app has given up, with the reason, and how often it was given them."""

    def send_nowait(
        self,
        value: bytes,
        *,
        topic: str = "",
        correlation_id: bytes = b"",
        metadata: Metadata | None = None,
        retained: bool = False,
        redelivered: bool = False,
        delivery_id: int = 0,
        reliable: bool = True,
    ) -> int:
        if len(value) > self._max_payload:
            raise PayloadOverflow(f"{len(value)} bytes")
        if self._sent - self.done >= self._window:
            raise BackPressure("full")
        self._waiting.append((value, topic))
        self.topics.append(topic)
        self.said.append((correlation_id, metadata))
        self.retained.append(retained)
        self.redelivered.append((redelivered, delivery_id))
        self.reliable.append(reliable)
        self._sent += 1
        return self._sent

    def watch(self, turn: Turn) -> None:
        self._turn = turn

    @property
    def has_given_up(self) -> bool:
        return bool(self.dead)

    def was_given(self, number: int) -> bool:
        return number in self.given

    def given_up(self, number: int) -> tuple[str, int] | None:
        return self.dead.get(number)

    def note_forgotten(self) -> None:
        self.forgotten.append(self._sent)

    def note_acknowledged(self, number: int) -> None:
        self.acknowledged = number

    def take(self, count: int = 1000) -> list[bytes]:
        taken = self.open(count)
        self.finish(len(taken))
        return taken

    def open(self, count: int = 1000) -> list[bytes]:
        """Take some, without being done with them."""
        return [self._waiting.popleft()[0] for _ in range(min(count, len(self._waiting)))]

    def finish(self, count: int) -> None:
        """Be done with some more."""
        self.done += count
        if self._turn is not None:
            self._turn.ask()


@attrs.define
class RunningBridge:
    """A bridge that serves."""

    bridge: Bridge
    sources: dict[str, Source]
    sinks: dict[str, Sink]
    health: list[tuple[str, float]]
    stop: trio.Event
    ended: trio.Event = attrs.field(factory=trio.Event)
    ended_at: float | None = None

    async def stopped(self) -> float | None:
        """Stop it; return when it ended."""
        self.stop.set()
        await self.ended.wait()
        return self.ended_at


def numbered(count: int, start: int = 0) -> list[bytes]:
    return [b"%d" % number for number in range(start, start + count)]


@contextlib.asynccontextmanager
async def serve_connector(
    connector: Connector,
    *,
    sinks: dict[str, Sink] | None = None,
    begun_before: int = 0,
    memory: Callable[[str, int], memoryview] = lambda name, size: memoryview(bytearray(size)),
) -> AsyncIterator[RunningBridge]:
    """Serve a connector's channels; every health event is recorded with its time."""
    outbound = {channel.name: Source() for channel in connector.channels if channel.direction == "out"}
    for channel in connector.channels:
        if channel.direction == "out":
            outbound[channel.name].topic = channel.routing.address
            outbound[channel.name].begun_before = begun_before
    inbound = {channel.name: Sink() for channel in connector.channels if channel.direction == "in"} | (sinks or {})
    health: list[tuple[str, float]] = []
    board = HealthBoard([connector.name], on_event=lambda event: health.append((str(event.after), trio.current_time())))
    stop = trio.Event()
    channels = GatewayChannels(cast(Any, outbound), cast(Any, inbound), Executor(), board, memory=memory)
    bridge = Bridge(connector, channels, stop)
    running = RunningBridge(bridge, outbound, inbound, health, stop)

    async def serve() -> None:
        await bridge.serve()
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


# A protocol that is faked


@attrs.frozen
class AnyTopic(Routing):
    """All topics, or one."""

    topic: str = "topic/x"

    @property
    def address(self) -> str:
        return self.topic

    @property
    def is_pattern(self) -> bool:
        return False

    def check(self, direction: Literal["out", "in"]) -> None: ...


class FakeConnection(Connection):
    """Acknowledges when the test says so, or at once."""

    def __init__(self, *, acknowledges: bool = True, refusal: str = "", most: int | None = None) -> None:
        self.acknowledges = acknowledges
        self.published: list[tuple[str, Envelope]] = []
        self.again: list[bytes] = []
        self.unacknowledged: list[Callable[[], None]] = []
        self.acknowledged: list[Incoming] = []
        self.paused: list[bool] = []
        self.refused: list[str] = []
        self.asked_at: list[float] = []
        self.said_farewell = False
        self.closed_at: float | None = None
        self._refusal = refusal
        self._most = most
        self._lost = trio.Event()

    @property
    def payloads(self) -> list[bytes]:
        return [envelope.payload for _, envelope in self.published]

    def publish(self, channel: str, envelope: Envelope, on_done: OnDone, *, again: bool = False) -> None:
        self.published.append((channel, envelope))
        if again:
            self.again.append(envelope.payload)
        done = partial(on_done, envelope.header.sequence_number, self._refusal)
        if self.acknowledges:
            done()
        else:
            self.unacknowledged.append(done)

    def finish(self, *indices: int) -> None:
        """Acknowledge what was published, as the other side does."""
        for done in [self.unacknowledged[index] for index in indices]:
            done()

    def refuse(self, index: int, refusal: str) -> None:
        """Refuse one that was published, and is not acknowledged."""
        done = cast(partial[None], self.unacknowledged[index])
        done.func(done.args[0], refusal)

    def acknowledge(self, message: Incoming) -> None:
        self.acknowledged.append(message)

    def pause_reading(self) -> None:
        self.paused.append(True)

    def resume_reading(self) -> None:
        self.paused.append(False)

    def lose(self, failure: ConnectionLost | None = None) -> None:
        self._failure = failure or ConnectionLost("connection reset")
        self._lost.set()

    async def wait_until_lost(self) -> ConnectionLost:
        await self._lost.wait()
        return self._failure

    def most_in_flight(self, channel: str) -> int | None:
        return self._most

    def refused_channels(self) -> Sequence[str]:
        return self.refused

    async def ask_again(self) -> None:
        await trio.lowlevel.checkpoint()
        self.asked_at.append(trio.current_time())

    async def farewell(self) -> None:
        await trio.lowlevel.checkpoint()
        self.said_farewell = True


class FakeClient(Client):
    """Each connect gets the next of `answers`, the last one for ever."""

    def __init__(self, *answers: Connection | Exception | None, guarantee: Guarantee = "at least once") -> None:
        self.answers: Sequence[Connection | Exception | None] = answers
        self.connects: list[float] = []
        self.on_message: OnMessage = lambda message: None
        self.failures: list[Exception] = []
        self.revivals = 0
        self.given_up: list[tuple[str, Envelope]] = []
        self._guarantee = guarantee

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[Connection]:
        answer = self.answers[min(len(self.connects), len(self.answers) - 1)]
        self.connects.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        if answer is None:
            await trio.sleep_forever()
        if isinstance(answer, Exception):
            raise answer
        assert answer is not None
        try:
            yield answer
        finally:
            if isinstance(answer, FakeConnection):
                answer.closed_at = trio.current_time()

    def channels_of(self, topic: str) -> Iterable[str]:
        return [topic]

    @property
    def address(self) -> str:
        return "line://example"

    def guarantee(self, channel: str) -> Guarantee:
        return self._guarantee

    def ended(self, failure: Exception) -> None:
        self.failures.append(failure)

    def revived(self) -> None:
        self.revivals += 1

    def set_aside(self, channel: str, envelope: Envelope) -> None:
        self.given_up.append((channel, envelope))


@attrs.frozen
class FakeConnector(Connector):
    """Connects by the client that it was given. A message's topic is the name of its channel."""

    default_name: ClassVar[str] = "line"
    routing_type: ClassVar[type] = AnyTopic

    fake: FakeClient = attrs.field(kw_only=True)
    item: Step[Any] | None = attrs.field(default=None, kw_only=True)
    """Run by the gateway's executor once a second."""

    def client(self, channels: GatewayChannels, on_message: OnMessage) -> Client:
        if self.item is not None:
            channels.executor.add(self.item, every(1), name="item")
        self.fake.on_message = on_message
        return self.fake


@contextlib.asynccontextmanager
async def open_bridge(
    client: FakeClient, *channels: ChannelDescriptor[Any], sinks: dict[str, Sink] | None = None, **options: Any
) -> AsyncIterator[RunningBridge]:
    """Serve these channels by a client that is faked."""
    given = ConnectorOptions(**{"reconnect": BACKOFF, **options})
    connector = FakeConnector(channels, codec=RawCodec(), options=given, fake=client)
    async with serve_connector(connector, sinks=sinks) as running:
        yield running


def outbound(name: str = "out", **options: Any) -> Outbound[bytes]:
    return Outbound(name, bytes, AnyTopic(f"topic/{name}"), **options)


def inbound(name: str) -> Inbound[bytes]:
    return Inbound(name, bytes, AnyTopic(name))
