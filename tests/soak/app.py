"""The app under churn: it opens and closes readers and writers, sends small, large and impossible messages."""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import random
import sys
from pathlib import Path
from typing import Any

import attrs
import msgspec
import trio

from taktora_trio import (
    Backoff,
    ConnectorHost,
    Deployment,
    Inbound,
    MessageError,
    MqttConnector,
    MqttOptions,
    MqttRouting,
    Outbound,
    RestartPolicy,
    Store,
)
from taktora_trio.chaos.faulty import Faulty

__all__ = ["FOLDER", "NAME", "REPORT", "Report", "deployment"]

NAME, FOLDER = "TAKTORA_SOAK_NAME", "TAKTORA_SOAK_FOLDER"
REPORT = "report.json"
LARGE = 48 * 1024
_EVERY = 0.5  # seconds between two reports
_COLLECT = 8  # reports between two full collections
_LIFE = 0.7  # seconds for which a reader is open
_SENDS = 20  # in the life of a writer
_ABREAST = 0.02  # seconds between two

name = os.environ.get(NAME, "soak")
SMALL = Outbound("small", int, MqttRouting(f"soak/{name}/small", qos=1))
WHOLE = Outbound("whole", str, MqttRouting(f"soak/{name}/whole", qos=2), max_payload=LARGE + 16, window=4)
NUMBERS = Inbound("numbers", int, MqttRouting(f"soak/{name}/in/numbers/+", qos=1))
TEXTS = Inbound("texts", str, MqttRouting(f"soak/{name}/in/texts", qos=2), max_payload=LARGE + 16, window=4)
FAST = Inbound("fast", int, MqttRouting(f"soak/{name}/in/#", qos=0), max_payload=64)


class Report(msgspec.Struct):
    """What the app has done, for whoever watches it."""

    blocks: int = 0
    """Python's own count of what it has allocated (`sys.getallocatedblocks`)."""
    sent: int = 0
    received: int = 0
    refused: int = 0
    """Messages that can't be sent."""
    opened: int = 0
    """Readers and writers."""


class SoakConnector(Faulty, MqttConnector):
    """MQTT that crashes when it is told to."""


@attrs.frozen
class _App:
    host: ConnectorHost
    report: Report = attrs.field(factory=Report)

    async def write(self) -> None:
        for number in itertools.count():
            async with self.host.open_writer(SMALL) as small, self.host.open_writer(WHOLE) as whole:
                self.report.opened += 2
                await whole.send("x" * (LARGE - random.randrange(1000)))
                with contextlib.suppress(MessageError):
                    await whole.send("x" * LARGE * 2)
                    raise AssertionError("it was taken")
                self.report.refused += 1
                for turn in range(_SENDS):
                    await small.send(number * _SENDS + turn)
                    await trio.sleep(_ABREAST)
                self.report.sent += 1 + _SENDS
                with trio.move_on_after(_LIFE):
                    await small.wait_acknowledged()

    async def read(self, channel: Inbound[Any]) -> None:
        while True:
            async with self.host.open_reader(channel, on_error="dead-letter") as reader:
                self.report.opened += 1
                with trio.move_on_after(_LIFE * random.uniform(0.5, 2)):
                    async for _ in reader:
                        self.report.received += 1

    async def tell(self) -> None:
        place = Path(os.environ[FOLDER], REPORT)
        for turn in itertools.count():
            if turn % _COLLECT == 0:  # what Python has not collected yet is no leak
                gc.collect()
                self.report.blocks = sys.getallocatedblocks()
            document = msgspec.json.encode(self.report)
            await trio.to_thread.run_sync(_write, place, document)
            await trio.sleep(_EVERY)


def _write(place: Path, document: bytes) -> None:
    new = place.with_suffix(".new")
    new.write_bytes(document)
    new.rename(place)


async def run(host: ConnectorHost) -> None:
    app = _App(host)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(app.tell)
        nursery.start_soon(app.write)
        nursery.start_soon(app.read, NUMBERS)
        nursery.start_soon(app.read, TEXTS)
        nursery.start_soon(app.read, FAST)


_POLICY = RestartPolicy(restart="always", backoff=Backoff(initial=0.05, maximum=0.5), intensity=1_000_000)

deployment = Deployment(
    "soak",
    run,
    [
        SoakConnector(
            [SMALL, WHOLE, NUMBERS, TEXTS, FAST],
            options=MqttOptions(reconnect=Backoff(initial=0.05, maximum=0.5), max_dead_letters=20),
        )
    ],
    gateway_policy=_POLICY,
    plugin_policy=_POLICY,
    store=Store(policy="always", max_bytes=2**21),
)
