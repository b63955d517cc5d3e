"""What only the split shape promises: the gateway's process may die at any moment, and so may the supervisor."""

from __future__ import annotations

import json
import os
import signal

import psutil
import trio
from trio_util import AsyncValue

from taktora_trio.transport.domain import Domain
from tests.client import Client, open_client
from tests.command import open_run
from tests.mosquitto import Mosquitto
from tests.patience import PATIENCE


class Story:
    """What the app has told of its health. Each once: QoS 1 may bring one again after a restart."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._last = 0

    async def until(self, last: str) -> list[tuple[str, str]]:
        """The transitions that are new, up to a change to `last`."""
        told: list[tuple[str, str]] = []
        with trio.fail_after(PATIENCE):
            while not told or told[-1][1] != last:
                message = await self._client.receive()
                if message.topic == "test/transitions":
                    transition = json.loads(message.payload)
                    if transition["number"] > self._last:
                        assert transition["number"] == self._last + 1
                        self._last += 1
                        told.append((transition["before"], transition["after"]))
        return told


async def test_the_app_survives_a_killed_gateway_and_recovers(broker: Mosquitto, domain: Domain) -> None:
    async with (
        open_client(broker.port, "test/#") as client,
        open_run("tests.deployment.apps:ticking", "split", broker, domain) as run,
    ):
        story = Story(client)
        assert await story.until("Up") == [("Connecting", "Up")]
        for incarnation in range(2, 5):
            plugin, gateway = run.half("plugin"), run.half("gateway")
            run.signal(signal.SIGKILL, gateway)
            *downs, connecting, up = await story.until("Up")
            # One, or two where the supervisor's word came late: that it ended, and how.
            assert [before for before, _ in downs] == ["Up", "Down"][: len(downs)]
            assert f"incarnation {incarnation - 1} ended" in downs[-1][1]
            assert "killed by SIGKILL; starts again" in downs[-1][1]
            assert (connecting, up) == (("Down", "Connecting"), ("Connecting", "Up"))
            await run.until_event("process-started", half="gateway", count=incarnation)
            assert run.half("plugin") == plugin
            tick = json.loads(await _next_tick(client))
            assert tick["pid"] == plugin
        run.signal(signal.SIGTERM)
        assert await run.wait(5) == 0


async def _next_tick(client: Client) -> bytes:
    while (message := await client.receive()).topic != "test/ticks":
        pass
    return message.payload


async def test_nothing_that_the_app_sent_is_lost_to_killed_and_stopped_gateways(
    broker: Mosquitto, domain: Domain
) -> None:
    """At least once, in order: what a gateway has taken but the broker has not acknowledged, the next one publishes."""
    seen: list[int] = []
    arrived = AsyncValue(0)
    async with (
        open_client(broker.port, "test/numbers") as client,
        open_run("tests.deployment.apps:counting", "split", broker, domain) as run,
        trio.open_nursery() as nursery,
    ):

        async def collect() -> None:
            while True:
                seen.append(int((await client.receive(30)).payload))
                arrived.value = len(seen)

        nursery.start_soon(collect)
        for incarnation, signum in enumerate([signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGKILL], 1):
            await run.until_event("connected", count=incarnation)
            enough = len(seen) + 200 + 37 * incarnation
            with trio.fail_after(20):
                await arrived.wait_value(lambda count, enough=enough: count >= enough)
            run.signal(signum, run.half("gateway"))
        await run.until_event("connected", count=5)
        run.signal(signal.SIGTERM)
        assert await run.wait(6) == 0
        await trio.sleep(0.2)  # for what is still in the client's thread
        nursery.cancel_scope.cancel()
    firsts = sorted(set(seen))
    assert firsts == list(range(len(firsts))), "lost"
    assert len(firsts) > 1000
    repeated = len(seen) - len(firsts)
    assert repeated <= 4 * 64, "more than a window came again at a restart"
    order = [number for index, number in enumerate(seen) if number not in seen[max(0, index - 200) : index]]
    assert order == sorted(order), "out of order"


async def test_the_plugin_process_has_no_protocol_stack_and_the_gateway_runs_no_app(
    broker: Mosquitto, domain: Domain
) -> None:
    async with (
        open_client(broker.port, "test/#") as client,
        open_run("tests.deployment.apps:ticking", "split", broker, domain) as run,
    ):
        await Story(client).until("Up")
        pids = {json.loads(await _next_tick(client))["pid"] for _ in range(20)}
        assert pids == {run.half("plugin")}
        libraries = {half: _mapped(run.half(half)) for half in ("plugin", "gateway")}
        assert "_asyncio" not in libraries["plugin"]
        assert "_asyncio" not in libraries["gateway"]  # the native session does without
        run.signal(signal.SIGTERM)
        assert await run.wait(5) == 0


def _mapped(pid: int) -> str:
    return " ".join(mapping.path for mapping in psutil.Process(pid).memory_maps())


async def test_one_signal_to_each_half_ends_all_of_it(broker: Mosquitto, domain: Domain) -> None:
    async with open_run("examples.echo:deployment", "split", broker, domain) as run:
        await run.until_event("health-up")
        halves = [run.half("plugin"), run.half("gateway")]
        for pid in halves:
            run.signal(signal.SIGINT, pid)
        assert await run.wait(5) == 0
        await run.until_event("ended", "(exit code 0)", half="plugin")
        assert not any(psutil.pid_exists(pid) for pid in halves)


async def test_a_stopped_gateway_is_started_again_while_the_app_goes_on(broker: Mosquitto, domain: Domain) -> None:
    async with (
        open_client(broker.port, "test/#") as client,
        open_run("tests.deployment.apps:ticking", "split", broker, domain) as run,
    ):
        story = Story(client)
        await story.until("Up")
        run.signal(signal.SIGTERM, run.half("gateway"))
        assert await story.until("Up") == [
            ("Up", "Down (the gateway was stopped)"),
            ("Down", "Connecting"),
            ("Connecting", "Up"),
        ]
        await run.until_event("restarting", "(exit code 0)", half="gateway")
        run.signal(signal.SIGTERM)
        assert await run.wait(5) == 0


async def test_a_killed_supervisor_leaves_no_orphan(broker: Mosquitto, domain: Domain) -> None:
    async with open_run("examples.echo:deployment", "split", broker, domain) as run:
        await run.until_event("health-up")
        halves = [psutil.Process(run.half(name)) for name in ("plugin", "gateway")]
        run.signal(signal.SIGKILL)
        assert await run.wait() == -signal.SIGKILL
        with trio.fail_after(8):
            for half in halves:
                await trio.to_thread.run_sync(half.wait)
    # Each half was the last one at some moment, so not even a file is left (the fixture looks).


async def test_after_a_kill_of_everything_the_next_run_cleans_up_and_works(broker: Mosquitto, domain: Domain) -> None:
    async with open_run("examples.echo:deployment", "split", broker, domain) as run:
        await run.until_event("health-up")
        tree = run.tree()
        for process in tree:
            os.kill(process.pid, signal.SIGSTOP)  # so that none can clean up after another
        for process in tree:
            os.kill(process.pid, signal.SIGKILL)
        await run.wait()
    stale = set(domain.files())
    assert stale, "nothing was left behind, so nothing is tested"
    async with (
        open_run("examples.echo:deployment", "split", broker, domain) as run,
        open_client(broker.port, "taktora/echo/reply") as client,
    ):
        await run.until_event("leftovers-removed")
        await run.until_event("health-up")
        client.publish("taktora/echo/request/me", b"hello again")
        assert (await client.receive()).payload == b"hello again"
        run.signal(signal.SIGTERM)
        assert await run.wait(5) == 0


async def test_a_plugin_that_ignores_its_stop_is_killed_after_the_grace(broker: Mosquitto, domain: Domain) -> None:
    async with open_run("tests.deployment.apps:silent", "split", broker, domain) as run:
        await run.until_printed("deaf from now on")
        run.signal(signal.SIGTERM)
        assert await run.wait(8) == 0
        await run.until_event("process-stop-forced", "within 2.0 s", half="plugin")
