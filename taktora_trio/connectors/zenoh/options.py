"""Options of a Zenoh connector: how the gateway joins the network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import attrs

from taktora_trio.checks import as_path, field_name, flag, one_of, optional, seconds, whole_number
from taktora_trio.connectors.options import ConnectorOptions
from taktora_trio.connectors.zenoh.endpoints import Endpoint, parse_endpoint
from taktora_trio.connectors.zenoh.keys import check_key
from taktora_trio.errors import ConfigError

__all__ = ["LEASE", "ZenohOptions"]

LEASE = 10.0
"""Zenoh's own, in seconds."""

_HERE = "tcp/127.0.0.1:7447"
_NAME = "{name}"
_NO_CHUNK = str.maketrans(dict.fromkeys("/*$?#", "_"))  # what a chunk of a key can't have


def _endpoints(value: str | Sequence[str] | None) -> tuple[str, ...] | None:
    if value is None:
        return None
    if isinstance(value, str):
        value = [one.strip() for one in value.split(",")]
    if not isinstance(value, tuple | list):
        raise ConfigError(f"ZenohOptions: {value!r} are no endpoints: write tcp/HOST:PORT, or a list of such")
    return tuple(value)


def _each(instance: object, attribute: attrs.Attribute[Any], value: tuple[str, ...]) -> None:
    for position, one in enumerate(value):
        try:
            parse_endpoint(one)
        except ConfigError as exc:
            raise ConfigError(f"{field_name(instance, attribute)}: {exc}") from None
        if one in value[:position]:
            raise ConfigError(f"{field_name(instance, attribute)}: {one} is in the list twice: name each once")


def _user(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    name = field_name(instance, attribute)
    if not isinstance(value, str) or not value or not value.isprintable():
        raise ConfigError(f"{name} is {value!r}; it must be a text that can be shown")


def _bytes(value: bytes | str | None) -> bytes | None:
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value


def _password(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Allow what Zenoh can send: UTF-8. The error does not show it."""
    if not isinstance(value, bytes) or not value:
        raise ConfigError(f"{field_name(instance, attribute)} must be bytes or a text, and not empty")
    try:
        value.decode()
    except UnicodeDecodeError:
        raise ConfigError(f"{field_name(instance, attribute)} is no UTF-8, which Zenoh needs") from None


def _presence(instance: object, attribute: attrs.Attribute[str], value: object) -> None:
    if not isinstance(value, str):
        raise ConfigError(f"ZenohOptions: presence is {value!r}; it must be a key, or None")
    check_key(value.replace(_NAME, "name"), "the key of presence")


@attrs.frozen(kw_only=True)
class ZenohOptions(ConnectorOptions):
    """Options of the gateway's node. Times in seconds. Raises `ConfigError` for what contradicts.

    What is left `None` is as `zenoh_config` says, and else as Zenoh has it.
    """

    mode: Literal["client", "peer", "router"] = attrs.field(
        default="client", validator=one_of("client", "peer", "router")
    )
    """As a client it is linked to one router. As a peer it links to all others that it finds. A router forwards, too.
    """
    connect: tuple[str, ...] | None = attrs.field(default=None, converter=_endpoints, validator=optional(_each))
    """The endpoints to connect to: a client to one of them, peers and routers to all. `None` is `tcp/127.0.0.1:7447`
    for a client, and none for others. A client with an empty list looks for a router by multicast."""
    listen: tuple[str, ...] | None = attrs.field(default=None, converter=_endpoints, validator=optional(_each))
    """The endpoints to listen at, as a peer or a router. `None` is any free port for a peer, and 7447 for a router."""
    scouting: bool | None = attrs.field(default=None, validator=optional(flag))
    """Whether nodes are looked for by multicast. `None` is yes, but for a client that has endpoints to connect to."""
    zenoh_config: Path | None = attrs.field(default=None, converter=as_path)
    """A file of Zenoh's own configuration (JSON5), for what is no option here. Options that are given win over it."""
    ca_file: Path | None = attrs.field(default=None, converter=as_path)
    """For `tls` and `quic`: the certificate authorities to trust (PEM), instead of the public ones. A node that
    listens, and has a certificate, takes only those who have one of these authorities."""
    cert_file: Path | None = attrs.field(default=None, converter=as_path)
    """This node's certificate, with those that lead from it to an authority (PEM): for who asks for one, and to listen
    by `tls` and `quic`."""
    key_file: Path | None = attrs.field(default=None, converter=as_path)
    """The key of that certificate (PEM, without a password); `None` if it is in `cert_file` too."""
    user: str | None = attrs.field(default=None, validator=optional(_user))
    """The name to log in with. The password comes by `zenoh-password-file`, or `TAKTORA_ZENOH_PASSWORD`."""
    password: bytes | None = attrs.field(default=None, repr=False, converter=_bytes, validator=optional(_password))
    """A `str` is converted to UTF-8."""
    connect_timeout: float = attrs.field(default=3.0, validator=seconds)
    """The time for connecting to one endpoint, and for the other side's answers."""
    lease: float | None = attrs.field(default=None, validator=optional(seconds))
    """The time without a sign of life after which others take this node for lost; `None` is 10 s. When this node does
    so is for the other side's lease."""
    presence: str | None = attrs.field(default="taktora/{name}/presence", validator=optional(_presence))
    """The key of a liveliness token that others see while the connector is up; `{name}` is the gateway's name, which
    is made of the deployment's and the connector's. `None` for none."""
    latched_space: int = attrs.field(default=1_000_000, validator=whole_number(1_000))
    """The bytes that the last values of all latched outbound channels may take together, in shared memory. That takes
    two and a half times as much. Where there is no room for a value the oldest ones are forgotten."""
    latched_timeout: float = attrs.field(default=10.0, validator=seconds)
    """The time for the values that others keep of latched inbound channels: who does not answer in it tells none."""
    session: Literal["native", "memory"] = attrs.field(default="native", validator=one_of("native", "memory"))
    """The implementation to use; `memory` has its network inside the process, for tests."""

    def __attrs_post_init__(self) -> None:
        if self.mode == "client" and self.listen:
            raise ConfigError("ZenohOptions: a client listens nowhere: leave listen out, or set mode='peer'")
        if self.key_file and not self.cert_file:
            raise ConfigError(f"ZenohOptions: there is a key_file {self.key_file}, but no cert_file: give both")
        if self.password is not None and self.user is None:
            raise ConfigError("ZenohOptions: there is a password, but no user: name the user")
        if not (self.endpoints or self.listen or self.looks_around or self.zenoh_config):
            raise ConfigError(
                "ZenohOptions: nobody would be found, with nothing to connect to or to listen at and scouting=False:"
                " give endpoints, or leave scouting out"
            )

    @property
    def places(self) -> tuple[str, ...]:
        """The endpoints to connect to, as far as the options say."""
        if self.connect is not None:
            return self.connect
        return (_HERE,) if self.mode == "client" and self.zenoh_config is None else ()

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The same, with what they say."""
        return tuple(map(parse_endpoint, self.places))

    @property
    def listeners(self) -> tuple[Endpoint, ...]:
        """The endpoints to listen at, as far as the options say."""
        return tuple(map(parse_endpoint, self.listen or ()))

    @property
    def looks_around(self) -> bool:
        """True if nodes are looked for by multicast."""
        return self.scouting if self.scouting is not None else self.mode != "client" or self.connect == ()

    @property
    def address(self) -> str:
        """Where others are, as it may be shown."""
        if endpoints := self.endpoints:
            return ", ".join(map(str, endpoints))
        if self.zenoh_config is not None:
            return f"what {self.zenoh_config} names"
        return "whoever is found by multicast" if self.looks_around else "whoever connects"

    def presence_key(self, name: str) -> str | None:
        """Return the key of the token of the gateway with this name, if it is to have one."""
        if self.presence is None or (_NAME in self.presence and not name):
            return None
        return self.presence.replace(_NAME, name.translate(_NO_CHUNK))
