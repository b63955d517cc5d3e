"""Options of an MQTT connector: how the gateway talks to its broker."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import attrs

from taktora_trio.checks import as_path, flag, instance_of, one_of, optional, seconds, whole_number
from taktora_trio.connectors.certificates import tls_context
from taktora_trio.connectors.mqtt.address import BrokerAddress, split_urls
from taktora_trio.connectors.mqtt.checks import binary, mqtt_string, protocol_names
from taktora_trio.connectors.mqtt.topics import check_topic
from taktora_trio.connectors.options import ConnectorOptions
from taktora_trio.errors import ConfigError

if TYPE_CHECKING:
    import ssl

__all__ = ["BROKERS_ARE", "BrokerAddress", "LastWill", "MqttOptions"]

BROKERS_ARE = ("in-order", "equal", "cluster")

_CLIENT_ID = "{client_id}"
_LONGEST_NAME = "x" * 300  # more than a client id has that is made of a deployment's name


@attrs.frozen
class LastWill:
    """A message that the broker publishes if the connection ends without a farewell (MQTT 3.1.1, section 3.1.2.5)."""

    topic: str = attrs.field(validator=lambda instance, attribute, value: check_topic(value))
    payload: bytes = attrs.field(validator=binary)
    qos: Literal[0, 1, 2] = attrs.field(default=1, validator=one_of(0, 1, 2))
    retain: bool = attrs.field(default=True, validator=flag)


def _addresses(value: BrokerAddress | str | Sequence[BrokerAddress | str]) -> tuple[BrokerAddress, ...]:
    if isinstance(value, str):
        return tuple(map(BrokerAddress.parse, split_urls(value)))
    if isinstance(value, tuple | list):
        return tuple(address for one in value for address in _addresses(one))
    if not isinstance(value, BrokerAddress):
        raise ConfigError(
            f"MqttOptions: broker is of type {type(value).__name__}; it must be a URL or a BrokerAddress, or a list of"
            " them"
        )
    return (value,)


def _each_once(instance: object, attribute: attrs.Attribute[Any], value: tuple[BrokerAddress, ...]) -> None:
    if not value:
        raise ConfigError("MqttOptions: broker is an empty list: name at least one")
    known = [attrs.evolve(address, username=None, password=None) for address in value]
    for position, address in enumerate(known):
        if address in known[:position]:
            raise ConfigError(f"MqttOptions: broker {address} is in the list twice: name each once")


def _runs_here(instance: object, attribute: attrs.Attribute[Any], value: str) -> None:
    if value == "aiomqtt" and sys.version_info >= (3, 14):
        raise ConfigError(
            "MqttOptions: session='aiomqtt' needs Python 3.13 or older, since trio-asyncio, which it runs under,"
            " can't run with 3.14: use session='native', the default"
        )


def _names(value: str | tuple[str, ...] | list[str]) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, tuple | list):
        raise ConfigError(f"MqttOptions: alpn is {value!r}; it must be a name or a list of names")
    return tuple(value)


def _client_id(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    mqtt_string(instance, attribute, value)
    if not value:
        raise ConfigError("MqttOptions: client_id is ''; leave it None to have one made")


def _presence(instance: MqttOptions, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, str):
        raise ConfigError(f"MqttOptions: presence is {value!r}; it must be a topic, or None")
    check_topic(value.replace(_CLIENT_ID, _LONGEST_NAME))
    if instance.will is None and instance.client_id is not None:
        try:
            check_topic(value.replace(_CLIENT_ID, instance.client_id))
        except ConfigError as exc:
            raise ConfigError(
                f"MqttOptions: presence is {value!r}, where this client_id can't stand ({exc}): use another one, or"
                " presence=None"
            ) from None


@attrs.frozen(kw_only=True)
class MqttOptions(ConnectorOptions):
    """Options of the gateway's connection to its broker. Times in seconds. Raises `ConfigError` for what MQTT forbids.

    With QoS 2 and MQTT 3.1.1 at most 19 messages of all channels together are in flight, whatever `max_inflight` says.
    """

    brokers: tuple[BrokerAddress, ...] = attrs.field(
        default=(BrokerAddress("localhost", 1883),), alias="broker", converter=_addresses, validator=_each_once
    )
    """Given as `broker`: one address, or a list of them. When one is gone the next is tried."""
    brokers_are: Literal["in-order", "equal", "cluster"] = attrs.field(
        default="in-order", validator=one_of(*BROKERS_ARE)
    )
    """With `"in-order"` the first broker is preferred. With `"equal"` none is: each client has an order of its own,
    made of its client id, so that a fleet divides itself among them. Both are brokers that know nothing of each other,
    each with a session of its own for this client. With `"cluster"` they are the nodes of one broker, which has one
    session, wherever the client is connected; the order is as with `"equal"`."""
    return_to_first: float | None = attrs.field(default=60.0, validator=optional(seconds))
    """With brokers in order: the time between two attempts to connect to the first one while another one is in use.
    That one is left when the first has accepted the login, and not before. `None` to stay until a connection is lost.
    """
    protocol: Literal["3.1.1", "5"] = attrs.field(default="3.1.1", validator=one_of("3.1.1", "5"))
    """The version of MQTT. Metadata and correlation ids travel only with 5, and only there a broker says why it
    refuses."""
    ca_file: Path | None = attrs.field(default=None, converter=as_path)
    """For `mqtts://` and `wss://`: the certificate authorities to trust (PEM), instead of the system's."""
    cert_file: Path | None = attrs.field(default=None, converter=as_path)
    """The client's certificate, with those that lead from it to an authority (PEM), for a broker that asks for one."""
    key_file: Path | None = attrs.field(default=None, converter=as_path)
    """The key of that certificate (PEM, without a password); `None` if it is in `cert_file` too."""
    alpn: tuple[str, ...] = attrs.field(default=(), converter=_names, validator=protocol_names)
    """The protocols to offer within TLS, such as `mqtt` (RFC 7301)."""
    tls_minimum: Literal["1.2", "1.3"] = attrs.field(default="1.2", validator=one_of("1.2", "1.3"))
    """The lowest version of TLS."""
    client_id: str | None = attrs.field(default=None, validator=optional(_client_id))
    """`None` lets the session make one. The broker closes an older connection with the same id."""
    session: Literal["native", "aiomqtt", "memory"] = attrs.field(
        default="native", validator=[one_of("native", "aiomqtt", "memory"), _runs_here]
    )
    """The implementation to use; `memory` has its broker inside the process, for tests. `aiomqtt`
    needs Python 3.13 or older."""
    persistent: bool | None = attrs.field(default=None, validator=optional(flag))
    """`True` has the broker keep subscriptions and messages (QoS 1 and 2) while the gateway is not connected, for the
    next connection of the same client id. `None` is yes if there is an inbound channel of QoS 1 or 2."""
    session_expiry: int = attrs.field(default=3600, validator=whole_number(0, 0xFFFF_FFFF))
    """The time for which the broker keeps them (MQTT 5; 4294967295 is for ever). With 3.1.1 the broker decides."""
    receive_maximum: int | None = attrs.field(default=None, validator=optional(whole_number(1, 65_535)))
    """The number of messages of QoS 1 and 2 that the broker may send before the first is acknowledged (MQTT 5).

    `None` is as many as the gateway has room for, in the channels and in its backlog, so that a slow channel holds up
    the others as late as possible. With a shared subscription it is as many as the channels have room for: what one
    client has been sent, no other one gets."""
    presence: str | None = attrs.field(default="taktora/{client_id}/health", validator=optional(_presence))
    """The topic where `Up` and `Down` are published and retained, `Down` also as the last will; `None` for nothing."""
    will: LastWill | None = attrs.field(default=None, validator=optional(instance_of(LastWill)))
    """A last will of your own, instead of the presence's."""
    keepalive: int = attrs.field(default=30, validator=whole_number(1, 65_535))
    """A silent broker is noticed in half of this time to all of it."""
    connect_timeout: float = attrs.field(default=3.0, validator=seconds)
    """The time for connecting to one address of the broker, and for its answers."""

    def __attrs_post_init__(self) -> None:
        if all(address.password is None or address.username is not None for address in self.brokers):
            return
        if self.protocol == "3.1.1" or self.session == "aiomqtt":
            raise ConfigError(
                "MqttOptions: the broker's address has a password but no user; only MQTT 5 has that (3.1.1, section"
                " 3.1.2.9), and the aiomqtt session has not: name a user"
            )

    @property
    def broker(self) -> BrokerAddress:
        """The first broker; the only one in the options of a session."""
        return self.brokers[0]

    def at(self, address: BrokerAddress) -> MqttOptions:
        """Return the same options for this broker alone."""
        return self if self.brokers == (address,) else attrs.evolve(self, broker=address)

    @property
    def presence_topic(self) -> str | None:
        """`presence` with the client id filled in; `None` if there is none yet, or another last will."""
        if self.presence is None or self.will is not None or (_CLIENT_ID in self.presence and self.client_id is None):
            return None
        return self.presence.replace(_CLIENT_ID, self.client_id or "")

    def tls_context(self) -> ssl.SSLContext | None:
        """Return the context for TLS, or `None` without TLS. Raises `ConfigError` if a file can't be used."""
        if not self.broker.tls:
            return None
        return tls_context(self.ca_file, self.cert_file, self.key_file, minimum=self.tls_minimum, alpn=self.alpn)
