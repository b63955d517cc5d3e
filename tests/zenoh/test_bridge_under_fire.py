"""The bridge of the examples while it, and whoever it talks to, is killed: nothing is lost in an acknowledged tree."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import attrs
import pytest
import trio

from taktora_trio.testing.zenoh.router import ZenohRouter
from taktora_trio.transport.domain import Domain
from tests.brokers.listener import Listener, Talker, open_listener, open_talker
from tests.command import Command, open_command
from tests.deployment.lossless import figures_of
from tests.mosquitto import Mosquitto, open_mosquitto
from tests.patience import PATIENCE
from tests.zenoh.networks.counting import Counting, open_counting_app

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(180)]

TO_ZENOH, TO_MQTT = "orders/in/acknowledged", "orders/out/acknowledged"


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Mosquitto]:
    """It keeps sessions and messages when it is ended by SIGTERM."""
    lines = ["persistence true", f"persistence_location {tmp_path}/", "max_queued_messages 0"]
    async with open_mosquitto(tmp_path, lines) as running:
        yield running


@attrs.define
class Bridged:
    """A talker and a listener by MQTT, an app that sends and one that hears by Zenoh, and the bridge between them."""

    bridge: Command
    zenoh: Counting
    talker: Talker
    listener: Listener
    said: int = 0

    async def talk(self, rate: float) -> None:
        began = trio.current_time()
        while True:
            for _ in range(int((trio.current_time() - began) * rate) - self.said):
                self.talker.say(TO_ZENOH, b"%d" % self.said, 1)
                self.said += 1
            await trio.sleep(0.01)

    async def until_both_move(self, count: int = 100) -> None:
        heard = self.listener.heard[TO_MQTT]
        wanted = len(heard) + count
        with trio.fail_after(PATIENCE):
            await self.listener.changes.wait_value(lambda _: len(heard) >= wanted)
        await self.zenoh.until_more(count)

    async def kill(self, run: Command, half: str) -> None:
        """Kill a half, and wait until both directions move again."""
        count = len(run.events("process-started", half=half))
        run.signal(signal.SIGKILL, run.half(half))
        await run.until_event("process-started", half=half, count=count + 1)
        await self.until_both_move()


async def test_nothing_is_lost_whoever_is_killed(
    broker: Mosquitto, router: ZenohRouter, domain: Domain, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        listener = await stack.enter_async_context(open_listener(broker.port, {TO_MQTT: 1}))
        talker = await stack.enter_async_context(open_talker(broker.port))
        options = {"connect": [router.endpoint]}
        until = tmp_path / "until"
        bridge = await stack.enter_async_context(
            open_command(
                *("run", "examples.bridge:deployment", "--mode", "split", "--domain", domain.name),
                *("--broker", broker.url, "--connect", router.endpoint),
            )
        )
        runs = {}
        for name, tree in (("receiver", "orders/in"), ("sender", "orders/out")):
            app = open_counting_app(name, None, until, tree=tree, kinds=("acknowledged",), rate=300.0, options=options)
            runs[name] = await stack.enter_async_context(app)
        for run in (bridge, *runs.values()):
            await run.until_event("health-up", count=3 if run is bridge else 1)
        zenoh = Counting(runs["sender"], runs["receiver"], until)
        bridged = Bridged(bridge, zenoh, talker, listener)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bridged.talk, 300.0)
            await bridged.until_both_move()
            for half in ("gateway", "plugin", "gateway"):
                await bridged.kill(bridge, half)
            await bridged.kill(runs["receiver"], "gateway")
            await bridged.kill(runs["sender"], "gateway")
            await bridged.kill(runs["receiver"], "plugin")
            await broker.stop(signal.SIGTERM)
            await broker.start()
            await bridged.until_both_move()
            await router.stop()
            await router.start()
            await bridged.until_both_move()
            nursery.cancel_scope.cancel()
        sent = await zenoh.sent("acknowledged")
        await zenoh.until_heard("acknowledged", bridged.said - 1)
        await listener.until_heard(TO_MQTT, b"%d" % (sent - 1))
        there = figures_of(zenoh.heard["acknowledged"], bridged.said)
        back = figures_of([int(payload) for payload in listener.heard[TO_MQTT]], sent)
        for run in (bridge, *runs.values()):
            run.signal(signal.SIGTERM)
            assert await run.wait() == 0
    print(f"to Zenoh {there}; to MQTT {back}")  # noqa: T201 - shown with -s
    assert there.is_lossless, there
    assert back.is_lossless, back
