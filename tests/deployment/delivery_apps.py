"""The app of the table in docs/delivery.md: it does what a test tells it through a pipe, and prints what it hears."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from functools import partial

import attrs
import msgspec
import trio
from trio_util import AsyncBool

from taktora_trio import (
    ChannelWriter,
    ConnectorHost,
    Deployment,
    Inbound,
    MqttConnector,
    MqttOptions,
    MqttRouting,
    Outbound,
    PayloadOverflow,
    RawCodec,
    Store,
)
from taktora_trio.connectors.base import GatewayChannels
from taktora_trio.connectors.connection import Client, OnMessage
from taktora_trio.processes.lines import read_lines
from taktora_trio.supervision.backoff import Backoff
from taktora_trio.supervision.policy import RestartPolicy
from tests.beside import run_beside

VARIABLE = "TAKTORA_TEST_DELIVERY"
WINDOW = 50
MAX_PAYLOAD = 64
BACKLOG = 20_000
LEVELS = (0, 1, 2)


class Setting(msgspec.Struct):
    pipe: str = ""
    """The path of the pipe that its orders come from, one a line."""
    options: dict[str, object] = {}
    """Of `MqttOptions`."""
    store: str = ""
    """The folder of its store; empty for none."""
    window: int = WINDOW


setting = msgspec.json.decode(os.environ.get(VARIABLE, "{}"), type=Setting)


def _routing(name: str, qos: int) -> MqttRouting:
    return MqttRouting(f"delivery/{name}/{qos}", qos=qos)  # type: ignore[arg-type]


OUT = [
    Outbound(f"out{qos}", bytes, _routing("out", qos), window=setting.window, max_payload=MAX_PAYLOAD) for qos in LEVELS
]
IN = [Inbound(f"in{qos}", bytes, _routing("in", qos), window=setting.window, max_payload=MAX_PAYLOAD) for qos in LEVELS]


class CrashesWhenTold(MqttConnector):
    """Its gateway half raises at SIGUSR2."""

    def client(self, channels: GatewayChannels, on_message: OnMessage) -> Client:
        async def crash() -> None:
            with trio.open_signal_receiver(signal.SIGUSR2) as signals:
                async for _ in signals:
                    raise RuntimeError("crash on purpose")

        run_beside(channels, crash)
        return super().client(channels, on_message)


def tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


@attrs.define
class _App:
    host: ConnectorHost
    nursery: trio.Nursery
    reading: AsyncBool = attrs.field(factory=lambda: AsyncBool(True))
    finishing: AsyncBool = attrs.field(factory=lambda: AsyncBool(True))
    writers: dict[int, ChannelWriter[bytes]] = attrs.field(factory=dict)

    async def hear(self, qos: int) -> None:
        async with self.host.open_reader(IN[qos]) as reader:
            tell(f"opened {qos}")
            async for received in reader:
                await self.reading.wait_value(True)  # it has this one, and does nothing with it yet
                tell(f"heard {qos} {received.value.decode()}")
                await self.finishing.wait_value(True)  # it has worked at this one, and is not done with it

    async def send(self, qos: int, first: int, end: int, *, until_stored: bool = False) -> None:
        for number in range(first, end):
            await self.writers[qos].send(b"%d" % number)
        if until_stored and qos > 0:
            await self.writers[qos].wait_stored()
        tell(f"sent {qos} {end - 1}")

    async def send_too_much(self, qos: int) -> None:
        try:
            await self.writers[qos].send(b"x" * (MAX_PAYLOAD + 1))
        except PayloadOverflow:
            tell(f"overflow {qos} 0")

    async def obey(self) -> None:
        fd = os.open(setting.pipe, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        async with trio.lowlevel.FdStream(fd) as orders:
            tell("ready 0 0")
            async for line in read_lines(orders):
                self.do(*line.decode().split())

    def do(self, what: str, *numbers: str) -> None:
        if what in ("send", "store"):
            for qos in LEVELS:
                send = partial(self.send, qos, int(numbers[0]), int(numbers[1]), until_stored=what == "store")
                self.nursery.start_soon(send)
        elif what == "too-much":
            for qos in LEVELS:
                self.nursery.start_soon(self.send_too_much, qos)
        elif what == "hold":
            self.finishing.value = False
            tell("paused 0")
        else:
            self.reading.value = self.finishing.value = what == "read"
            tell("paused 0" if what == "pause" else "reading 0")


async def run(host: ConnectorHost) -> None:
    async with contextlib.AsyncExitStack() as stack, trio.open_nursery() as nursery:
        app = _App(host, nursery)
        for qos in LEVELS:
            app.writers[qos] = await stack.enter_async_context(host.open_writer(OUT[qos]))
            nursery.start_soon(app.hear, qos)
        await app.obey()


_POLICY = RestartPolicy(backoff=Backoff(initial=0.02, maximum=0.1), intensity=1000, start_timeout=10.0)

deployment = Deployment(
    "delivery",
    run,
    [
        CrashesWhenTold(
            [*OUT, *IN],
            options=MqttOptions(
                reconnect=Backoff(initial=0.02, maximum=0.1),
                inbound_backlog=BACKLOG,
                **setting.options,  # type: ignore[arg-type]
            ),
            codec=RawCodec(),
        )
    ],
    gateway_policy=attrs.evolve(_POLICY, restart="always", stop_grace=2.5),
    plugin_policy=attrs.evolve(_POLICY, restart="on-failure"),
    store=Store(path=setting.store, policy="always") if setting.store else None,
)
