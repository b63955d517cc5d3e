"""The broker's address, and how to talk to it."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, unquote, urlsplit

import attrs

from taktora_trio.errors import ConfigError
from taktora_trio.mqtt.topics import check_topic
from taktora_trio.supervision.backoff import Backoff

__all__ = ["BrokerAddress", "LastWill", "MqttOptions"]

Transport = Literal["tcp", "unix", "websocket"]
_SCHEMES: dict[str, tuple[Transport, int, bool]] = {  # transport, port, TLS
    "mqtt": ("tcp", 1883, False),
    "mqtts": ("tcp", 8883, True),
    "ws": ("websocket", 80, False),
    "wss": ("websocket", 443, True),
    "unix": ("unix", 0, False),
}


@attrs.frozen
class BrokerAddress:
    """A broker: `mqtt://[user[:password]@]host[:port]`, or `mqtts://` for TLS. Its text never shows the password.

    Also `ws://` and `wss://` with a path after the port, for websockets, and `unix:///path` for a unix socket.
    """

    host: str
    port: int
    tls: bool = False
    username: str | None = None
    password: str | None = attrs.field(default=None, repr=False)
    transport: Transport = "tcp"
    path: str = ""
    """Of the websocket (empty is `/`), or of the unix socket."""

    @classmethod
    def parse(cls, url: str) -> BrokerAddress:
        """Raises `ConfigError` that says what is wrong, without repeating the URL: there may be a password in it."""
        example = "it looks like mqtt://user:password@host:1883, or mqtts:// for TLS, or ws://, wss://, unix:///path"
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            # Without its message: after an unquoted '/', '?' or '#' that may hold a part of the password.
            raise ConfigError(
                "the broker URL has a bad host or port, or a sign in the user or password that must be quoted, such as"
                f" %23 for '#'; {example}"
            ) from None
        if parts.scheme not in _SCHEMES or "://" not in url:
            scheme = parts.scheme if "://" in url and parts.scheme else "none"
            raise ConfigError(f"the broker URL must begin with mqtt:// or mqtts:// (its scheme is {scheme}); {example}")
        transport, default_port, tls = _SCHEMES[parts.scheme]
        if transport == "unix":
            if parts.hostname or port is not None or len(parts.path) < 2:
                raise ConfigError(f"the broker URL must name a socket as unix:///path, with three slashes; {example}")
        elif not parts.hostname:
            raise ConfigError(f"the broker URL names no host; {example}")
        if parts.password and not parts.username:
            raise ConfigError(f"the broker URL has a password but no user; {example}")
        if port == 0:
            raise ConfigError(f"the broker URL has port 0; {example}")
        if (transport == "tcp" and parts.path not in ("", "/")) or parts.query or parts.fragment:
            raise ConfigError(f"the broker URL goes on after the port; {example}")
        return cls(
            host=parts.hostname or "",
            port=port or default_port,
            tls=tls,
            username=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
            transport=transport,
            path="" if transport == "tcp" else unquote(parts.path),
        )

    def __str__(self) -> str:
        user = f"{quote(self.username, safe='')}@" if self.username else ""
        path = quote(self.path)
        if self.transport == "unix":
            return f"unix://{user}{path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        scheme = {"tcp": "mqtt", "websocket": "ws"}[self.transport] + ("s" if self.tls else "")
        return f"{scheme}://{user}{host}:{self.port}{path}"


@attrs.frozen
class LastWill:
    """What the broker publishes if the connection ends without a farewell (MQTT 3.1.1, section 3.1.2.5)."""

    topic: str = attrs.field(validator=lambda instance, attribute, value: check_topic(value))
    payload: bytes
    qos: Literal[0, 1, 2] = 1
    retain: bool = True


def _parse_if_text(value: BrokerAddress | str) -> BrokerAddress:
    return BrokerAddress.parse(value) if isinstance(value, str) else value


def _more_than_zero(instance: object, attribute: attrs.Attribute[Any], value: float) -> None:
    if not value > 0:
        raise ConfigError(f"MqttOptions: {attribute.name} is {value!r}; it must be more than 0")


def _two_bytes(instance: object, attribute: attrs.Attribute[Any], value: int) -> None:
    if value > 65_535:
        raise ConfigError(f"MqttOptions: {attribute.name} is {value!r}; MQTT ends at 65535")


def _four_bytes(instance: object, attribute: attrs.Attribute[Any], value: int) -> None:
    if not 0 <= value <= 0xFFFF_FFFF:
        raise ConfigError(f"MqttOptions: {attribute.name} is {value!r}; it must be from 0 to 4294967295")


def _one_of(*allowed: object) -> Any:
    def check(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if value not in allowed:
            names = [repr(name) for name in allowed]
            listed = f"{', '.join(names[:-1])} or {names[-1]}"
            raise ConfigError(f"MqttOptions: {attribute.name} is {value!r}; use {listed}")

    return check


def _presence(instance: object, attribute: attrs.Attribute[Any], value: str | None) -> None:
    if value is not None:
        check_topic(value.replace("{client_id}", "id"))


def _names(value: str | tuple[str, ...] | list[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _path(value: str | Path | None) -> Path | None:
    return None if value is None else Path(value)


@attrs.frozen(kw_only=True)
class MqttOptions:
    """How the gateway talks to its broker. Times in seconds."""

    broker: BrokerAddress = attrs.field(
        default=BrokerAddress("localhost", 1883),
        converter=_parse_if_text,
    )
    protocol: Literal["3.1.1", "5"] = attrs.field(default="3.1.1", validator=_one_of("3.1.1", "5"))
    """The version of MQTT. Message metadata travels only with 5, and only there a broker says why it refuses."""
    ca_file: Path | None = attrs.field(default=None, converter=_path)
    """For `mqtts://` and `wss://`: the certificate authorities to trust (PEM), instead of the system's."""
    cert_file: Path | None = attrs.field(default=None, converter=_path)
    """The client's own certificate and what leads from it to an authority (PEM), where the broker asks for one."""
    key_file: Path | None = attrs.field(default=None, converter=_path)
    """The key of that certificate (PEM, without a password); `None` if it is in `cert_file` too."""
    alpn: tuple[str, ...] = attrs.field(default=(), converter=_names)
    """The protocols to offer within TLS, such as `mqtt` (RFC 7301)."""
    tls_minimum: Literal["1.2", "1.3"] = attrs.field(default="1.2", validator=_one_of("1.2", "1.3"))
    client_id: str | None = None
    """`None` lets the session make one. The broker closes an older connection with the same id."""
    session: Literal["native", "aiomqtt", "memory"] = attrs.field(
        default="native", validator=_one_of("native", "aiomqtt", "memory")
    )
    """Which implementation of `sessions/` to use; `memory` has its broker inside the process, for tests."""
    persistent: bool | None = None
    """Whether the broker keeps subscriptions and messages (QoS 1 and 2) while the gateway is not connected, for the
    next connection of the same client id. `None` is yes if there is an inbound channel of QoS 1 or 2."""
    session_expiry: int = attrs.field(default=3600, validator=_four_bytes)
    """How long the broker keeps them (MQTT 5; 4294967295 is for ever). With 3.1.1 the broker decides."""
    receive_maximum: int = attrs.field(default=1000, validator=[_more_than_zero, _two_bytes])
    """How many messages of QoS 1 and 2 the broker may send before the first of them is acknowledged (MQTT 5)."""
    presence: str | None = attrs.field(default="taktora/{client_id}/health", validator=_presence)
    """The topic where `Up` and `Down` are published and retained, `Down` also as the last will; `None` for nothing."""
    will: LastWill | None = None
    """A last will of your own, instead of the presence's."""
    keepalive: int = attrs.field(default=30, validator=[_more_than_zero, _two_bytes])
    connect_timeout: float = attrs.field(default=3.0, validator=_more_than_zero)
    max_inflight: int = attrs.field(default=64, validator=_more_than_zero)
    """How many messages of one channel may be on their way to the broker at once."""
    drain_timeout: float = attrs.field(default=1.5, validator=_more_than_zero)
    """How long a stop may go on publishing what is queued."""
    reconnect: Backoff = Backoff(initial=0.25, maximum=30.0, factor=2.0, jitter=0.2)
    inbound_backlog: int = attrs.field(default=64 * 2**20, validator=_more_than_zero)
    """Bytes of inbound messages that the gateway keeps while the app's channels are full. Beyond it, messages of QoS 0
    are discarded, counted, and shown as `Degraded`; for QoS 1 and 2 the gateway stops to read from the broker."""

    def tls_context(self) -> ssl.SSLContext | None:
        """Raises `ConfigError` if a file that it names can't be used."""
        if not self.broker.tls:
            return None
        try:
            context = ssl.create_default_context(cafile=str(self.ca_file) if self.ca_file else None)
        except (OSError, ssl.SSLError) as exc:
            raise ConfigError(f"the CA file {self.ca_file} can't be used: {exc}") from exc
        context.minimum_version = ssl.TLSVersion.TLSv1_3 if self.tls_minimum == "1.3" else ssl.TLSVersion.TLSv1_2
        if self.alpn:
            context.set_alpn_protocols(self.alpn)
        if self.cert_file:
            try:
                # A key with a password would have OpenSSL ask at the terminal, where nobody is.
                context.load_cert_chain(self.cert_file, self.key_file, password=lambda: "")
            except (OSError, ssl.SSLError, ValueError) as exc:
                key = f" with the key {self.key_file}" if self.key_file else ""
                raise ConfigError(f"the client certificate {self.cert_file}{key} can't be used: {exc}") from exc
        elif self.key_file:
            raise ConfigError(f"there is a key_file {self.key_file}, but no cert_file: give both")
        return context
