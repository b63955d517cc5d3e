"""A whole machine loses its power under load, again and again: what a receipt called stored arrives."""

from __future__ import annotations

import contextlib
import random
import re
import signal
from pathlib import Path

import pytest
import trio

from taktora_trio.transport.domain import Domain
from tests.client import open_client
from tests.command import Command, open_command
from tests.deployment.power_cut_apps import TOPIC
from tests.mosquitto import Mosquitto
from tests.store.forgetting import Tree
from tests.store.fuse import CANT, mounted

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.timeout(180),
    pytest.mark.skipif(bool(CANT), reason=CANT or "it can be had"),
]

LIVES = 3
LAST = 40  # messages of the run that ends well


def run(
    port: int, domain: Domain, store: Path, life: int, *, count: int = 0
) -> contextlib.AbstractAsyncContextManager[Command]:
    return open_command(
        *("run", "tests.deployment.power_cut_apps:deployment", "--mode", "split", "--domain", domain.name),
        *("--broker", f"mqtt://127.0.0.1:{port}", "--store", str(store), "--await-broker"),
        env={"LIFE": str(life), "COUNT": str(count)},
    )


def stored(command: Command) -> int:
    """Return how many messages its receipts have called stored."""
    return max(int(found[1]) for line in command.output if (found := re.search(r'"stored (\d+)"', line)))


async def live_until_the_power_is_cut(command: Command, tree: Tree, chance: random.Random) -> None:
    await command.until_printed("stored")
    await trio.sleep(chance.random() / 2)
    tree.cut_at = tree.operations + chance.randrange(1, 30)
    while not tree.is_cut:  # noqa: ASYNC110 - a mounted file system has no event
        await trio.sleep(0.01)
    for process in reversed(command.tree()):
        command.signal(signal.SIGKILL, process.pid)


def check(came: list[str], promised: dict[int, int]) -> None:
    """Each run's messages came in order, and all that were promised."""
    first_times = list(dict.fromkeys(came))
    for life, count in promised.items():
        numbers = [int(text.split()[1]) for text in first_times if text.startswith(f"{life} ")]
        assert numbers == sorted(numbers)
        assert set(range(count)) <= set(numbers), f"run {life}: lost"


@pytest.mark.parametrize("has_broker", [True, False], ids=["with a broker", "without one"])
async def test_what_is_stored_survives_power_cuts(
    has_broker: bool, broker: Mosquitto, domain: Domain, tmp_path: Path
) -> None:
    chance, tree, port = random.Random(has_broker), Tree(), broker.port
    disk = tmp_path / "disk"
    disk.mkdir()
    promised: dict[int, int] = {}
    async with contextlib.AsyncExitStack() as clients:
        if has_broker:
            client = await clients.enter_async_context(open_client(port, TOPIC))
        else:
            await broker.stop()
        with mounted(tree, disk):
            for life in range(LIVES):
                async with run(port, domain, disk / "store", life) as command:
                    await live_until_the_power_is_cut(command, tree, chance)
                promised[life] = stored(command)
                domain.remove_if_alone()  # memory does not outlive it
                await trio.to_thread.run_sync(tree.cut, chance)
            if not has_broker:
                await broker.start()
                client = await clients.enter_async_context(open_client(port, TOPIC))
            async with run(port, domain, disk / "store", LIVES, count=LAST) as command:
                await command.until_printed("all is acknowledged")
                command.signal(signal.SIGTERM)
                assert await command.wait() == 0
        promised[LIVES] = LAST
        came: list[str] = []
        while f"{LIVES} {LAST - 1}" not in came[-1:]:
            came.append((await client.receive()).payload.decode())
    print(f"promised {promised}, came {len(came)}, repeated {len(came) - len(set(came))}")  # noqa: T201 - shown with -s
    check(came, promised)
