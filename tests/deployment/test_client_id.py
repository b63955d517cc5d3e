"""What a broker knows a gateway by: a name that stays, or a warning that it may not."""

from __future__ import annotations

import signal

import pytest

from taktora_trio.transport.domain import Domain
from tests.client import open_client
from tests.command import MODES, open_run
from tests.mosquitto import Mosquitto

IN_A_CONTAINER = {"container": "podman"}


@pytest.mark.parametrize("mode", MODES)
async def test_a_lasting_session_by_a_name_that_passes_is_warned_of(
    mode: str, broker: Mosquitto, domain: Domain
) -> None:
    async with open_run("examples.echo:deployment", mode, broker, domain, env=IN_A_CONTAINER) as run:
        await run.until_event("health-up")
        [told] = run.events("name-temporary", "client id")
        assert told["level"] == "warning"
        assert "this container's host name" in told["message"]
        assert "--client-id ID or MqttOptions(client_id=...)" in told["message"]
        run.signal(signal.SIGTERM)
        assert await run.wait() == 0


@pytest.mark.parametrize("mode", MODES)
async def test_a_client_id_that_is_given_is_what_the_broker_knows(mode: str, broker: Mosquitto, domain: Domain) -> None:
    async with (
        open_client(broker.port, "taktora/+/health") as client,
        open_run("examples.echo:deployment", mode, broker, domain, "--client-id=-the box-", env=IN_A_CONTAINER) as run,
    ):
        message = await client.receive(20)
        assert (message.topic, message.payload) == ("taktora/-the box-/health", b"Up")
        assert run.events("name-temporary", "client id") == []
        run.signal(signal.SIGTERM)
        assert await run.wait() == 0
