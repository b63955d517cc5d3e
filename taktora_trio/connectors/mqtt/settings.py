"""The options of the command line that an MQTT connector brings."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from taktora_trio.connectors.mqtt.address import BrokerAddress
from taktora_trio.connectors.mqtt.options import MqttOptions
from taktora_trio.connectors.settings import Setting, SettingValues

__all__ = ["EMBEDDED", "SETTINGS", "configured", "unused"]

EMBEDDED = "embedded"

SETTINGS = (
    Setting(
        "broker",
        "mqtt://user:password@host:port, or mqtts:// for TLS, ws:// and wss:// for websockets, unix:///path, instead of"
        " the deployment's own; @FILE if that is in a file. For `run` also `embedded`: a broker on loopback for trying"
        " things out.",
        kind="url",
        words=frozenset({EMBEDDED}),
    ),
    Setting(
        "broker-password-file",
        "Read the broker's password from this file (else from the variable TAKTORA_BROKER_PASSWORD). It is for each"
        " broker's user who has none.",
        kind="secret",
    ),
    Setting("ca-file", "Trust the certificate authorities in this PEM file, instead of the system's.", kind="path"),
    Setting(
        "client-id",
        "The broker knows the gateway by this name, instead of one made of this machine's; with several connectors, the"
        " name of each follows after a '-'.",
        identifies=True,
    ),
)


def configured(options: MqttOptions, values: SettingValues, name: str) -> MqttOptions:
    """Return the options with these values instead of their own, for the connector of this name."""
    broker = BrokerAddress.parse(values["broker"].text) if "broker" in values else options.broker
    if (password := values.get("broker-password-file")) and broker.username is not None and broker.password is None:
        broker = attrs.evolve(broker, password=password.secret)
    ca_file = values["ca-file"].path if "ca-file" in values else options.ca_file
    client_id = options.client_id
    if (given := values.get("client-id")) is not None:
        client_id = f"{given.text}-{name}" if given.is_shared else given.text
    return attrs.evolve(options, broker=broker, ca_file=ca_file, client_id=client_id)


def unused(options: MqttOptions, values: SettingValues) -> Mapping[str, str]:
    """Return the values that have changed nothing in these options, each with the reason."""
    reasons: dict[str, str] = {}
    password, broker = values.get("broker-password-file"), options.broker
    if password is None or (broker.username is not None and broker.password == password.secret):
        pass
    elif "broker" in values and broker.password is not None:
        both = "there is a password in the broker URL and one in --broker-password-file: give one of them"
        reasons["broker-password-file"] = "" if password.variable else both
    else:
        reasons["broker-password-file"] = (
            "a broker password was given, by a file or by TAKTORA_BROKER_PASSWORD, but no broker has a user that waits"
            " for one: name the user, as in mqtt://user@host"
        )
    if "ca-file" in values and not options.broker.tls:
        reasons["ca-file"] = "a CA file was given, but no broker is reached by TLS: write mqtts:// or wss://"
    return reasons
