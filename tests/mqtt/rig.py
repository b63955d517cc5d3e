"""A bridge with MQTT's client in virtual time, with fakes on both sides: the app's channels, and the session."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import attrs
import trio

from taktora_trio import (
    Inbound,
    MqttConnector,
    MqttOptions,
    MqttRouting,
    Outbound,
    RawCodec,
)
from taktora_trio.channels import ChannelDescriptor
from taktora_trio.connectors.mqtt.sessions.client_state import ClientState
from taktora_trio.connectors.mqtt.sessions.memory import MemoryBroker
from taktora_trio.connectors.mqtt.sessions.session import Session, SessionLost
from taktora_trio.connectors.mqtt.wire.message import Message, OnDone, OnMessage
from tests.connectors.rig import BACKOFF, RunningBridge, Sink, Source, numbered, serve_connector

__all__ = ["Sink", "Source", "numbered"]  # of tests/connectors, for the tests here


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

    def finish_release(self) -> None:
        """The broker completes all exchanges that were released."""
        uncompleted, self.uncompleted = self.uncompleted, []
        for on_done in uncompleted:
            on_done()

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
    timeouts: list[float] = attrs.field(factory=list)
    """The time that each attempt was given."""

    @contextlib.asynccontextmanager
    async def open_session(
        self, options: MqttOptions, on_message: OnMessage, state: ClientState, max_payload: int
    ) -> AsyncIterator[Session]:
        answer = self.answers[min(len(self.connects), len(self.answers) - 1)]
        self.connects.append(trio.current_time())
        self.timeouts.append(options.connect_timeout)
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


@contextlib.asynccontextmanager
async def open_bridge(
    *channels: ChannelDescriptor[Any],
    sinks: dict[str, Sink] | None = None,
    begun_before: int = 0,
    memory: Callable[[str, int], memoryview] = lambda name, size: memoryview(bytearray(size)),
    **options: Any,
) -> AsyncIterator[RunningBridge]:
    """Serve these channels; every health event is recorded with its time."""
    connector = MqttConnector(channels, codec=RawCodec(), options=MqttOptions(**{"reconnect": BACKOFF, **options}))
    async with serve_connector(connector, sinks=sinks, begun_before=begun_before, memory=memory) as running:
        yield running


def outbound(name: str = "out", **options: Any) -> Outbound[bytes]:
    return Outbound(name, bytes, MqttRouting(f"topic/{name}", qos=1), **options)


def inbound(name: str, topic_filter: str, qos: Any = 0) -> Inbound[bytes]:
    return Inbound(name, bytes, MqttRouting(topic_filter, qos=qos))


Fake: TypeAlias = Callable[..., FakeBroker]
Memory: TypeAlias = tuple[MemoryBroker, dict[str, Any]]
