"""Apps for tests of dead letters and of stored inbound messages: each writes what it was given to a file."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import trio

from taktora_trio import (
    Backoff,
    ConnectorHost,
    Deployment,
    Inbound,
    MqttConnector,
    MqttOptions,
    MqttRouting,
    Outbound,
    RestartPolicy,
    Store,
)

FOLDER, QOS = "TAKTORA_TEST_FOLDER", "TAKTORA_TEST_QOS"
GIVEN, MENDED, READS = "given", "mended", "reads"
POISON = "poison"

_routing = {name: MqttRouting(f"letters/{name}", qos=1) for name in ("orders", "numbers", "answers")}
ORDERS = Inbound("orders", str, _routing["orders"], max_deliveries=2)
STORED_ORDERS = Inbound("stored", str, _routing["orders"], max_deliveries=2, acknowledge="stored")
NUMBERS = Inbound("numbers", int, _routing["numbers"])
ANSWERS = Outbound("answers", str, _routing["answers"])
_qos: Any = int(os.environ.get(QOS, "1"))
SLOW = Inbound("slow", int, MqttRouting("letters/slow", qos=_qos), acknowledge="stored", window=8)


def _folder() -> Path:
    return Path(os.environ[FOLDER])


def _note(line: object) -> None:
    with (_folder() / GIVEN).open("a") as file:
        file.write(f"{line}\n")


async def work(host: ConnectorHost) -> None:
    """Take orders and numbers."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_read_numbers, host)
        await _read_orders(host, ORDERS)


async def work_from_the_store(host: ConnectorHost) -> None:
    """Take orders that are acknowledged when they are stored."""
    await _read_orders(host, STORED_ORDERS)


async def _read_orders(host: ConnectorHost, channel: Inbound[str]) -> None:
    """Be killed by the poison, until that is mended."""
    async with host.open_writer(ANSWERS) as writer, host.open_reader(channel) as reader:
        async for order in reader:
            _note(order.value)
            if order.value == POISON and not (_folder() / MENDED).exists():
                os.kill(os.getpid(), signal.SIGKILL)
            await writer.send(order.value)


async def _read_numbers(host: ConnectorHost) -> None:
    async with host.open_reader(NUMBERS, on_error="dead-letter") as reader:
        async for number in reader:
            _note(number.value)


async def be_slow(host: ConnectorHost) -> None:
    """Take no message but the first, as long as a file does not say so."""
    async with host.open_reader(SLOW) as reader:
        async for number in reader:
            _note(number.value)
            while not (_folder() / READS).exists():  # noqa: ASYNC110 - the test says so from another process
                await trio.sleep(0.01)


_AT_ONCE = RestartPolicy(restart="on-failure", backoff=Backoff(initial=0.01, maximum=0.01))
poisoned = Deployment(
    "poisoned",
    work,
    [MqttConnector([ORDERS, NUMBERS, ANSWERS])],
    plugin_policy=_AT_ONCE,
)
poisoned_store = Deployment(
    "poisoned-store",
    work_from_the_store,
    [MqttConnector([STORED_ORDERS, ANSWERS])],
    store=Store(),
)
slow = Deployment(
    "slow",
    be_slow,
    [MqttConnector([SLOW], options=MqttOptions(client_id="slow"))],
    store=Store(),
)


async def work_slowly(host: ConnectorHost) -> None:
    """Take a message each few milliseconds."""
    async with host.open_reader(SLOW) as reader:
        async for number in reader:
            _note(number.value)
            await trio.sleep(0.002)


working = Deployment(
    "working",
    work_slowly,
    [MqttConnector([SLOW], options=MqttOptions(client_id="working"))],
    gateway_policy=RestartPolicy(restart="always", stop_grace=2.5, intensity=20, backoff=_AT_ONCE.backoff),
    plugin_policy=_AT_ONCE,
    store=Store(),
)
