"""Having the broker forget a deployment that is gone for good."""

from __future__ import annotations

import trio

from taktora_trio.connectors.mqtt.connector import MqttConnector
from taktora_trio.connectors.mqtt.forget import check_is_gone, forget_client
from taktora_trio.connectors.mqtt.options import MqttOptions
from taktora_trio.errors import ConfigError
from taktora_trio.runners.launch import Options, load_for_gateway
from taktora_trio.runners.outcome import show
from taktora_trio.transport.domain import ROLES, Domain

__all__ = ["forget_deployment"]


def forget_deployment(target: str, options: Options, even_if_up: bool) -> int:
    """Have the brokers forget each of its MQTT connectors, and say so; return the exit code.

    Raises `ConfigError` where it runs, and, unless `even_if_up`, where the presence of one of them says `Up`.
    """
    deployment, domain = load_for_gateway(target, options)
    deployment.check_files()
    if options.client_id is None:
        _check_does_not_run(domain)
    clients = [
        connector.options_as(connector.known_as(domain.identity))
        for connector in deployment.connectors
        if isinstance(connector, MqttConnector) and connector.options.session != "memory"
    ]
    for client in clients:
        trio.run(_forget, client, even_if_up)
        presence = f", and {client.presence_topic}" if client.presence_topic else ""
        show(f"{client.broker} has forgotten client {client.client_id}: its session{presence}")
    return 0


def _check_does_not_run(domain: Domain) -> None:
    for role in ROLES:
        if pid := domain.holder(role):
            raise ConfigError(
                f"the deployment runs: pid {pid} is the {role} of domain {domain.name!r}; stop it first, for the broker"
                " would throw its gateway out"
            )


async def _forget(client: MqttOptions, even_if_up: bool) -> None:
    if not even_if_up:
        await check_is_gone(client)
    await forget_client(client)
