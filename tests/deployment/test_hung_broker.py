"""A broker that is there and does not answer: the stop is as clean and as quick as any other."""

from __future__ import annotations

import os
import signal

import pytest
import trio

from taktora_trio.transport.domain import Domain
from tests.client import open_client
from tests.command import MODES, open_command, open_run
from tests.mosquitto import Mosquitto

pytestmark = pytest.mark.parametrize("mode", MODES)


@pytest.mark.parametrize("app", ["ticking", "counting"])
async def test_a_broker_that_hangs_in_the_middle_of_traffic(
    mode: str, app: str, broker: Mosquitto, domain: Domain
) -> None:
    async with (
        open_client(broker.port, "test/#") as client,
        open_run(f"tests.deployment.apps:{app}", mode, broker, domain) as run,
    ):
        for _ in range(20):
            await client.receive(20)
        os.kill(broker.pid, signal.SIGSTOP)
        try:
            if app == "counting":  # the window fills up, and is still full when it ends
                await run.until_event("health-degraded", "(channel count is full)")
            run.signal(signal.SIGTERM)
            assert await run.wait(5) == 0
        finally:
            os.kill(broker.pid, signal.SIGCONT)


async def test_a_broker_that_accepts_and_says_nothing(mode: str, domain: Domain) -> None:
    async def say_nothing(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, say_nothing, [listener])
        url = f"mqtt://127.0.0.1:{listener.socket.getsockname()[1]}"
        async with open_command(
            "run", "examples.echo:deployment", "--mode", mode, "--broker", url, "--domain", domain.name
        ) as run:
            await run.until_event("connection-failed", "timed out")
            run.signal(signal.SIGINT)
            assert await run.wait(5) == 0
        nursery.cancel_scope.cancel()
