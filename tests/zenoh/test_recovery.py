"""Recovery of what is published at most once: from the publisher's memory, each once; what is lost is counted."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from taktora_trio import (
    Client,
    Connection,
    GatewayChannels,
    Inbound,
    Outbound,
    RawCodec,
    ZenohConnector,
    ZenohOptions,
    ZenohRouting,
)
from taktora_trio.connectors.zenoh.lasting.kept_pairs import memory_for
from taktora_trio.connectors.zenoh.lasting.missed import Missed
from taktora_trio.connectors.zenoh.lasting.recovery import Sources
from taktora_trio.connectors.zenoh.session import Sample
from taktora_trio.executor import Executor
from taktora_trio.health import Degraded, HealthBoard, Up
from taktora_trio.testing.driver import Driver
from taktora_trio.testing.network import open_network
from taktora_trio.testing.zenoh.router import ZenohRouter
from tests.zenoh.hearing import Heard
from tests.zenoh.knowing import session_of, until_known

OUT = Outbound("out", bytes, ZenohRouting("plant/7/events", recover=10))
IN = Inbound("in", bytes, ZenohRouting("plant/**", recover=10))


class Receiver(Driver):
    """A driver whose gateways share a memory, and whose health shows."""

    def __init__(self, network: ZenohOptions, channel: Any = IN) -> None:
        super().__init__(ZenohConnector([channel], options=network, codec=RawCodec()), "receiver")
        self.board = HealthBoard(["zenoh"])
        self.board.report("zenoh", Up())
        self._memories: dict[str, bytearray] = {}
        self.client = self.new_client()

    def new_client(self) -> Client:
        """That of a gateway after one that was killed."""
        channels = GatewayChannels({}, {}, Executor(), self.board, "receiver", self._memory)
        return self.connector.client(channels, self._came)

    async def numbers(self, count: int) -> list[int]:
        return [int(message.payload) for message in await self.take(count)]

    def _memory(self, name: str, size: int) -> memoryview:
        return memoryview(self._memories.setdefault(name, bytearray(size)))


class Sender(Driver):
    def __init__(self, network: ZenohOptions, channel: Any = OUT) -> None:
        super().__init__(ZenohConnector([channel], options=network, codec=RawCodec()), "sender")
        self._next = 0

    async def send(self, connection: Connection, count: int, size: int = 1) -> None:
        numbers = range(self._next, self._next + count)
        self._next += count
        self.publish(connection, "out", self.envelopes("out", *((b"%d" % number).ljust(size) for number in numbers)))
        await self.until_done(self._next)


async def test_after_a_cut_what_was_sent_meanwhile_comes_once_and_in_order(network: ZenohOptions) -> None:
    sends, receives = Sender(network), Receiver(network)
    async with sends.connected() as sending:
        async with receives.connected() as receiving:
            await until_known(session_of(sending), session_of(receiving))
            await sends.send(sending, 5)
            assert await receives.numbers(5) == list(range(5))
        await sends.send(sending, 5)
        async with receives.connected():
            assert await receives.numbers(5) == list(range(5, 10))
            await sends.send(sending, 1)
            assert await receives.numbers(1) == [10]
        await sends.send(sending, 3)
        receives.client = receives.new_client()
        async with receives.connected():
            assert await receives.numbers(3) == [11, 12, 13]
    assert receives.waiting == 0
    assert receives.board.state("zenoh") == Up()


async def test_what_the_publisher_keeps_no_more_is_counted_and_shown(
    network: ZenohOptions, caplog: pytest.LogCaptureFixture
) -> None:
    sends, receives = Sender(network), Receiver(network)
    async with sends.connected() as sending:
        async with receives.connected() as receiving:
            await until_known(session_of(sending), session_of(receiving))
            await sends.send(sending, 5)
            assert await receives.numbers(5) == list(range(5))
        await sends.send(sending, 17)
        async with receives.connected():
            assert await receives.numbers(10) == list(range(12, 22))
    assert isinstance(state := receives.board.state("zenoh"), Degraded)
    assert "missed" in str(state)
    (line,) = [record for record in caplog.records if getattr(record, "event", "") == "inbound-missed"]
    assert "7 inbound messages were missed" in line.message


async def test_who_comes_first_gets_what_was_sent_before_its_time(network: ZenohOptions) -> None:
    sends, receives = Sender(network), Receiver(network, attrs.evolve(IN, routing=ZenohRouting("plant/**", recover=2)))
    async with sends.connected() as sending:
        await sends.send(sending, 5)
        async with receives.connected():
            assert await receives.numbers(2) == [3, 4]
    assert receives.board.state("zenoh") == Up()


@pytest.mark.zenoh
async def test_a_publisher_that_is_found_late_tells_what_it_has(router: ZenohRouter, tmp_path: Path) -> None:
    """After the router is killed the publisher's new connection is there first, and what it sends waits in it."""
    options = ZenohOptions(connect=router.endpoint)
    sends, receives = Sender(options), Receiver(options)
    async with receives.connected() as receiving, sends.connected() as sending:
        await until_known(session_of(sending), session_of(receiving))
        await sends.send(sending, 3)
        assert await receives.numbers(3) == [0, 1, 2]
        await router.stop(signal.SIGKILL)
        await receives.lost(receiving)
        await sends.lost(sending)
    await router.start()
    async with sends.connected() as sending:
        await sends.send(sending, 4)
        async with receives.connected():
            assert await receives.numbers(4) == [3, 4, 5, 6]


@pytest.mark.zenoh
async def test_a_line_that_is_cut_loses_nothing_that_the_publisher_keeps(router: ZenohRouter) -> None:
    options = ZenohOptions(connect=router.endpoint)
    async with open_network(router.port) as line:
        sends, receives = Sender(options), Receiver(ZenohOptions(connect=f"tcp/127.0.0.1:{line.port}"))
        async with sends.connected() as sending:
            for turn in range(3):
                async with receives.connected() as receiving:
                    first = 8 * turn
                    if turn:
                        assert await receives.numbers(4) == list(range(first - 4, first))
                    await until_known(session_of(sending), session_of(receiving))
                    await sends.send(sending, 4)
                    assert await receives.numbers(4) == list(range(first, first + 4))
                    line.cut()
                    await receives.lost(receiving)
                await sends.send(sending, 4)


@pytest.mark.zenoh
async def test_what_a_link_drops_that_takes_no_more_is_asked_for(router: ZenohRouter) -> None:
    """The router stands still, and the publisher goes on: what does not fit into the link is dropped there."""
    options = ZenohOptions(connect=router.endpoint)
    drops = Outbound("out", bytes, ZenohRouting("plant/7/events", recover=1000, congestion_control="drop"))
    sends, receives = Sender(options, drops), Receiver(options, Inbound("in", bytes, ZenohRouting("**", recover=1000)))
    plain = Driver(ZenohConnector([Inbound("in", bytes, ZenohRouting("**"))], options=options, codec=RawCodec()), "x")
    async with receives.connected() as receiving, sends.connected() as sending, plain.connected() as other:
        await until_known(session_of(sending), session_of(receiving))
        await until_known(session_of(sending), session_of(other))
        await sends.send(sending, 1)
        assert await receives.numbers(1) == [0]
        os.kill(router.pid, signal.SIGSTOP)
        await sends.send(sending, 900, size=10_000)
        os.kill(router.pid, signal.SIGCONT)
        assert await receives.numbers(900) == list(range(1, 901))
        await sends.send(sending, 1)
        assert await receives.numbers(1) == [901]
        came = [0]
        while came[-1] != 901:
            came += [int(message.payload) for message in await plain.take(1)]
    assert len(came) < 902  # else nothing was dropped, and the test shows nothing


def sources(told: Callable[[int], None]) -> Sources:
    class Told(Missed):
        def tell(self, count: int, what: str) -> None:
            told(count)

    return Sources(memoryview(bytearray(memory_for(1000))), Told(lambda reason, seconds: None))


def test_the_numbers_of_each_publisher_are_known() -> None:
    missed = Heard[int]()
    known = sources(missed)

    def takes(source: str, number: int) -> bool:
        return known.takes(Sample("a", b"", source=source, number=number))

    assert takes("one", 7)  # what was before is none of ours
    assert not takes("one", 7)
    assert not takes("one", 3)
    assert takes("other", 0)
    assert takes("one", 8)
    assert missed.all == []
    assert takes("one", 12)
    assert takes("", 0)
    assert takes("", 0)  # a plain publisher numbers nothing
    assert missed.all == [3]
