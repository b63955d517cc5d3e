"""The broker's address, and how to talk to it."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, unquote, urlsplit

import attrs

from taktora_trio.errors import ConfigError
from taktora_trio.supervision.backoff import Backoff

__all__ = ["BrokerAddress", "MqttOptions"]

_PORTS = {"mqtt": 1883, "mqtts": 8883}


@attrs.frozen
class BrokerAddress:
    """A broker: `mqtt://[user[:password]@]host[:port]`, or `mqtts://` for TLS. Its text never shows the password."""

    host: str
    port: int
    tls: bool = False
    username: str | None = None
    password: str | None = attrs.field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str) -> BrokerAddress:
        """Raises `ConfigError` that says what is wrong, without repeating the URL: there may be a password in it."""
        example = "it looks like mqtt://user:password@host:1883, or mqtts:// for TLS"
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            # Without its message: after an unquoted '/', '?' or '#' that may hold a part of the password.
            raise ConfigError(
                "the broker URL has a bad host or port, or a sign in the user or password that must be quoted, such as"
                f" %23 for '#'; {example}"
            ) from None
        if parts.scheme not in _PORTS or "://" not in url:
            scheme = parts.scheme if "://" in url and parts.scheme else "none"
            raise ConfigError(f"the broker URL must begin with mqtt:// or mqtts:// (its scheme is {scheme}); {example}")
        if not parts.hostname:
            raise ConfigError(f"the broker URL names no host; {example}")
        if parts.password and not parts.username:
            raise ConfigError(f"the broker URL has a password but no user; {example}")
        if port == 0:
            raise ConfigError(f"the broker URL has port 0; {example}")
        if parts.path not in ("", "/") or parts.query or parts.fragment:
            raise ConfigError(f"the broker URL goes on after the port; {example}")
        return cls(
            host=parts.hostname,
            port=port or _PORTS[parts.scheme],
            tls=parts.scheme == "mqtts",
            username=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
        )

    def __str__(self) -> str:
        user = f"{quote(self.username, safe='')}@" if self.username else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{user}{host}:{self.port}"


def _parse_if_text(value: BrokerAddress | str) -> BrokerAddress:
    return BrokerAddress.parse(value) if isinstance(value, str) else value


def _more_than_zero(instance: object, attribute: attrs.Attribute[Any], value: float) -> None:
    if not value > 0:
        raise ConfigError(f"MqttOptions: {attribute.name} is {value!r}; it must be more than 0")


def _two_bytes(instance: object, attribute: attrs.Attribute[Any], value: int) -> None:
    if value > 65_535:
        raise ConfigError(f"MqttOptions: {attribute.name} is {value!r}; MQTT ends at 65535")


def _known_session(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value not in ("aiomqtt", "memory"):
        raise ConfigError(f"MqttOptions: session is {value!r}; use 'aiomqtt' or 'memory'")


@attrs.frozen(kw_only=True)
class MqttOptions:
    """How the gateway talks to its broker. Times in seconds."""

    broker: BrokerAddress = attrs.field(
        default=BrokerAddress("localhost", 1883),
        converter=_parse_if_text,
    )
    ca_file: Path | None = attrs.field(default=None, converter=attrs.converters.optional(Path))
    """For `mqtts://`: the certificate authorities to trust (PEM), instead of the system's."""
    client_id: str | None = None
    """`None` lets the session make one. The broker closes an older connection with the same id."""
    session: Literal["aiomqtt", "memory"] = attrs.field(default="aiomqtt", validator=_known_session)
    """Which implementation of `sessions/` to use; `memory` has its broker inside the process, for tests."""
    keepalive: int = attrs.field(default=30, validator=[_more_than_zero, _two_bytes])
    connect_timeout: float = attrs.field(default=3.0, validator=_more_than_zero)
    max_inflight: int = attrs.field(default=64, validator=_more_than_zero)
    """How many messages of one channel may be on their way to the broker at once."""
    drain_timeout: float = attrs.field(default=1.5, validator=_more_than_zero)
    """How long a stop may go on publishing what is queued."""
    reconnect: Backoff = Backoff(initial=0.25, maximum=30.0, factor=2.0, jitter=0.2)
    inbound_backlog: int = attrs.field(default=64 * 2**20, validator=_more_than_zero)
    """Bytes of inbound messages that the gateway keeps while the app's channels are full; what comes beyond it is
    discarded, counted, and shown as `Degraded`."""

    def tls_context(self) -> ssl.SSLContext | None:
        """Raises `ConfigError` if the CA file can't be used."""
        if not self.broker.tls:
            return None
        try:
            return ssl.create_default_context(cafile=str(self.ca_file) if self.ca_file else None)
        except (OSError, ssl.SSLError) as exc:
            raise ConfigError(f"the CA file {self.ca_file} can't be used: {exc}") from exc
