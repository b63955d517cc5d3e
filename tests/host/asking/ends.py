"""The ends of an exchange's channels without shared memory, for logic under a virtual clock."""

from __future__ import annotations

from collections import deque
from typing import Any, cast

import attrs
import trio
from trio_util import RepeatedEvent

from taktora_trio import (
    BackPressure,
    ChannelReader,
    ChannelWriter,
    Exchange,
    Header,
    JsonCodec,
    Metadata,
    MqttRouting,
    PayloadOverflow,
    Received,
)
from taktora_trio.host.taken import Taken


@attrs.frozen
class Sent:
    """What was sent, and when."""

    payload: Any
    topic: str
    id: bytes
    metadata: Metadata
    at: float

    @property
    def properties(self) -> dict[str, str]:
        return dict(self.metadata.user_properties)


ADD: Exchange[list[int], int] = Exchange("add", list[int], int, MqttRouting("calculator/add", qos=1), max_reply=100)
REPLIES = "calculator/add/replies/{client_id}"
"""The response topic, as it is between the app and its gateway."""


class Writer:
    """What was sent is in `sent`; at most `room` until there is more."""

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self.room = 1_000_000
        self._more = trio.Event()
        self._news = RepeatedEvent()

    def add_room(self, more: int) -> None:
        self.room += more
        self._more.set()
        self._more = trio.Event()

    async def until_sent(self, count: int) -> list[Sent]:
        with trio.fail_after(1000):
            while len(self.sent) < count:
                await self._news.wait()
        assert len(self.sent) == count
        return self.sent

    def send_nowait(self, value: Any, *, correlation_id: bytes, topic: str, metadata: Metadata) -> int:
        if len(self.sent) >= self.room:
            raise BackPressure("full")
        self.sent.append(Sent(value, topic, correlation_id, metadata, trio.current_time()))
        self._news.set()
        return len(self.sent)

    async def send(self, value: Any, *, correlation_id: bytes, topic: str, metadata: Metadata) -> int:
        await trio.lowlevel.checkpoint()
        while len(self.sent) >= self.room:
            await self._more.wait()
        return self.send_nowait(value, correlation_id=correlation_id, topic=topic, metadata=metadata)

    def loan(self, length: int, *, topic: str, correlation_id: bytes, metadata: Metadata) -> _Loan:
        if length > ADD.max_reply:
            raise PayloadOverflow(f"{length} bytes are too many")
        return _Loan(self, bytearray(length), topic, correlation_id, metadata)


@attrs.frozen
class _Loan:
    writer: Writer
    memory: bytearray
    topic: str
    id: bytes
    metadata: Metadata

    async def __aenter__(self) -> memoryview:
        return memoryview(self.memory)

    async def __aexit__(self, kind: object, exc: object, traceback: object) -> None:
        if exc is None:
            await self.writer.send(bytes(self.memory), correlation_id=self.id, topic=self.topic, metadata=self.metadata)


class Reader:
    """What is put into it comes; what became of it is in `record`."""

    def __init__(self, message_type: Any) -> None:
        self.record: list[tuple[str, bytes]] = []
        self._decode = JsonCodec().decoder(message_type)
        self._waiting = deque[Taken[Any]]()
        self._news = trio.Event()
        self._numbers = 0

    def put(
        self,
        payload: bytes,
        which: bytes,
        metadata: Metadata | None = None,
        *,
        count: int = 1,
        boottime_ns: int = 0,
    ) -> None:
        self._numbers += 1
        header = Header(self._numbers, 0, boottime_ns, which)
        taken: Taken[Any] = Taken(self, payload, header, "", metadata, count, 0)
        try:
            taken.value = Received(self._decode(payload), header, "calculator/add", metadata, count)
        except Exception as exc:  # noqa: BLE001 - as the reader does it
            taken.error = exc
        self._waiting.append(taken)
        self._news.set()

    def take_nowait(self) -> Taken[Any]:
        if not self._waiting:
            raise trio.WouldBlock
        return self._waiting.popleft()

    async def wait(self) -> None:
        self._news = trio.Event()
        if self._waiting:
            await trio.lowlevel.checkpoint()
        else:
            await self._news.wait()

    def _taken_done(self, taken: Taken[Any]) -> None:
        self.record.append(("done", taken.header.correlation_id))

    def _taken_back(self, taken: Taken[Any], reason: str | None) -> None:
        assert reason is None
        self.record.append(("back", taken.header.correlation_id))

    def _taken_rejected(self, taken: Taken[Any], reason: str) -> None:
        raise AssertionError


def as_writer(writer: Writer) -> ChannelWriter[Any]:
    return cast("ChannelWriter[Any]", writer)


def as_reader(reader: Reader) -> ChannelReader[Any]:
    return cast("ChannelReader[Any]", reader)
