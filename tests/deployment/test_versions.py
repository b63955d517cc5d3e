"""During an upgrade the two halves may be of two versions of the app."""

from __future__ import annotations

import signal

from taktora_trio.transport.domain import Domain
from tests.client import open_client
from tests.command import open_command, run_command
from tests.mosquitto import Mosquitto

TARGET = "tests.deployment.version_apps:deployment"


async def test_halves_of_two_versions(broker: Mosquitto, domain: Domain) -> None:
    """One of another format is refused, and says in what it differs. Another message type is none of the gateway's."""
    arguments = (TARGET, "--broker", broker.url, "--domain", domain.name, "--client-id", domain.name)
    async with open_command("plugin", *arguments, env={"VERSION": "other type"}) as plugin:
        await plugin.until_event("waiting-for-gateway")
        code, output, errors = await run_command("gateway", *arguments, env={"VERSION": "other window"})
        assert (code, output) == (75, "")
        [line] = errors.splitlines()
        assert line.startswith(
            "taktora-trio: channel taktora.connector.mqtt.told.out: this half has window 128, the domain has window 64."
        )
        assert "stop both halves" in line
        async with open_command("gateway", *arguments, env={"VERSION": "1"}) as gateway:
            await plugin.until_event("health-up")
            async with open_client(broker.port, "versions/told") as client:
                client.publish("versions/asked", b'{"number":7,"from":"a producer of version 3"}')
                assert (await client.receive()).payload == b'{"number":7,"note":"none"}'
            for half in (plugin, gateway):
                half.signal(signal.SIGTERM)
                assert await half.wait() == 0
