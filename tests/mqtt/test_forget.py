"""A client that is gone for good, and what a real broker has left of it afterwards."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from taktora_trio.connectors.mqtt.forget import check_is_gone, forget_client
from taktora_trio.connectors.mqtt.options import MqttOptions
from taktora_trio.connectors.mqtt.record import record_of
from taktora_trio.connectors.mqtt.sessions import open_session
from taktora_trio.errors import ConfigError, ConnectorError, leaves
from tests.brokers.sessions import Kind, each_session
from tests.client import open_client
from tests.mosquitto import Mosquitto, open_mosquitto

TOPIC = "taktora/box/health"


def client_of(broker: Mosquitto, session: Kind) -> MqttOptions:
    return session.options(broker.url, client_id="box", persistent=True)


async def retained(broker: Mosquitto) -> dict[str, bytes]:
    """What somebody who comes now sees."""
    async with open_client(broker.port, "#") as client:
        client.publish("the/end", b"")
        seen = {}
        while (message := await client.receive()).topic != "the/end":
            seen[message.topic] = message.payload
    return seen


@each_session
async def test_its_session_and_its_presence_are_gone_and_nothing_else(session: Kind, broker: Mosquitto) -> None:
    options = client_of(broker, session)
    async with open_session(options, lambda message: None) as connected:
        await connected.subscribe({"jobs": 1})
    async with open_client(broker.port) as client:
        client.publish(TOPIC, b"Down", retain=True)
        client.publish("the/apps/own", b"kept", retain=True)
        client.publish("jobs", b"waits for it")
    assert set(await retained(broker)) == {TOPIC, "the/apps/own"}
    record = record_of(options)
    assert record is not None
    record.write(["jobs"])

    await check_is_gone(options)
    await forget_client(options)

    assert set(await retained(broker)) == {"the/apps/own"}
    assert record.read() == set()
    async with open_session(options, lambda message: None) as connected:
        assert not connected.session_present
    await forget_client(options)  # once more is no error


@each_session
async def test_one_that_says_up_is_not_taken_for_gone(session: Kind, broker: Mosquitto) -> None:
    options = client_of(broker, session)
    async with open_client(broker.port) as client:
        client.publish(TOPIC, b"Up", retain=True)
        with pytest.raises(ConfigError, match="'taktora/box/health' says Up: stop its gateway first"):
            await check_is_gone(options)
        client.publish(TOPIC, b"Down", retain=True)
    await check_is_gone(attrs.evolve(options, presence="somewhere/else"))
    await check_is_gone(attrs.evolve(options, presence=None))


async def test_a_broker_that_keeps_the_presence_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "acl").write_text("topic read #\n")
    async with open_mosquitto(tmp_path, [f"acl_file {tmp_path}/acl"]) as broker:
        options = MqttOptions(broker=broker.url, client_id="box", protocol="5")
        with pytest.raises(BaseExceptionGroup) as caught:
            await forget_client(options)
    [cause] = leaves(caught.value)
    assert isinstance(cause, ConnectorError)
    assert "not the retained message of 'taktora/box/health': Not authorized" in str(cause)
