"""A deployment that sends numbers, and one that prints those that it hears. How exactly, a variable says."""

from __future__ import annotations

import os
import sys

import msgspec
import trio

from taktora_trio import (
    ConnectorHost,
    Deployment,
    Inbound,
    Outbound,
    RawCodec,
    ZenohConnector,
    ZenohOptions,
    ZenohRouting,
)
from taktora_trio.supervision.backoff import Backoff

VARIABLE = "TAKTORA_TEST_COUNTING"
KINDS = ("acknowledged", "plain")


class Plan(msgspec.Struct, kw_only=True):
    options: dict[str, object] = {}
    """Of `ZenohOptions`."""
    rate: float = 500.0
    """Messages a second of each kind."""
    tree: str = "count"
    """What their keys begin with."""
    kinds: tuple[str, ...] = KINDS
    until: str = ""
    """The file at whose coming it stops sending."""


def variable(plan: Plan) -> dict[str, str]:
    return {VARIABLE: msgspec.json.encode(plan).decode()}


plan = msgspec.json.decode(os.environ.get(VARIABLE, "{}"), type=Plan)
ROUTINGS = {kind: ZenohRouting(f"{plan.tree}/{kind}", acknowledged=kind == "acknowledged") for kind in plan.kinds}
OUT = {kind: Outbound(kind, bytes, routing, max_payload=64, window=1000) for kind, routing in ROUTINGS.items()}
IN = {
    kind: Inbound(kind, bytes, routing, max_payload=64, max_metadata=512, window=1000)
    for kind, routing in ROUTINGS.items()
}
OPTIONS = ZenohOptions(reconnect=Backoff(initial=0.05, maximum=0.2), **plan.options)  # type: ignore[arg-type]


def tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def send(host: ConnectorHost) -> None:
    """Send until the file is there, then wait until all that can be acknowledged is."""

    async def count(kind: str) -> None:
        async with host.open_writer(OUT[kind]) as writer:
            number, began = 0, trio.current_time()
            while number % 50 or not await trio.Path(plan.until).exists():
                await writer.send(b"%d" % number)
                number += 1
                ahead = number / plan.rate - (trio.current_time() - began)
                if ahead > 0.01:
                    await trio.sleep(ahead)
                elif ahead < -0.5:  # it was held up: go on at the rate, and make up for nothing
                    began = trio.current_time() - number / plan.rate
            await writer.wait_acknowledged()
        tell(f"sent {kind} {number}")

    async with trio.open_nursery() as nursery:
        for kind in plan.kinds:
            nursery.start_soon(count, kind)
    await trio.sleep_forever()


async def hear(host: ConnectorHost) -> None:
    async def print_all(kind: str) -> None:
        async with host.open_reader(IN[kind]) as reader:
            async for received in reader:  # and tell at once: whoever takes the next one is done with this one
                tell(f"heard {kind} {received.value.decode()}")

    async with trio.open_nursery() as nursery:
        for kind in plan.kinds:
            nursery.start_soon(print_all, kind)


def _deployment(name: str) -> Deployment:
    channels = [*OUT.values()] if name == "sender" else [*IN.values()]
    connector = ZenohConnector(channels, options=OPTIONS, codec=RawCodec())
    return Deployment(name, send if name == "sender" else hear, [connector])


sender, receiver = _deployment("sender"), _deployment("receiver")
