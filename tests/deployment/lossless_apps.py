"""The app of the tests of delivery: it counts, and prints what it hears. What exactly, a variable says."""

from __future__ import annotations

import contextlib
import os
import sys

import attrs
import msgspec
import trio

from taktora_trio import (
    ConnectorHost,
    Deployment,
    Inbound,
    MqttConnector,
    MqttOptions,
    MqttRouting,
    Outbound,
    RawCodec,
    Store,
)
from taktora_trio.supervision.backoff import Backoff
from taktora_trio.supervision.policy import RestartPolicy

VARIABLE = "TAKTORA_TEST_LOSSLESS"
_WITH_RECEIPT = 20


class Plan(msgspec.Struct, kw_only=True):
    """What it is to do."""

    options: dict[str, object] = {}
    """Of `MqttOptions`, but for the broker and the times."""
    out: tuple[int, ...] = ()
    """For each of these QoS, numbers from 0 on `lossless/out/QOS`, until something comes on `lossless/stop`; and then
    until all receipts have come: that of every 20th message is waited for alone."""
    into: tuple[int, ...] = ()
    """For each of these, what comes on `lossless/in/QOS` is printed."""
    rate: float = 1000.0
    """Messages a second on each channel."""
    window: int = 1000
    pause: float = 0.0
    """Seconds after each message that is received."""
    at_once: int = 50
    """How many are printed at once, if there are so many."""
    backlog: int = 64 * 2**20
    max_payload: int = 64
    store: dict[str, object] | None = None
    """Fields of `Store`; `None` for none."""


def variable(plan: Plan) -> dict[str, str]:
    return {VARIABLE: msgspec.json.encode(plan).decode()}


plan = msgspec.json.decode(os.environ.get(VARIABLE, "{}"), type=Plan)
OUT = {
    qos: Outbound(f"out{qos}", bytes, MqttRouting(f"lossless/out/{qos}", qos=qos), window=plan.window, max_payload=64)  # type: ignore[arg-type]
    for qos in plan.out
}
IN = {
    qos: Inbound(
        f"in{qos}",
        bytes,
        MqttRouting(f"lossless/in/{qos}", qos=qos),  # type: ignore[arg-type]
        window=plan.window,
        max_payload=plan.max_payload,
    )
    for qos in plan.into
}
STOP = Inbound("stop", bytes, MqttRouting("lossless/stop", qos=1), window=16, max_payload=64)


@attrs.define
class _App:
    host: ConnectorHost
    stopped: trio.Event = attrs.field(factory=trio.Event)

    async def count(self, qos: int) -> None:
        number, began = 0, trio.current_time()
        async with self.host.open_writer(OUT[qos]) as writer:
            async with trio.open_nursery() as waits:
                while not self.stopped.is_set():
                    sent = await writer.send(b"%d" % number)
                    if number % _WITH_RECEIPT == 0:
                        waits.start_soon(writer.wait_acknowledged, sent)
                    number += 1
                    ahead = number / plan.rate - (trio.current_time() - began)
                    if ahead > 0.01:
                        await trio.sleep(ahead)
                    elif ahead < -0.5:  # it was held up: go on at the rate, and make up for nothing
                        began = trio.current_time() - number / plan.rate
                await writer.wait_acknowledged()
            self.tell(f"sent {qos} {number}")
            await trio.sleep_forever()  # what was sent last takes its time

    async def hear(self, qos: int) -> None:
        async with self.host.open_reader(IN[qos]) as reader:
            async for received in reader:
                heard = [received.value.decode()]
                if plan.pause:
                    await trio.sleep(plan.pause)
                with contextlib.suppress(trio.WouldBlock):
                    while len(heard) < plan.at_once:
                        heard.append(reader.receive_nowait().value.decode())
                self.tell(f"heard {qos} {' '.join(heard)}")

    def tell(self, line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    async def obey(self) -> None:
        async with self.host.open_reader(STOP) as reader:
            await reader.receive()
            self.stopped.set()


async def run(host: ConnectorHost) -> None:
    app = _App(host)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(app.obey)
        for qos in plan.out:
            nursery.start_soon(app.count, qos)
        for qos in plan.into:
            nursery.start_soon(app.hear, qos)


_POLICY = RestartPolicy(backoff=Backoff(initial=0.02, maximum=0.1), intensity=100_000, start_timeout=10.0)

deployment = Deployment(
    "lossless",
    run,
    [
        MqttConnector(
            [*OUT.values(), *IN.values(), STOP],
            options=MqttOptions(
                reconnect=Backoff(initial=0.02, maximum=0.1),
                inbound_backlog=plan.backlog,
                **plan.options,  # type: ignore[arg-type]
            ),
            codec=RawCodec(),
        )
    ],
    gateway_policy=attrs.evolve(_POLICY, restart="always", stop_grace=2.5),
    plugin_policy=_POLICY,
    store=None if plan.store is None else Store(**plan.store),  # type: ignore[arg-type]
)
