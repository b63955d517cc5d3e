"""One hop: a ChannelWriter to a ChannelReader in another process, against bare iceoryx2 calls.

Compared are round trips (each message is sent back, one at a time) and a sustained one-way stream that the receiver
checks number by number. It is fair because both ways alternate, between the same two processes, over the same
100 bytes, windows and kind of waiting; `bare.py` says what the bare side leaves out. The codec is the raw one, so
that the hop is measured and not JSON.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from abc import ABC, abstractmethod

import attrs
import iceoryx2 as iox2
import trio

from benchmarks import bare, message
from benchmarks.children import open_python
from benchmarks.report import Figure, median_of_ratios
from taktora_trio import ChannelReader, ChannelWriter, Inbound, MqttConnector, MqttRouting, Outbound, RawCodec
from taktora_trio.connectors.plan import specs_of, trunk_spec
from taktora_trio.host.reader import open_reader
from taktora_trio.host.writer import open_writer
from taktora_trio.transport.domain import Domain
from taktora_trio.transport.node import open_node
from taktora_trio.transport.services import open_services
from taktora_trio.transport.trunk import open_trunk

__all__ = ["measure_one_hop"]

_THERE = Outbound("there", bytes, MqttRouting("there"), max_payload=message.LENGTH)
_BACK = Inbound("back", bytes, MqttRouting("back"), max_payload=message.LENGTH)
_CONNECTOR = MqttConnector([_THERE, _BACK], codec=RawCodec(), name="benchmark")

_TRIPS, _STREAM = 1_500, 30_000
_TIMEOUT = 120.0


class _Way(ABC):
    """One way to get messages to the other process and its answers back."""

    def __init__(self) -> None:
        self._number = 0

    @abstractmethod
    async def trip(self, payload: bytes) -> bytes:
        """Send a message and wait for the answer."""

    @abstractmethod
    async def stream(self, first: int, last: int) -> bytes:
        """Send numbered messages; wait for the answer to the last, which comes if each had its turn."""

    async def time_trips(self, count: int) -> float:
        """Return the median of `count` round trips, in seconds."""
        seconds = []
        for _ in range(count):
            payload = self._next(1)
            start = time.perf_counter()
            answer = await self.trip(payload)
            seconds.append(time.perf_counter() - start)
            _check(answer, payload)
        return statistics.median(seconds)

    async def time_stream(self, count: int) -> float:
        """Return the messages a second."""
        first, last = self._number + 1, self._number + count
        final = self._next(count)
        start = time.perf_counter()
        answer = await self.stream(first, last)
        seconds = time.perf_counter() - start
        _check(answer, final)
        return count / seconds

    def _next(self, count: int) -> bytes:
        self._number += count
        return message.pack(self._number, answer=True)


class _Channels(_Way):
    def __init__(self, writer: ChannelWriter[bytes], reader: ChannelReader[bytes]) -> None:
        super().__init__()
        self._writer, self._reader = writer, reader

    async def trip(self, payload: bytes) -> bytes:
        await self._writer.send(payload)
        return (await self._reader.receive()).value

    async def stream(self, first: int, last: int) -> bytes:
        for number in range(first, last):
            await self._writer.send(message.pack(number))
        return await self.trip(message.pack(last, answer=True))


class _Bare(_Way):
    def __init__(self, sender: bare.Sender, receiver: bare.Receiver) -> None:
        super().__init__()
        self._sender, self._receiver = sender, receiver

    async def trip(self, payload: bytes) -> bytes:
        if not self._sender.offer(payload):
            await self._sender.send(payload)
        return await self._receiver.receive()

    async def stream(self, first: int, last: int) -> bytes:
        for number in range(first, last):
            payload = message.pack(number)
            if not self._sender.offer(payload):
                await self._sender.send(payload)
        return await self.trip(message.pack(last, answer=True))


@attrs.define
class _Rounds:
    """Return the figures of each round: of the channels, and of bare calls."""

    our_trips: list[float] = attrs.field(factory=list)
    bare_trips: list[float] = attrs.field(factory=list)
    our_streams: list[float] = attrs.field(factory=list)
    bare_streams: list[float] = attrs.field(factory=list)


async def measure_one_hop(rounds: int) -> list[Figure]:
    """Measure round trips and streams of both ways in turn, `rounds` times."""
    domain = Domain(f"benchmark-hop-{os.getpid()}")
    with domain.hold("owner"), trio.fail_after(_TIMEOUT):
        done = await _alternate(domain, rounds)
    domain.forget()
    our_trip, bare_trip = (statistics.median(trips) * 1e6 for trips in (done.our_trips, done.bare_trips))
    our_stream, bare_stream = (statistics.median(streams) for streams in (done.our_streams, done.bare_streams))
    return [
        Figure(
            what="one hop, 100 B, round trip: channels / bare iceoryx2",
            measured=median_of_ratios(done.our_trips, done.bare_trips),
            target=1.3,
            unit="x",
            at_most=True,
            beside=f"{our_trip:.0f} / {bare_trip:.0f} us",
        ),
        Figure(
            what="one hop, 100 B, one way, lossless: channels / bare iceoryx2",
            measured=median_of_ratios(done.our_streams, done.bare_streams),
            target=0.5,
            unit="x",
            at_most=False,
            beside=f"{our_stream:,.0f} / {bare_stream:,.0f} messages/s",
        ),
    ]


async def _alternate(domain: Domain, rounds: int) -> _Rounds:
    done = _Rounds()
    async with (
        open_node(domain, "owner") as node,
        open_services(node, specs_of([_CONNECTOR])),
        open_trunk(node, trunk_spec(_CONNECTOR), "app") as trunk,
        open_writer(trunk, _CONNECTOR, _THERE) as writer,
        open_reader(trunk, _CONNECTOR, _BACK) as reader,
    ):
        channels = _Channels(writer, reader)
        bare_calls = _Bare(
            bare.Lane(node.iox, "bare.there", _THERE.window).open_sender(),
            bare.Lane(node.iox, "bare.back", _BACK.window).open_receiver(),
        )
        pipe = subprocess.PIPE
        async with open_python("benchmarks.one_hop", domain.name, stdin=pipe, stdout=pipe) as peer:
            assert peer.stdout is not None
            await peer.stdout.receive_some()  # it has attached its ends
            trunk.update_connections()
            for way in (channels, bare_calls):  # the first messages also wait for the other process to come up
                await way.time_trips(_TRIPS // 5)
                await way.time_stream(_STREAM // 5)
            for _ in range(rounds):
                done.our_trips.append(await channels.time_trips(_TRIPS))
                done.bare_trips.append(await bare_calls.time_trips(_TRIPS))
                done.our_streams.append(await channels.time_stream(_STREAM))
                done.bare_streams.append(await bare_calls.time_stream(_STREAM))
    return done


def _check(answer: bytes, expected: bytes) -> None:
    if answer != expected:
        raise RuntimeError("the answer is not what was sent last")


# The other process: it counts what comes by either way, and answers where it is asked to.


async def _answer(domain: Domain) -> None:
    with domain.hold("gateway"):
        async with (
            open_node(domain, "peer") as node,
            open_trunk(node, trunk_spec(_CONNECTOR), "gateway") as trunk,
            open_reader(trunk, _CONNECTOR, _THERE) as reader,
            open_writer(trunk, _CONNECTOR, _BACK) as writer,
            trio.open_nursery() as nursery,
        ):
            print("ready", flush=True)
            nursery.start_soon(_answer_channels, reader, writer)
            nursery.start_soon(_answer_bare, node.iox)
            await trio.lowlevel.wait_readable(sys.stdin)  # its end of file: the measuring process is gone
            nursery.cancel_scope.cancel()


async def _answer_channels(reader: ChannelReader[bytes], writer: ChannelWriter[bytes]) -> None:
    tally = message.Tally()
    async for received in reader:
        if tally.take(received.value):
            await writer.send(received.value)


async def _answer_bare(node: iox2.Node) -> None:
    receiver = bare.Lane(node, "bare.there", _THERE.window).open_receiver()
    sender = bare.Lane(node, "bare.back", _BACK.window).open_sender()
    tally = message.Tally()
    while True:
        payload = receiver.take()
        if payload is None:
            payload = await receiver.receive()
        if tally.take(payload) and not sender.offer(payload):
            await sender.send(payload)


if __name__ == "__main__":
    trio.run(_answer, Domain(sys.argv[1]))
