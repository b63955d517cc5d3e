"""Only payload envelopes travel on a channel: what a peer of the app really sees in shared memory, slot by slot."""

from __future__ import annotations

import signal

import iceoryx2 as iox2
import trio

from examples.echo import REPLY, REQUEST, deployment
from taktora_trio import Connecting, Header
from taktora_trio.connectors.plan import channel_name, specs_of, trunk_spec
from taktora_trio.transport.domain import Domain
from taktora_trio.transport.health import GatewayIdentity, open_health_reporter
from taktora_trio.transport.node import config_of, open_node
from taktora_trio.transport.subscriber import EnvelopeSubscriber
from taktora_trio.transport.trunk import open_trunk
from tests.command import open_command


async def test_only_payload_envelopes_travel_on_the_channels(domain: Domain) -> None:
    """The test is the gateway: every envelope that the app's process sends is one of its messages, and no other is."""
    [connector] = deployment.connectors
    async with open_command("plugin", "examples.echo:deployment", "--domain", domain.name) as plugin:
        with trio.fail_after(20):
            await domain.wait_until_ready()
            with domain.hold("gateway"):
                spec = trunk_spec(connector)
                async with (
                    open_node(domain, "test") as node,
                    open_trunk(node, spec, "gateway") as trunk,
                    open_health_reporter(node, spec, GatewayIdentity.of_this_process()) as reporter,
                ):
                    assert _services(domain) == _declared()
                    reporter.report(Connecting())  # so the app hands us its memory
                    requests = trunk.publisher(channel_name(connector, REQUEST))
                    while not requests.has_reader:
                        requests.space.clear()
                        if not requests.has_reader:
                            await requests.space.wait()
                    trunk.update_connections()  # and we hand it ours
                    for number in range(50):
                        payload, topic = b"request %d" % number, b"taktora/echo/request/me"
                        while not requests.send(payload, topic=topic):
                            requests.space.clear()
                            if requests.send(payload, topic=topic):  # room may have come before the clear
                                break
                            await requests.space.wait()
                    with trunk.open_subscriber(channel_name(connector, REPLY)) as replies:
                        seen = await _take(replies, 50)
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
    """Rings of each direction, and wake-ups of each half; the health of the connector, and its; nothing else."""
    [spec] = specs_of(deployment.connectors)
    rings = {spec.service(direction) for direction in spec.directions}
    events = {f"{name}.{end}" for name in (spec.name, spec.health) for end in ("app", "gateway")}
    return {*rings, *events, spec.health}


async def _take(port: EnvelopeSubscriber, count: int) -> list[tuple[Header, bytes, str]]:
    taken: list[tuple[Header, bytes, str]] = []
    while len(taken) < count:
        place = port.take()
        if place is None:
            await port.data.wait()
            port.data.clear()
            continue
        header, view, concrete, _ = port.open(place)
        taken.append((header, bytes(view), concrete))
    return taken
