"""An inbound channel in one process: the gateway's end, and the reader of an app; no gateway and no broker."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import attrs
import pytest
import trio

from taktora_trio import Inbound, MqttConnector, MqttRouting, Received
from taktora_trio.connectors.plan import channel_spec, specs_of
from taktora_trio.host.reader import ChannelReader, OnError, open_reader
from taktora_trio.transport.domain import Domain
from taktora_trio.transport.node import open_node
from taktora_trio.transport.ports import Node
from taktora_trio.transport.services import open_services
from taktora_trio.transport.sink import PayloadSink
from tests.transport.rig import open_half, open_sending

WINDOW = 8


@attrs.frozen
class Rig:
    node: Node
    connector: MqttConnector

    @contextlib.asynccontextmanager
    async def gateway(self) -> AsyncIterator[PayloadSink]:
        async with open_sending(self.node, channel_spec(self.connector, self.connector.channels[0])) as gateway:
            yield gateway

    @contextlib.asynccontextmanager
    async def reader(self, on_error: OnError = "raise") -> AsyncIterator[ChannelReader[Any]]:
        channel = self.connector.channels[0]
        async with (
            open_half(self.node, self.connector, "app") as app,
            open_reader(app, self.connector, channel, on_error=on_error) as reader,
        ):
            yield reader


@contextlib.asynccontextmanager
async def open_run(domain: Domain, **more: Any) -> AsyncIterator[Rig]:
    connector = MqttConnector([Inbound("in", int, MqttRouting("t"), window=WINDOW, **more)])
    with domain.hold("owner"):
        async with open_node(domain, "test") as node, open_services(node, specs_of([connector])):
            yield Rig(node, connector)


@contextlib.asynccontextmanager
async def open_both(
    domain: Domain, on_error: OnError = "raise", **more: Any
) -> AsyncIterator[tuple[PayloadSink, ChannelReader[Any]]]:
    async with open_run(domain, **more) as rig, rig.gateway() as gateway, rig.reader(on_error) as reader:
        yield gateway, reader


def send(gateway: PayloadSink, *values: int, again: bool = False) -> None:
    """Send these values, each with itself as its delivery id."""
    for value in values:
        gateway.send_nowait(b"%d" % value, delivery_id=value, redelivered=again)


def what(received: Received[Any]) -> tuple[int, int]:
    assert received.redelivered == (received.delivery_count > 1)
    return received.value, received.delivery_count


async def receive(reader: ChannelReader[Any], count: int) -> list[tuple[int, int]]:
    with trio.fail_after(5):
        return [what(await reader.receive()) for _ in range(count)]


class Failed(Exception): ...


@contextlib.contextmanager
def fails() -> Iterator[None]:
    with pytest.raises(Failed):
        yield
