"""`taktora-trio forget`, as an operator says it."""

from __future__ import annotations

import signal

from taktora_trio.transport.domain import Domain
from tests.client import open_client
from tests.command import open_run, run_command
from tests.mosquitto import Mosquitto, free_port

TARGET = "examples.echo:deployment"


async def test_a_deployment_is_forgotten_when_it_has_ended_and_not_before(broker: Mosquitto, domain: Domain) -> None:
    said = ["forget", TARGET, "--broker", broker.url, "--domain", domain.name]
    async with open_run(TARGET, "split", broker, domain) as run:
        await run.until_event("health-up")
        code, _, error = await run_command(*said)
        assert code == 2
        assert f"the deployment runs: pid {run.pid} is the owner" in error
        code, _, error = await run_command(*said, "--client-id", f"{domain.identity}-mqtt")
        assert code == 2
        assert "says Up: stop its gateway first" in error
        run.signal(signal.SIGTERM)
        assert await run.wait() == 0
        assert run.events("connection-lost") + run.events("outbound-lost") + run.events("inbound-lost") == []
    topic = f"taktora/{domain.identity}-mqtt/health"
    async with open_client(broker.port, "taktora/+/health") as client:
        down = await client.receive()
        assert (down.topic, down.payload, down.retained) == (topic, b"Down", True)
        code, output, _ = await run_command(*said)
        assert code == 0
        assert output == (f"{broker.url} has forgotten client {domain.identity}-mqtt: its session, and {topic}")
        cleared = await client.receive()
        assert (cleared.topic, cleared.payload) == (topic, b"")


async def test_a_broker_that_is_not_there(domain: Domain) -> None:
    url = f"mqtt://127.0.0.1:{free_port()}"
    code, output, error = await run_command("forget", TARGET, "--broker", url, "--domain", domain.name)
    assert (code, output) == (1, "")
    assert len(error.splitlines()) == 1
