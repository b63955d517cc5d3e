"""An app that does what a test tells it through a pipe, and prints what it hears: on several channels each way."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from typing import Any

import attrs
import trio
from trio_util import AsyncBool

from taktora_trio import ChannelWriter, ConnectorHost, Inbound, Outbound, PayloadOverflow
from taktora_trio.processes.lines import read_lines

__all__ = ["Obedient"]


def _tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


@attrs.define
class Obedient:
    """The main function of such an app. What it prints names a channel by its place in the list."""

    pipe: str
    """The path of the pipe that its orders come from, one a line."""
    outbound: Sequence[Outbound[bytes]]
    inbound: Sequence[Inbound[bytes]]
    stored: Sequence[int]
    """The places of outbound channels that a store keeps."""
    written: Sequence[int] = ()
    """The places of outbound channels whose messages are done when they are written."""
    reading: AsyncBool = attrs.field(factory=lambda: AsyncBool(True))
    finishing: AsyncBool = attrs.field(factory=lambda: AsyncBool(True))
    writers: list[ChannelWriter[bytes]] = attrs.field(factory=list)
    nursery: Any = None

    async def __call__(self, host: ConnectorHost) -> None:
        async with contextlib.AsyncExitStack() as stack, trio.open_nursery() as self.nursery:
            for place, outbound in enumerate(self.outbound):
                self.writers.append(await stack.enter_async_context(host.open_writer(outbound)))
                self.nursery.start_soon(self._hear, host, place)
            await self._obey()

    async def _hear(self, host: ConnectorHost, place: int) -> None:
        async with host.open_reader(self.inbound[place]) as reader:
            _tell(f"opened {place}")
            async for received in reader:
                await self.reading.wait_value(True)  # it has this one, and does nothing with it yet
                _tell(f"heard {place} {received.value.decode()}")
                await self.finishing.wait_value(True)  # it has worked at this one, and is not done with it

    async def _send(self, what: str, place: int, first: int, end: int) -> None:
        for number in range(first, end):
            await self.writers[place].send(b"%d" % number)
        if what != "send" and place in self.stored:
            await self.writers[place].wait_stored()
        if what == "write" and place in self.written:
            await self.writers[place].wait_acknowledged()
        _tell(f"sent {place} {end - 1}")

    async def _send_too_much(self, place: int) -> None:
        try:
            await self.writers[place].send(b"x" * (self.outbound[place].max_payload + 1))
        except PayloadOverflow:
            _tell(f"overflow {place} 0")

    async def _obey(self) -> None:
        fd = os.open(self.pipe, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        async with trio.lowlevel.FdStream(fd) as orders:
            _tell("ready 0 0")
            async for line in read_lines(orders):
                self._do(*line.decode().split())

    def _do(self, what: str, *numbers: str) -> None:
        places = range(len(self.outbound))
        if what in ("send", "store", "write"):
            for place in places:
                self.nursery.start_soon(self._send, what, place, *map(int, numbers))
        elif what == "too-much":
            for place in places:
                self.nursery.start_soon(self._send_too_much, place)
        elif what == "hold":
            self.finishing.value = False
            _tell("paused 0")
        else:
            self.reading.value = self.finishing.value = what == "read"
            _tell("paused 0" if what == "pause" else "reading 0")
