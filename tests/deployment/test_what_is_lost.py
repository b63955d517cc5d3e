"""At a stop the log counts what is lost: once, and as many as an independent subscriber misses."""

from __future__ import annotations

import contextlib
import os
import signal
import struct
from pathlib import Path
from typing import Literal

import pytest
import trio

from taktora_trio import Inbound, MqttOptions, MqttRouting
from taktora_trio.chaos.proxy import open_proxy
from taktora_trio.transport.cursor import DONE, SENT
from taktora_trio.transport.domain import Domain
from taktora_trio.transport.segments import PAGE
from tests.brokers.live import open_live
from tests.client import open_client
from tests.command import MODES, open_command
from tests.deployment.apps import FIRST_PART, GO_ON, SECOND_PART
from tests.mosquitto import Mosquitto


def counters_of(cursors: bytes, channel: str) -> tuple[int, ...]:
    """Return the counters of a channel: the only one of its connector."""
    assert f'"taktora.connector.mqtt.{channel}":'.encode() in cursors[:PAGE]
    return struct.unpack_from("8Q", cursors, PAGE)


async def until_counted(domain: Domain, channel: str, word: int, count: int) -> None:
    """Wait for a word of the channel's cursor: how many messages were sent, or are acknowledged."""
    cursors = domain.root / "cursors" / "taktora.connector.mqtt"
    with trio.fail_after(10):
        while counters_of(cursors.read_bytes(), channel)[word] != count:  # noqa: ASYNC110 - nothing announces it
            await trio.sleep(0.01)


@pytest.mark.parametrize(
    ("mode", "gateway_dies"),
    [*((mode, False) for mode in MODES), ("split", True)],
    ids=["in-process", "split", "killed"],
)
async def test_a_broker_that_stops_answering_before_the_end(
    mode: str, gateway_dies: bool, broker: Mosquitto, domain: Domain, tmp_path: Path
) -> None:
    pipe = tmp_path / "go-on"
    os.mkfifo(pipe)
    async with (
        open_client(broker.port, "test/parts") as client,
        open_proxy(broker.port) as proxy,
        open_command(
            *("run", "tests.deployment.apps:in_two_parts", "--mode", mode, "--broker", f"mqtt://{proxy.address}"),
            *("--domain", domain.name, "--gateway-policy", "restart=never"),
            env={GO_ON: str(pipe)},
        ) as run,
    ):
        arrived = [await client.receive(20) for _ in range(FIRST_PART)]
        await until_counted(domain, "parts.out", DONE, FIRST_PART)  # some time after the subscriber has them
        if gateway_dies:
            run.signal(signal.SIGKILL, run.half("gateway"))
            await run.until_event("health-down")
        proxy.go_half_open()
        await trio.to_thread.run_sync(pipe.write_bytes, b"x")
        await run.until_printed("all is sent")
        run.signal(signal.SIGTERM)
        assert await run.wait(10) == 0
        client.publish("test/parts", b"end")
        while (message := await client.receive()).payload != b"end":
            arrived.append(message)
    told = [*run.events("outbound-left"), *run.events("outbound-lost")]
    [warning] = [entry["message"] for entry in told if entry["level"] == "warning"]
    missing = FIRST_PART + SECOND_PART - len(arrived)
    assert missing == SECOND_PART
    count = f"with {missing} messages not acknowledged by the other side"
    assert all(count in entry["message"] for entry in told)
    assert warning.endswith("they are lost")


ON_ARRIVAL = "that the app has not had and nobody keeps: lost"
WHEN_DONE = "that the app is not done with: they are not acknowledged, and come again if the other side keeps them"


@pytest.mark.parametrize(
    ("acknowledge", "reads", "end"),
    [("when-done", True, None), ("when-done", False, WHEN_DONE), ("on-arrival", False, ON_ARRIVAL)],
)
async def test_what_lies_in_shared_memory_for_an_app_that_is_gone(
    acknowledge: Literal["when-done", "on-arrival"],
    reads: bool,
    end: str | None,
    broker: Mosquitto,
    domain: Domain,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is lost only where it was acknowledged on arrival."""
    caplog.set_level("INFO", "taktora_trio.connectors")
    channel = Inbound("in", bytes, MqttRouting("test/in", qos=1), max_payload=64, acknowledge=acknowledge)
    async with open_client(broker.port) as client, contextlib.AsyncExitStack() as app:
        live = await app.enter_async_context(open_live([channel], MqttOptions(broker=broker.url), domain))
        await live.until_up()
        async with live.host.open_reader(channel) as reader:
            for number in range(3):
                client.publish("test/in", b"%d" % number)
            await until_counted(domain, "in.in", SENT, 3)
            if reads:
                for _ in range(3):
                    await reader.receive()
    told = [record.getMessage() for record in caplog.records if "inbound messages" in record.getMessage()]
    assert told == ([] if end is None else [f"channel in: stopped with 3 inbound messages {end}"])
