"""A message that can't be read ends no reader: what becomes of it is said when the reader is opened."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import AsyncIterator, Callable
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from taktora_trio import (
    ChannelReader,
    CodecError,
    ConfigError,
    Degraded,
    Inbound,
    JsonCodec,
    MessageError,
    MqttConnector,
    MqttRouting,
    PayloadCodec,
    RawCodec,
    Received,
    Rejected,
    TransportError,
)
from taktora_trio.connectors.plan import channel_spec, specs_of, trunk_spec
from taktora_trio.errors import collapse
from taktora_trio.executor import Context, Executor, on_message
from taktora_trio.health import Up
from taktora_trio.host.host import ConnectorHost
from taktora_trio.host.open import open_watching_host
from taktora_trio.host.reader import OnError, open_reader
from taktora_trio.transport.domain import Domain
from taktora_trio.transport.envelope import HEADER
from taktora_trio.transport.health import GatewayIdentity, open_health_reporter
from taktora_trio.transport.node import open_node
from taktora_trio.transport.publisher import EnvelopePublisher
from taktora_trio.transport.services import open_services
from tests.transport.rig import open_half, open_publisher


@attrs.define
class Rig:
    host: ConnectorHost
    port: EnvelopePublisher
    reader: ChannelReader[int]

    def send(self, *payloads: bytes) -> None:
        for payload in payloads:
            assert self.port.send(payload, b"plant/7")

    def send_corrupt(self) -> None:
        """Send an envelope that claims more bytes than it has room for."""
        loan = self.port.loan(5, b"plant/7")
        assert self.port.send_loan(loan)  # nobody has looked at it yet
        HEADER.pack_into(loan.buffer, 0, 1, 2, 3, 101, 0, 0, 0, 0, b"")


@contextlib.asynccontextmanager
async def open_rig(
    domain: Domain, on_error: OnError = "keep", *, window: int = 64, codec: PayloadCodec | None = None
) -> AsyncIterator[Rig]:
    """Open a reader of numbers, and the port that a gateway has at the other end. The connector is `Up`."""
    channel = Inbound("in", int, MqttRouting("plant/+"), max_payload=100, window=window)
    connector = MqttConnector([channel], codec=codec or JsonCodec())
    with domain.hold("owner"):
        async with (
            open_node(domain, "test") as node,
            open_services(node, specs_of([connector])),
            open_watching_host(node, [connector]) as (host, _),
            open_publisher(node, channel_spec(connector, channel)) as port,
            open_health_reporter(node, trunk_spec(connector), GatewayIdentity.of_this_process()) as reporter,
            host.open_reader(channel, on_error=on_error) as reader,
        ):
            reporter.report(Up())
            with trio.fail_after(5):
                await host.wait_for_health(Up)
            yield Rig(host, port, reader)


async def test_by_default_it_is_counted_logged_shown_and_kept_and_the_next_one_comes(
    domain: Domain, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_rig(domain) as rig:
        rig.send(b"1", b"{", b"\x1b[2J", b'"text"', b"", b"5", b"[")
        assert (await rig.reader.receive()).value == 1
        assert (await rig.reader.receive()).value == 5
        with pytest.raises(trio.WouldBlock):
            rig.reader.receive_nowait()
        statistics = rig.reader.statistics()
        assert (statistics.received, statistics.rejected) == (2, 5)
        kept = rig.reader.rejected
        assert [(r.topic, r.payload, r.length) for r in kept] == [
            ("plant/7", payload, len(payload)) for payload in (b"{", b"\x1b[2J", b'"text"', b"", b"[")
        ]
        assert all(isinstance(r.error, CodecError) and r.error.topic == "plant/7" for r in kept)
        assert "'plant/7' can't be decoded" in str(kept[0].error)
        assert rig.host.health() == Degraded("channel in gets messages that can't be read")
    told = [record.getMessage() for record in caplog.records if "can't be read" in record.getMessage()]
    assert [line.partition("(")[2][:8] for line in told] == ["1 so far", "2 so far", "4 so far"]
    assert all("plant/7" in line and line.isprintable() for line in told)


async def test_raise_raises_and_the_next_one_comes(domain: Domain) -> None:
    async with open_rig(domain, "raise") as rig:
        rig.send(b"{", b"2")
        with pytest.raises(CodecError, match="a message on 'plant/7' can't be decoded") as caught:
            await rig.reader.receive()
        assert isinstance(caught.value, MessageError)
        assert caught.value.topic == "plant/7"
        assert (await rig.reader.receive()).value == 2
        assert rig.reader.rejected == ()
        assert rig.reader.statistics().rejected == 1
        assert rig.host.health() == Up()


async def test_a_function_gets_each_with_its_topic_and_all_its_bytes(
    domain: Domain, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[Rejected] = []
    async with open_rig(domain, seen.append) as rig:
        rig.send(b"x" * 100, b"2")
        assert (await rig.reader.receive()).value == 2
        [rejected] = seen
        assert (rejected.topic, rejected.payload, rejected.length) == ("plant/7", b"x" * 100, 100)
        assert isinstance(rejected.error, CodecError)
        assert rig.reader.rejected == ()
        assert rig.reader.statistics().rejected == 1
        assert rig.host.health() == Up()
    assert "can't be read" not in caplog.text


async def test_what_the_function_raises_is_raised_and_the_reader_goes_on(domain: Domain) -> None:
    def fail(rejected: Rejected) -> None:
        raise LookupError(rejected.topic)

    async with open_rig(domain, fail) as rig:
        rig.send(b"{", b"2")
        with pytest.raises(LookupError, match="plant/7"):
            await rig.reader.receive()
        assert (await rig.reader.receive()).value == 2


class _BrokenCodec(RawCodec):
    """One that breaks its promise to raise `CodecError`."""

    def encoder(self, message_type: type[Any]) -> Callable[[Any], bytes]:
        return str.encode

    def decoder(self, message_type: type[Any]) -> Callable[[Any], Any]:
        return lambda payload: int(bytes(payload))


async def test_an_apps_own_codec_may_raise_whatever_it_likes(domain: Domain) -> None:
    async with open_rig(domain, codec=_BrokenCodec()) as rig:
        rig.send(b"one", b"2")
        assert (await rig.reader.receive()).value == 2
        assert "ValueError: invalid literal" in str(rig.reader.rejected[0].error)


@pytest.mark.parametrize("on_error", ["keep", "raise", list[Rejected]().append])
async def test_a_corrupt_envelope_is_no_more_than_a_message(on_error: OnError, domain: Domain) -> None:
    """It gives its place in the window back: with a window of 1 nothing would ever come behind it else."""
    async with open_rig(domain, on_error, window=1) as rig:
        for number in range(3):
            rig.send_corrupt()
            if on_error == "raise":
                with pytest.raises(TransportError, match="claims"):
                    rig.reader.receive_nowait()
            with pytest.raises(trio.WouldBlock):
                rig.reader.receive_nowait()
            rig.send(b"%d" % number)
            with trio.fail_after(5):
                assert (await rig.reader.receive()).value == number
            with pytest.raises(trio.WouldBlock):
                rig.reader.receive_nowait()  # it is done with when the next is asked for
        if on_error == "keep":
            kept = rig.reader.rejected
            assert [type(r.error) for r in kept] == [TransportError] * 3
            assert kept[0].payload[: HEADER.size] == HEADER.pack(1, 2, 3, 101, 0, 0, 0, 0, b"")


async def test_a_corrupt_envelope_is_not_lent(domain: Domain) -> None:
    async with open_rig(domain) as rig:
        rig.send_corrupt()
        rig.send(b"2")
        with trio.fail_after(5):
            async with rig.reader.borrow() as received:
                assert bytes(received.value) == b"2"
        assert len(rig.reader.rejected) == 1


async def test_what_is_kept_is_bounded(domain: Domain) -> None:
    async with open_rig(domain) as rig:
        for number in range(40):
            rig.send(b"x%d" % number)
        rig.send(b"1")
        assert (await rig.reader.receive()).value == 1
        assert [r.payload for r in rig.reader.rejected] == [b"x%d" % number for number in range(8, 40)]


async def test_what_is_kept_is_bounded_in_bytes_and_holds_no_shared_memory(domain: Domain) -> None:
    channel = Inbound("in", int, MqttRouting("t"), max_payload=100_000, window=4)
    connector = MqttConnector([channel])
    with domain.hold("owner"):
        async with (
            open_node(domain, "test") as node,
            open_services(node, specs_of([connector])),
            open_publisher(node, channel_spec(connector, channel)) as port,
            open_half(node, connector, "app") as app,
            open_reader(app, connector, channel) as reader,
        ):
            for length in (30_000, 30_000, 10_000):
                port.send(b"x" * length)
            with pytest.raises(trio.WouldBlock):
                reader.receive_nowait()
            assert [r.length for r in reader.rejected] == [30_000, 10_000]
            port.send(b"y" * 100_000)
            with pytest.raises(trio.WouldBlock):
                reader.receive_nowait()
            [last] = reader.rejected
            assert (last.length, len(last.payload)) == (100_000, 65_536)
            exc: BaseException | None = last.error
            while exc is not None:
                assert exc.__traceback__ is None
                assert not any(isinstance(referred, memoryview) for referred in gc.get_referents(exc))
                exc = exc.__cause__ or exc.__context__


async def test_a_flood_of_them_stops_nobody(domain: Domain) -> None:
    """As long as others have their turn, and what is good behind them comes."""
    async with open_rig(domain, window=256) as rig:
        rig.send(*[b"x"] * 200, b"1")
        looks = 0
        with trio.fail_after(5):
            while True:
                try:
                    received = rig.reader.receive_nowait()
                except trio.WouldBlock:
                    looks += 1
                    await rig.reader.wait()
                else:
                    break
        assert received.value == 1
        assert looks >= 5

        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(count)
            await trio.lowlevel.checkpoint()
            rig.send(*[b"x"] * 200, b"2")
            turns = 0
            assert (await rig.reader.receive()).value == 2
            assert turns >= 199
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("on_error", ["keep", "raise", "function", "raising function"])
async def test_an_item_on_messages_works_with_each(on_error: str, domain: Domain) -> None:
    seen: list[object] = []

    def note(rejected: Rejected) -> None:
        seen.append(f"rejected {rejected.topic}")

    def fail(rejected: Rejected) -> None:
        raise LookupError("looked for")

    given: dict[str, OnError] = {"function": note, "raising function": fail, "keep": "keep", "raise": "raise"}
    async with open_rig(domain, given[on_error]) as rig:
        executor = Executor()

        @executor.item(on_message(rig.reader))
        async def follow(ctx: Context[Received[int]]) -> None:
            try:
                seen.append(ctx.message.value)
            except (CodecError, LookupError) as exc:
                seen.append(type(exc).__name__)
            if seen[-1] == 3:
                ctx.stop()

        rig.send(b"1", b"bad", b"3")
        with trio.fail_after(10):
            await executor.run()
    between: dict[str, list[object]] = {
        "keep": [],
        "raise": ["CodecError"],
        "function": ["rejected plant/7"],
        "raising function": ["LookupError"],
    }
    assert seen == [1, *between[on_error], 3]


async def _look(rejected: Rejected) -> None:
    pass


@pytest.mark.parametrize("wrong", ["ignore", None, 1, _look])
async def test_another_way_to_do_with_it_is_a_mistake(wrong: Any, domain: Domain) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        async with open_rig(domain, wrong):
            pass
    cause = collapse(caught.value)
    assert isinstance(cause, ConfigError)
    assert f"on_error is {wrong!r}; use 'keep', 'raise', 'dead-letter' or a function that is not async" in str(cause)
