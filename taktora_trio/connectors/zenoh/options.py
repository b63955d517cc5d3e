"""Options of a Zenoh connector: how the gateway joins the network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import attrs

from taktora_trio.checks import as_path, one_of, optional, seconds, whole_number
from taktora_trio.connectors.options import ConnectorOptions
from taktora_trio.connectors.zenoh.keys import check_key
from taktora_trio.errors import ConfigError

__all__ = ["ZenohOptions"]

_NAME = "{name}"
_NO_CHUNK = str.maketrans(dict.fromkeys("/*$?#", "_"))  # what a chunk of a key can't have


def _endpoints(value: str | Sequence[str]) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [one.strip() for one in value.split(",")]
    if not isinstance(value, tuple | list) or not all(isinstance(one, str) and one for one in value):
        raise ConfigError(f"ZenohOptions: {value!r} are no endpoints: write tcp/HOST:PORT, or a list of such")
    return tuple(value)


def _presence(instance: object, attribute: attrs.Attribute[str], value: object) -> None:
    if not isinstance(value, str):
        raise ConfigError(f"ZenohOptions: presence is {value!r}; it must be a key, or None")
    check_key(value.replace(_NAME, "name"), "the key of presence")


@attrs.frozen(kw_only=True)
class ZenohOptions(ConnectorOptions):
    """Options of the gateway's node. Times in seconds."""

    mode: Literal["client", "peer", "router"] = attrs.field(
        default="client", validator=one_of("client", "peer", "router")
    )
    """As a client it is linked to one router. As a peer it links to all others that it finds. A router forwards, too.
    """
    connect: tuple[str, ...] = attrs.field(default=("tcp/127.0.0.1:7447",), converter=_endpoints)
    """The endpoints to connect to."""
    listen: tuple[str, ...] = attrs.field(default=(), converter=_endpoints)
    """The endpoints to listen at, as a peer or a router."""
    config: Path | None = attrs.field(default=None, converter=as_path)
    """A file of Zenoh's own configuration (JSON5), which the other options change."""
    connect_timeout: float = attrs.field(default=3.0, validator=seconds)
    """The time for connecting, and for the other side's answers."""
    lease: float = attrs.field(default=10.0, validator=seconds)
    """The time without a sign of life after which the other side takes this node for lost. When this node does so is
    for the other side's lease."""
    timeout: float = attrs.field(default=10.0, validator=seconds)
    """The time for the answer to a query."""
    presence: str | None = attrs.field(default="taktora/{name}/presence", validator=optional(_presence))
    """The key of a liveliness token that others see while the connector is up; `{name}` is the gateway's name, which
    is made of the deployment's and the connector's. `None` for none."""
    latched_space: int = attrs.field(default=1_000_000, validator=whole_number(1_000))
    """The bytes that the last values of all latched outbound channels may take together, in shared memory. That takes
    two and a half times as much. Where there is no room for a value the oldest ones are forgotten."""
    session: Literal["native", "memory"] = attrs.field(default="native", validator=one_of("native", "memory"))
    """The implementation to use; `memory` has its network inside the process, for tests."""

    def presence_key(self, name: str) -> str | None:
        """Return the key of the token of the gateway with this name, if it is to have one."""
        if self.presence is None or (_NAME in self.presence and not name):
            return None
        return self.presence.replace(_NAME, name.translate(_NO_CHUNK))
