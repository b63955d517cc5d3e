"""Receipts: tasks wait until messages are stored or acknowledged, over any number of gateways, and hear of refusals."""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator

import attrs
import pytest
import trio
import trio.lowlevel
from trio.testing import wait_all_tasks_blocked

from taktora_trio import ChannelWriter, Envelope, JsonCodec, MessageError, MessageRefused
from taktora_trio.channels import Header
from taktora_trio.transport.cursor import ACKNOWLEDGED, DONE, WANTED
from taktora_trio.transport.domain import Domain
from taktora_trio.transport.source import PayloadSource
from tests.host.rig import writer_of
from tests.transport.rig import declare, open_domain, open_taking


@attrs.define
class Channel:
    writer: ChannelWriter[int]
    source: PayloadSource

    @property
    def counters(self) -> memoryview:
        return self.writer._port._counters

    def take(self, count: int) -> list[Envelope]:
        return [self.source.receive_nowait() for _ in range(count)]

    def acknowledge(self, number: int) -> None:
        self.source.acknowledge(Header(number, 0))


@contextlib.asynccontextmanager
async def open_channel(domain: Domain, window: int = 8) -> AsyncIterator[Channel]:
    connector, spec = declare(int, JsonCodec(), window=window)
    with trio.fail_after(20):
        async with (
            open_domain(domain, connector) as node,
            writer_of(node, connector) as writer,
            open_taking(node, spec, "t") as source,
        ):
            yield Channel(writer, source)


class Waits:
    """Tasks that wait for receipts, and what came of each."""

    def __init__(self, nursery: trio.Nursery, writer: ChannelWriter[int]) -> None:
        self._nursery = nursery
        self._writer = writer
        self.ended: dict[object, str] = {}

    def start(self, name: object, number: int | None, *, stored: bool = False) -> trio.CancelScope:
        scope = trio.CancelScope()
        self._nursery.start_soon(self._wait, name, number, stored, scope)
        return scope

    async def _wait(self, name: object, number: int | None, stored: bool, scope: trio.CancelScope) -> None:
        wait = self._writer.wait_stored if stored else self._writer.wait_acknowledged
        with scope:
            try:
                await wait(number)
                self.ended[name] = "ok"
            except (MessageError, trio.ClosedResourceError) as exc:
                self.ended[name] = f"{type(exc).__name__}: {exc}"


async def settle_all(waits: Waits, expected: dict[object, str]) -> None:
    """Wait until these have ended: what wakes them comes from the kernel."""
    while len(waits.ended) < len(expected):
        await trio.lowlevel.checkpoint()
    await wait_all_tasks_blocked()
    assert waits.ended == expected


async def test_send_returns_the_number(domain: Domain) -> None:
    async with open_channel(domain) as channel:
        assert await channel.writer.send(5) == 1
        assert channel.writer.send_nowait(6) == 2
        async with channel.writer.loan(1) as view:
            view[:] = b"7"
        assert channel.writer.last_sent == 3
        assert [envelope.header.sequence_number for envelope in channel.take(3)] == [1, 2, 3]


async def test_a_send_that_waits_returns_the_number_and_sends_once(domain: Domain) -> None:
    async with open_channel(domain, window=2) as channel, trio.open_nursery() as nursery:
        numbers: list[int] = []

        async def send() -> None:
            numbers.extend([await channel.writer.send(value) for value in range(20)])

        nursery.start_soon(send)
        for number in range(1, 21):
            while True:
                with contextlib.suppress(trio.WouldBlock):
                    assert channel.source.receive_nowait().payload == b"%d" % (number - 1)
                    break
                await channel.source.wait()
            channel.acknowledge(number)
    assert numbers == list(range(1, 21))


async def test_stored_and_acknowledged_are_two_things(domain: Domain) -> None:
    async with open_channel(domain) as channel, trio.open_nursery() as nursery:
        waits = Waits(nursery, channel.writer)
        for value in range(4):
            await channel.writer.send(value)
        for number in (1, 2, 3):
            waits.start(("stored", number), number, stored=True)
            waits.start(("acknowledged", number), number)
        waits.start("all stored", None, stored=True)
        await wait_all_tasks_blocked()
        assert waits.ended == {}
        channel.take(4)
        channel.source.release(2)
        expected: dict[object, str] = {("stored", 1): "ok", ("stored", 2): "ok"}
        await settle_all(waits, expected)
        channel.acknowledge(1)
        await settle_all(waits, expected := expected | {("acknowledged", 1): "ok"})
        assert channel.counters[DONE] == 2, "an acknowledgement releases nothing twice"
        channel.source.settled(3, "")
        await settle_all(waits, expected := expected | {("stored", 3): "ok", ("acknowledged", 3): "ok"})
        channel.acknowledge(4)
        await settle_all(waits, expected | {("acknowledged", 2): "ok", "all stored": "ok"})
        assert channel.counters[WANTED] == 0
        await channel.writer.wait_acknowledged()
        await channel.writer.wait_stored(4)


async def test_a_refusal_is_told_to_all_who_wait_and_once_to_the_next(domain: Domain) -> None:
    async with open_channel(domain) as channel, trio.open_nursery() as nursery:
        waits = Waits(nursery, channel.writer)
        for value in range(6):
            await channel.writer.send(value)
        for name, number in (("two", 2), ("three", 3), ("one of all", None), ("another of all", None)):
            waits.start(name, number)
        await wait_all_tasks_blocked()
        channel.take(6)
        channel.source.settled(2, "Quota exceeded")
        two = "MessageRefused: taktora.connector.mqtt.c.out: message 2: Quota exceeded"
        await settle_all(waits, {"two": two})
        channel.source.settled(5, "Not authorized")
        channel.acknowledge(6)
        all_ = (
            "MessageRefused: taktora.connector.mqtt.c.out: 2 of the messages 1 to 6 were refused"
            " (2: Quota exceeded; 5: Not authorized)"
        )
        await settle_all(waits, {"two": two, "three": "ok", "one of all": all_, "another of all": all_})
        await channel.writer.wait_acknowledged()  # these were told
        with pytest.raises(MessageRefused) as caught:
            await channel.writer.wait_stored()
        assert caught.value.refusals == {2: "Quota exceeded", 5: "Not authorized"}
        with pytest.raises(MessageRefused, match="message 5: Not authorized"):
            await channel.writer.wait_acknowledged(5)
        assert await channel.writer.send(7) == 7
        channel.take(1)
        channel.acknowledge(7)
        await channel.writer.wait_stored()


@pytest.mark.parametrize("number", [0, -1, 3, True, "2", 1.0])
async def test_a_number_that_was_not_sent(number: int, domain: Domain) -> None:
    async with open_channel(domain) as channel:
        await channel.writer.wait_acknowledged()  # nothing was sent
        await channel.writer.send(0)
        await channel.writer.send(1)
        with pytest.raises(MessageError, match=r"numbers are 1 to 2: give the number that send has returned"):
            await channel.writer.wait_acknowledged(number)


async def test_who_waits_at_a_writer_that_is_closed(domain: Domain) -> None:
    async with open_channel(domain, window=2) as channel, trio.open_nursery() as nursery:
        waits = Waits(nursery, channel.writer)
        for value in range(2):
            await channel.writer.send(value)
        for number in (1, 2, None):
            waits.start(number, number)
        nursery.start_soon(_send_on_a_closed_writer, channel.writer)
        await wait_all_tasks_blocked()
        channel.writer.close()
        closed = "ClosedResourceError: this writer was closed"
        await settle_all(waits, {1: closed, 2: closed, None: closed})
        with pytest.raises(trio.ClosedResourceError):
            await channel.writer.wait_stored()
        assert channel.counters[WANTED] == 0


async def _send_on_a_closed_writer(writer: ChannelWriter[int]) -> None:
    with pytest.raises(trio.ClosedResourceError):
        await writer.send(9)


async def test_a_writer_that_is_opened_again_answers_for_what_the_one_before_has_sent(domain: Domain) -> None:
    connector, spec = declare(int, JsonCodec())
    async with open_domain(domain, connector) as node, open_taking(node, spec, "t") as source:
        async with writer_of(node, connector) as writer:
            await writer.send(0)
            source.receive_nowait()
        async with writer_of(node, connector) as writer:  # of another port, as after a restart of the app
            await writer.wait_acknowledged()  # nothing of its own
            with pytest.raises(MessageError, match="was sent by this process"):
                await writer.wait_acknowledged(1)
            assert await writer.send(1) == 2
            source.acknowledge(Header(2, 0))
            await writer.wait_acknowledged(2)


async def test_tasks_that_come_go_and_are_cancelled_all_get_their_receipts(domain: Domain) -> None:
    """One of them watches for all, and any of them may be cancelled or have done, at any time."""
    rng = random.Random(5)
    async with open_channel(domain, window=64) as channel, trio.open_nursery() as nursery:
        waits = Waits(nursery, channel.writer)
        expected: dict[object, str] = {}
        scopes: dict[object, trio.CancelScope] = {}
        acknowledged = 0
        for turn in range(400):
            match rng.randrange(5):
                case 0 | 1 if channel.writer.last_sent < acknowledged + 64:
                    await channel.writer.send(turn)
                    channel.take(1)
                case 2 if channel.writer.last_sent > acknowledged:
                    number = rng.choice([None, rng.randint(acknowledged + 1, channel.writer.last_sent)])
                    scopes[turn] = waits.start(turn, number, stored=rng.random() < 0.3)
                    expected[turn] = "ok"
                    await wait_all_tasks_blocked()
                case 3 if scopes and rng.random() < 0.4:
                    gone = rng.choice(sorted(scopes))  # type: ignore[type-var]
                    scopes.pop(gone).cancel()
                    await wait_all_tasks_blocked()
                    if gone not in waits.ended:
                        del expected[gone]
                case 4 if channel.writer.last_sent > acknowledged:
                    acknowledged = rng.randint(acknowledged + 1, channel.writer.last_sent)
                    channel.acknowledge(acknowledged)
                    if rng.random() < 0.5:
                        await trio.lowlevel.checkpoint()
        if channel.writer.last_sent > acknowledged:
            channel.acknowledge(channel.writer.last_sent)
        await settle_all(waits, expected)
        assert channel.counters[WANTED] == 0


async def test_a_receipt_is_waited_for_over_gateways(domain: Domain) -> None:
    """What the first one knew beyond the count is open again: the second one publishes it once more."""
    connector, spec = declare(int, JsonCodec(), window=8)
    async with open_domain(domain, connector) as node, writer_of(node, connector) as writer:
        async with trio.open_nursery() as nursery:
            waits = Waits(nursery, writer)
            async with open_taking(node, spec, "t") as source:
                for value in range(4):
                    await writer.send(value)
                for number in (1, 2, 3):
                    waits.start(number, number)
                await wait_all_tasks_blocked()
                for _ in range(4):
                    source.receive_nowait()
                source.acknowledge(Header(1, 0))
                source.settled(4, "Quota exceeded")
                await settle_all(waits, {1: "ok"})
            waits.start(4, 4)
            async with open_taking(node, spec, "t") as source:
                await wait_all_tasks_blocked()
                again = [source.receive_nowait() for _ in range(3)]
                assert [envelope.header.sequence_number for envelope in again] == [2, 3, 4]
                source.acknowledge(again[-1].header)
                with trio.fail_after(5):
                    while len(waits.ended) < 4:
                        await trio.lowlevel.checkpoint()
        refused = "MessageRefused: taktora.connector.mqtt.c.out: message 4: Quota exceeded"
        assert waits.ended == {1: "ok", 2: "ok", 3: "ok", 4: refused}, "it was told while it was so"
        await writer.wait_acknowledged(4)


async def test_an_outcome_that_was_not_kept_is_never_taken_for_an_acknowledgement(domain: Domain) -> None:
    async with open_channel(domain) as channel:
        for value in range(1000):
            await channel.writer.send(value)
            [envelope] = channel.take(1)
            channel.source.settled(envelope.header.sequence_number, f"reason {value}")
            channel.source.acknowledge(envelope.header)
        with pytest.raises(MessageRefused, match="message 1000: reason 999"):
            await channel.writer.wait_acknowledged(1000)
        with pytest.raises(MessageRefused, match="message 900: the reason was not kept"):
            await channel.writer.wait_acknowledged(900)
        with pytest.raises(MessageError, match="what became of message 3 was not kept"):
            await channel.writer.wait_acknowledged(3)
        with pytest.raises(MessageRefused, match=r"at least 256 of the messages 1 to 1000 were refused \(745: "):
            await channel.writer.wait_acknowledged()


async def test_what_a_broken_gateway_writes_is_not_believed(domain: Domain, caplog: pytest.LogCaptureFixture) -> None:
    async with open_channel(domain) as channel, trio.open_nursery() as nursery:
        waits = Waits(nursery, channel.writer)
        await channel.writer.send(0)
        waits.start("one", 1)
        waits.start("all", None, stored=True)
        for word in (2**64 - 1, 2**62, 2):
            channel.counters[ACKNOWLEDGED] = channel.counters[DONE] = word
            channel.source._port.wake_writer()
            await wait_all_tasks_blocked(0.01)
        assert waits.ended == {}
        assert "which can't be and is not believed" in caplog.text
        channel.counters[ACKNOWLEDGED] = channel.counters[DONE] = 0
        channel.take(1)
        channel.acknowledge(1)
        await settle_all(waits, {"one": "ok", "all": "ok"})
