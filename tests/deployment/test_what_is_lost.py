"""At a stop the log counts what is lost: once, and as many as an independent subscriber misses."""

from __future__ import annotations

import os
import signal
import struct
from pathlib import Path

import pytest
import trio

from taktora_trio.chaos.proxy import open_proxy
from taktora_trio.transport.domain import Domain
from tests.client import open_client
from tests.command import MODES, open_command
from tests.deployment.apps import FIRST_PART, GO_ON, SECOND_PART
from tests.mosquitto import Mosquitto


async def until_acknowledged(domain: Domain, count: int) -> None:
    """The cursor tells when the gateway has heard of it, which is some time after the subscriber has."""
    cursor = domain.root / "cursors" / "taktora.connector.mqtt.parts.out"
    with trio.fail_after(10):
        for _ in range(1000):
            if struct.unpack("QQ", cursor.read_bytes())[1] == count:
                return
            await trio.sleep(0.01)
    raise AssertionError("it was never acknowledged")


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
            *("run", "tests.deployment.apps:in_two_parts", "--mode", mode, "--broker", proxy.url),
            *("--domain", domain.name, "--gateway-policy", "restart=never"),
            env={GO_ON: str(pipe)},
        ) as run,
    ):
        arrived = [await client.receive(20) for _ in range(FIRST_PART)]
        await until_acknowledged(domain, FIRST_PART)
        if gateway_dies:
            run.signal(signal.SIGKILL, run.half("gateway"))
            await run.until_logged("-> Down")
        proxy.go_half_open()
        await trio.to_thread.run_sync(pipe.write_bytes, b"x")
        await run.until_printed("all is sent")
        run.signal(signal.SIGTERM)
        assert await run.wait(10) == 0
        client.publish("test/parts", b"end")
        while (message := await client.receive()).payload != b"end":
            arrived.append(message)
    told = [entry for entry in run.log if "not acknowledged" in entry["message"]]
    [warning] = [entry["message"] for entry in told if entry["level"] == "warning"]
    missing = FIRST_PART + SECOND_PART - len(arrived)
    assert missing == SECOND_PART
    assert all(f"with {missing} messages not acknowledged by the broker" in entry["message"] for entry in told)
    assert warning.endswith("they are lost")
