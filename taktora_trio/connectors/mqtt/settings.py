"""The options of the command line that an MQTT connector brings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import attrs

from taktora_trio.connectors.mqtt.address import BrokerAddress, split_urls
from taktora_trio.connectors.mqtt.options import BROKERS_ARE, MqttOptions
from taktora_trio.connectors.settings import Setting, SettingValues
from taktora_trio.errors import ConfigError
from taktora_trio.escaping import escaped

__all__ = ["EMBEDDED", "SETTINGS", "configured", "unused"]

EMBEDDED = "embedded"

SETTINGS = (
    Setting(
        "broker",
        "mqtt://user:password@host:port, or mqtts:// for TLS, ws:// and wss:// for websockets, unix:///path, instead of"
        " the deployment's own; @FILE if that is in a file. Several with commas between them, or by giving it several"
        " times: when one is gone the next is tried. For `run` also `embedded`: a broker on loopback for trying things"
        " out.",
        kind="url",
        words=frozenset({EMBEDDED}),
        repeatable=True,
    ),
    Setting(
        "brokers-are",
        "`in-order` if the first of several brokers is preferred, `equal` if none is, `cluster` if they are the nodes"
        " of one broker; instead of the deployment's own.",
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
    brokers = options.brokers
    if "broker" in values:
        brokers = tuple(map(BrokerAddress.parse, split_urls(values["broker"].text)))
    if password := values.get("broker-password-file"):
        brokers = tuple(
            attrs.evolve(broker, password=password.secret) if _waits_for_password(broker) else broker
            for broker in brokers
        )
    brokers_are = options.brokers_are
    if "brokers-are" in values:
        brokers_are = cast(Any, values["brokers-are"].text)
        if brokers_are not in BROKERS_ARE:
            raise ConfigError(
                f"--brokers-are is {escaped(repr(brokers_are))}; it must be one of {', '.join(BROKERS_ARE)}"
            )
    ca_file = values["ca-file"].path if "ca-file" in values else options.ca_file
    client_id = options.client_id
    if (given := values.get("client-id")) is not None:
        client_id = f"{given.text}-{name}" if given.is_shared else given.text
    return attrs.evolve(options, broker=brokers, brokers_are=brokers_are, ca_file=ca_file, client_id=client_id)


def _waits_for_password(broker: BrokerAddress) -> bool:
    return broker.username is not None and broker.password is None


def unused(options: MqttOptions, values: SettingValues) -> Mapping[str, str]:
    """Return the values that have changed nothing in these options, each with the reason."""
    reasons: dict[str, str] = {}
    password, brokers = values.get("broker-password-file"), options.brokers
    if password is None or any(one.username is not None and one.password == password.secret for one in brokers):
        pass
    elif "broker" in values and any(one.password is not None for one in brokers):
        both = "there is a password in the broker URL and one in --broker-password-file: give one of them"
        reasons["broker-password-file"] = "" if password.variable or password.rank < values["broker"].rank else both
    else:
        reasons["broker-password-file"] = (
            "a broker password was given, by a file or by TAKTORA_BROKER_PASSWORD, but no broker has a user that waits"
            " for one: name the user, as in mqtt://user@host"
        )
    if "brokers-are" in values and len(brokers) == 1:
        reasons["brokers-are"] = "--brokers-are is for several brokers, and there is one: name more by --broker"
    if "ca-file" in values and not any(broker.tls for broker in brokers):
        reasons["ca-file"] = "a CA file was given, but no broker is reached by TLS: write mqtts:// or wss://"
    return reasons
