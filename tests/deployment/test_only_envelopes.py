"""Only payload envelopes travel on a channel: what a peer of the app really sees in shared memory, sample by sample."""

from __future__ import annotations

import signal

import iceoryx2 as iox2
import trio

from examples.echo import REPLY, REQUEST, deployment
from taktora_trio import Header
from taktora_trio.connectors.plan import channel_spec, specs_of
from taktora_trio.transport.domain import Domain
from taktora_trio.transport.node import config_of, open_node
from taktora_trio.transport.ports import open_envelope_publisher, open_envelope_subscriber
from tests.command import open_command


async def test_only_payload_envelopes_travel_on_the_channels(domain: Domain) -> None:
    """The test is the gateway: every sample that the app's process sends is one of its messages, and no other is."""
    [connector] = deployment.connectors
    async with open_command("plugin", "examples.echo:deployment", "--domain", domain.name) as plugin:
        with trio.fail_after(20):
            await domain.wait_until_ready()
            with domain.hold("gateway"):
                async with (
                    open_node(domain, "test") as node,
                    open_envelope_publisher(node, channel_spec(connector, REQUEST)) as requests,
                    open_envelope_subscriber(node, channel_spec(connector, REPLY)) as replies,
                ):
                    assert _services(domain) == _declared()
                    while not requests.has_reader:  # who comes after the last send would not get the history from us
                        requests.space.clear()
                        if not requests.has_reader:
                            await requests.space.wait()
                    seen: list[tuple[Header, bytes, str]] = []
                    # A gateway is told when a reader has come, and hands it what waits. Here nobody does, so it waits.
                    while not requests.has_reader:
                        requests.space.clear()
                        if not requests.has_reader:
                            await requests.space.wait()
                    for number in range(50):
                        payload, topic = b"request %d" % number, b"taktora/echo/request/me"
                        while not requests.send(payload, topic=topic):
                            requests.space.clear()
                            if requests.send(payload, topic=topic):  # room may have come before the clear
                                break
                            await requests.space.wait()
                    while len(seen) < 50:
                        sample = replies.take()
                        if sample is None:
                            await replies.data.wait()
                            replies.data.clear()
                            continue
                        header, view, concrete, _ = replies.open(sample)
                        seen.append((header, bytes(view), concrete))
                        sample.delete()
                    assert [got for _, got, _ in seen] == [b"request %d" % number for number in range(50)]
                    assert [header.sequence_number for header, _, _ in seen] == list(range(1, 51))
                    assert {came_on for _, _, came_on in seen} == {""}
                    plugin.signal(signal.SIGTERM)
                    assert await plugin.wait(5) == 0
                    assert replies.take() is None, "something else was sent"


def _services(domain: Domain) -> set[str]:
    services = iox2.Service.list(config_of(domain), iox2.ServiceType.Ipc)
    return {service.name().to_string() for service in services}


def _declared() -> set[str]:
    """Three services for each direction of a channel, and the health of the connector; nothing else."""
    names = {spec.name for spec in specs_of(deployment.connectors)}
    return {name + ending for name in names for ending in ("", ".evt", ".space")}
