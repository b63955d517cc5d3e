"""The store, with the real command, a real broker and a real disk: what was said to be stored arrives, once."""

from __future__ import annotations

import contextlib
import random
import signal
from pathlib import Path

import pytest

from taktora_trio.transport.domain import Domain
from tests.brokers.sessions import SESSIONS
from tests.client import Client, open_client
from tests.command import MODES, Command, open_command, run_command
from tests.deployment.lossless import open_under_fire
from tests.deployment.lossless_apps import Plan
from tests.deployment.stored_apps import WINDOW
from tests.mosquitto import Mosquitto, open_mosquitto

TARGET = "tests.deployment.stored_apps:deployment"
COUNT = 5 * WINDOW  # many windows: what is not on disk would stand in the way
TOPICS = ("stored/1", "stored/2")


def run(
    mode: str, port: int, domain: Domain, store: Path, life: int, *more: str, count: int = COUNT
) -> contextlib.AbstractAsyncContextManager[Command]:
    return open_command(
        *("run", TARGET, "--mode", mode, "--broker", f"mqtt://127.0.0.1:{port}", "--domain", domain.name),
        *("--store", str(store), "--await-broker", *more),
        env={"LIFE": str(life), "COUNT": str(count)},
    )


async def arrived(client: Client, count: int) -> dict[str, list[str]]:
    """Wait for so many messages of each topic."""
    came: dict[str, list[str]] = {topic: [] for topic in TOPICS}
    while any(len(messages) < count for messages in came.values()):
        message = await client.receive()
        came[message.topic].append(message.payload.decode())
    return came


@pytest.mark.chaos
@pytest.mark.parametrize("mode", MODES)
async def test_what_is_stored_survives_that_everything_is_killed(
    mode: str, broker: Mosquitto, domain: Domain, tmp_path: Path
) -> None:
    """The broker is away for the whole life of the first run. The second publishes all, the third nothing again."""
    port, store = broker.port, tmp_path / "store"
    await broker.stop()
    async with run(mode, port, domain, store, 1) as first:
        await first.until_printed("all is stored")
        if mode == "split":  # the next gateway opens the store of the one that was killed, and takes nothing twice
            first.signal(signal.SIGKILL, first.half("gateway"))
            await first.until_event("store-goes-on", "channel q1 goes on with", str(COUNT))
            await first.until_event("store-goes-on", "channel q2 goes on with", str(COUNT))
        for process in reversed(first.tree()):
            first.signal(signal.SIGKILL, process.pid)
    await broker.start()
    async with open_client(port, *TOPICS, qos=2) as client:
        async with run(mode, port, domain, store, 2, count=3) as second:
            await second.until_printed("all is acknowledged")
            second.signal(signal.SIGTERM)
            assert await second.wait() == 0
        async with run(mode, port, domain, store, 3, count=1) as third:
            await third.until_printed("all is acknowledged")
            third.signal(signal.SIGTERM)
            assert await third.wait() == 0
        wanted = [*(f"1 {n}" for n in range(COUNT)), "2 0", "2 1", "2 2", "3 0"]
        assert await arrived(client, len(wanted)) == dict.fromkeys(TOPICS, wanted)


def with_content(folder: Path, text: str) -> Path:
    folder.write_text(text)
    return folder


@pytest.mark.parametrize("command", ["run", "gateway"])
async def test_a_folder_that_can_not_be_used_is_said_in_one_line(command: str, tmp_path: Path, domain: Domain) -> None:
    store = with_content(tmp_path / "store", "a file")
    code, output, errors = await run_command(
        *(command, TARGET, *(["--mode", "in-process", "--await-broker"] if command == "run" else [])),
        *("--domain", domain.name, "--store", str(store)),
    )
    assert (code, output) == (2, "")
    assert errors.count("\n") == 0
    assert str(store) in errors


@pytest.mark.chaos
@pytest.mark.timeout(180)
@pytest.mark.parametrize("policy", ["always", "when-behind"])
@pytest.mark.parametrize("qos", [1, 2])
async def test_nothing_is_lost_while_gateways_are_killed_and_the_broker_is_restarted(
    qos: int, policy: str, domain: Domain, tmp_path: Path
) -> None:
    store = {"policy": policy, "path": str(tmp_path / "store"), "behind_after": 0.05}
    plan = Plan(out=(qos,), rate=500, store=store)
    keeping = ["persistence true", f"persistence_location {tmp_path}/"]
    async with (
        open_mosquitto(tmp_path, keeping) as broker,
        open_under_fire(SESSIONS[0], plan, broker, domain) as fire,
    ):
        await fire.during(fire.kill_gateways(5, random.Random(qos)))
        await fire.during(fire.restart_broker(broker, 2, random.Random(qos)))
        out, _ = await fire.finish(60)
    print(f"out {out[qos]}")  # noqa: T201 - shown with -s
    assert out[qos].is_lossless, out[qos]
