"""The two shapes, in three tests: one program, two programs, and what lies between the halves in either.

Read these first. Every other test is about what may go wrong.
"""

from __future__ import annotations

import signal
import struct
from pathlib import Path

import iceoryx2 as iox2
import pytest
import trio

from taktora_trio import (
    Deployment,
    Domain,
    Inbound,
    MqttConnector,
    MqttOptions,
    MqttRouting,
    Outbound,
    Received,
    Up,
    open_deployment,
)
from taktora_trio.connectors.plan import specs_of
from taktora_trio.executor import Context, Executor, every, on_message
from taktora_trio.transport.node import open_node
from taktora_trio.transport.services import event_service, reports_service, rings_service
from tests.client import open_client
from tests.command import MODES, open_command, open_run
from tests.deployment.tapped import HEALTH, TAP, deployment, read
from tests.mosquitto import Mosquitto


async def test_one_program(broker: Mosquitto, domain: Domain) -> None:
    """A host with an executor of items and a gateway, all in this process, by the public API alone."""
    measured = Outbound("measured", float, MqttRouting("greenhouse/celsius", qos=1))
    setpoint = Inbound("setpoint", float, MqttRouting("greenhouse/setpoint", qos=1))
    connector = MqttConnector([measured, setpoint], options=MqttOptions(broker=broker.url))
    greenhouse = Deployment("greenhouse", None, [connector])
    setpoints: list[float] = []

    with trio.fail_after(20):
        async with (
            open_client(broker.port, "greenhouse/celsius") as client,
            open_deployment(greenhouse, mode="in-process", domain=domain.name) as host,
            host.open_writer(measured) as readings,
            host.open_reader(setpoint) as wanted,
        ):
            executor = Executor()

            @executor.item(every(0.01))
            async def measure(ctx: Context) -> None:
                await readings.send(21.5)

            @executor.item(on_message(wanted))
            async def follow(ctx: Context[Received[float]]) -> None:
                setpoints.append(ctx.message.value)
                nursery.cancel_scope.cancel()  # the program stops

            async with trio.open_nursery() as nursery:
                nursery.start_soon(executor.run)
                await host.wait_for_health(Up)
                assert (await client.receive()).payload == b"21.5"
                client.publish("greenhouse/setpoint", b"19.0")
    assert setpoints == [19.0]
    # Nothing is left: the domain's fixture looks.


@pytest.mark.parametrize("first", ["plugin", "gateway"])
async def test_two_programs(first: str, broker: Mosquitto, domain: Domain) -> None:
    """The app in one process and the gateway in another, started in either order; both end well."""
    second = {"plugin": "gateway", "gateway": "plugin"}[first]
    arguments = ("examples.echo:deployment", "--domain", domain.name, "--broker", broker.url)
    async with (
        open_client(broker.port, "taktora/echo/reply") as client,
        open_command(first, *arguments) as one,
        open_command(second, *arguments) as other,
    ):
        gateway = one if first == "gateway" else other
        await gateway.until_event("connected")
        client.publish("taktora/echo/request/me", b"hello")
        assert (await client.receive()).payload == b"hello"
        for program in (one, other):
            program.signal(signal.SIGTERM)
            assert await program.wait(10) == 0


ENVELOPE = struct.Struct("<QQQIHHIH42s")


async def test_only_payload_envelopes_travel_and_the_services_are_the_same(
    broker: Mosquitto, domain: Domain, tmp_path: Path
) -> None:
    """A normal session of the real halves in each shape: each half writes down what it receives, whatever it may be."""
    sent = [b"request %d" % number for number in range(50)]
    services = {}
    for mode in MODES:
        tap = tmp_path / mode
        tap.mkdir()
        async with (
            open_client(broker.port, "taktora/echo/reply") as client,
            open_run("tests.deployment.tapped:deployment", mode, broker, domain, env={TAP: str(tap)}) as run,
        ):
            await run.until_event("health-up")
            for payload in sent:
                client.publish("taktora/echo/request/me", payload)
            assert [(await client.receive()).payload for _ in sent] == sent
            async with open_node(domain, "test") as node:
                services[mode] = services_of(node.iox)
            run.signal(signal.SIGTERM)
            assert await run.wait(10) == 0

        received = read(tap)
        assert received.pop(HEALTH), "the connector's health has a service of its own"
        assert sorted(received) == ["taktora.connector.mqtt.reply.out", "taktora.connector.mqtt.request.in"]
        for samples in received.values():
            headers = [ENVELOPE.unpack_from(sample) for sample in samples]
            payloads = [sample[ENVELOPE.size :][: header[3]] for sample, header in zip(samples, headers, strict=True)]
            assert payloads == sent, "each is a payload, and there is nothing else"
            assert [header[0] for header in headers] == list(range(1, len(sent) + 1))
    assert services["in-process"] == services["split"]
    assert len(services["split"]) == 7
    of_replies = dict(services["split"])["taktora.connector.mqtt.out"]
    assert "one sample, of a ring of envelopes for each channel" in of_replies


def services_of(node: iox2.Node) -> list[tuple[str, str]]:
    """Every service of the domain: its name, and what travels on it."""
    found = []
    [spec] = specs_of(deployment.connectors)
    rings = {spec.service(direction): direction for direction in spec.directions}
    for service in iox2.Service.list(node.config, iox2.ServiceType.Ipc):
        name = service.name().to_string()
        if name in rings:
            static = rings_service(node, spec, rings[name]).static_config
            assert (static.history_size, static.subscriber_max_buffer_size, static.max_publishers) == (1, 1, 1)
            kind = f"one sample, of a ring of envelopes for each channel: {static.message_type_details.payload}"
            found.append((name, kind))
        elif name == spec.health:
            found.append((name, str(reports_service(node, name).static_config.message_type_details.payload)))
        else:
            event_service(node, name)  # raises if it is of another kind
            found.append((name, "wake-ups"))
    return sorted(found)
