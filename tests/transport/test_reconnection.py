"""Two halves that could not be connected when the later one came, for want of a descriptor, are connected later."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator

import pytest
import trio

from taktora_trio import Degraded, Inbound, MqttConnector, MqttRouting, Outbound, RawCodec, Up
from taktora_trio.connectors.plan import channel_spec, trunk_spec
from taktora_trio.host.open import open_connector_host
from taktora_trio.supervision.backoff import Backoff
from taktora_trio.transport import health, reconnection
from taktora_trio.transport.domain import Domain
from taktora_trio.transport.health import GatewayIdentity, HealthReporter, open_health_reporter
from taktora_trio.transport.ports import Node
from taktora_trio.transport.reconnection import Reconnection
from taktora_trio.transport.spec import End
from taktora_trio.transport.subscriber import EnvelopeSubscriber
from taktora_trio.transport.trunk import Trunk, open_trunk
from tests.patience import PATIENCE
from tests.transport.rig import open_domain, reading, take_all, writing
from tests.transport.test_descriptors import left

IN = Inbound("in", bytes, MqttRouting("u"), max_payload=100, window=4)
OUT = Outbound("out", bytes, MqttRouting("t"), max_payload=100, window=4)


def connector_of(*channels: Inbound[bytes] | Outbound[bytes]) -> MqttConnector:
    return MqttConnector(channels, codec=RawCodec())


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnection, "_PAUSES", Backoff(initial=0.02, maximum=0.1, jitter=0))
    monkeypatch.setattr(health, "_AGAIN", 0.1)


async def quietly() -> None:
    await trio.lowlevel.checkpoint()


async def take(reader: EnvelopeSubscriber) -> list[tuple[int, bytes]]:
    """Take what there is, and wait to be woken if that is nothing."""
    while True:
        reader.data.clear()
        if there := list(take_all(reader)):
            return there
        await reader.data.wait()


@pytest.mark.parametrize("starved", ["app", "gateway"])
@pytest.mark.parametrize("channels", [(OUT,), (IN,), (OUT, IN)])
async def test_a_half_that_had_no_descriptor_when_the_other_came_is_connected_when_it_has(
    starved: End, channels: tuple[Inbound[bytes] | Outbound[bytes], ...], domain: Domain
) -> None:
    """What was sent meanwhile comes, too, and each wakes the other."""
    connector = connector_of(*channels)
    spec = trunk_spec(connector)
    other: End = "gateway" if starved == "app" else "app"
    told = list[str]()
    async with open_domain(domain, connector) as node, open_trunk(node, spec, starved) as early:
        specs, got = [channel_spec(connector, channel) for channel in channels], {}

        def send_before(half: Trunk, end: End) -> None:
            for channel in specs:
                if writing(channel) == end:
                    assert half.publisher(channel.name).send(b"before")

        send_before(early, starved)
        async with open_trunk(node, spec, other) as late, trio.open_nursery() as nursery:
            halves = {starved: early, other: late}
            send_before(late, other)
            connected = trio.Event()

            def changed(lacking: str) -> None:
                told.append(lacking)
                if not lacking:
                    connected.set()

            keepers = {
                starved: Reconnection(early, quietly, on_change=changed),
                other: Reconnection(late, quietly),
            }
            with left(0):
                keepers[starved].look()
            keepers[other].look()
            assert early.lacking or late.lacking
            for keeper in keepers.values():
                nursery.start_soon(keeper.serve)
            with trio.fail_after(PATIENCE):
                for channel in specs:
                    port = halves[writing(channel)].publisher(channel.name)
                    with halves[reading(channel)].open_subscriber(channel.name) as reader:
                        got[channel.name] = await take(reader)
                        assert port.send(b"after")
                        got[channel.name] += await take(reader)
                await connected.wait()
            assert not early.lacking
            assert not late.lacking
            nursery.cancel_scope.cancel()
    assert got == {name: [(1, b"before"), (2, b"after")] for name in spec.by_name}
    assert "too few descriptors" in told[0]
    assert told[-1] == ""


@contextlib.asynccontextmanager
async def open_gateway(node: Node, connector: MqttConnector) -> AsyncIterator[tuple[HealthReporter, Trunk]]:
    spec = trunk_spec(connector)
    async with (
        open_health_reporter(node, spec, GatewayIdentity.of_this_process()) as reporter,
        open_trunk(node, spec, "gateway") as trunk,
        trio.open_nursery() as nursery,
    ):

        async def announce() -> None:
            await reporter.repeat(Up())

        keeper = Reconnection(trunk, announce)
        nursery.start_soon(reporter.serve_newcomers, keeper.look)
        nursery.start_soon(keeper.serve)
        yield reporter, trunk
        nursery.cancel_scope.cancel()


async def test_an_app_shows_up_only_if_it_is_connected(domain: Domain, caplog: pytest.LogCaptureFixture) -> None:
    connector = connector_of(OUT, IN)
    caplog.set_level(logging.INFO)
    async with (
        open_domain(domain, connector) as node,
        open_connector_host(node, [connector]) as host,
        host.open_reader(IN) as reader,
        host.open_writer(OUT) as writer,
        open_gateway(node, connector) as (reporter, trunk),
    ):
        with left(0):
            reporter.report(Up())
            with trio.fail_after(PATIENCE):
                state = await host.wait_for_health(Up, Degraded)
        assert isinstance(state, Degraded)
        assert "too few descriptors" in state.reason
        trunk.publisher(channel_spec(connector, IN).name).send(b"in")
        writer.send_nowait(b"out")
        with trio.fail_after(PATIENCE):
            assert await host.wait_for_health(Up) == Up()
            assert (await reader.receive()).value == b"in"
            with trunk.open_subscriber(channel_spec(connector, OUT).name) as port:
                assert list(take_all(port)) == [(1, b"out")]
    assert sum("not connected with the other half" in record.getMessage() for record in caplog.records) >= 1
