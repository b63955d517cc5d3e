"""A connector: one protocol's pair of halves, declared once and used by both."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import attrs
import trio
from trio_util import AsyncBool

from taktora_trio.channels import ChannelDescriptor, Routing, check_name
from taktora_trio.channels.codec import JsonCodec, PayloadCodec
from taktora_trio.checks import instance_of
from taktora_trio.connectors.options import ConnectorOptions
from taktora_trio.connectors.settings import Configurable
from taktora_trio.errors import ConfigError
from taktora_trio.health import HealthBoard

if TYPE_CHECKING:
    from taktora_trio.executor import Executor
    from taktora_trio.transport.sink import PayloadSink
    from taktora_trio.transport.source import PayloadSource

__all__ = ["Connector", "GatewayChannels"]


@attrs.frozen
class GatewayChannels:
    """What a connector's gateway half works on: each channel's descriptor name to its open end."""

    outbound: Mapping[str, PayloadSource]
    inbound: Mapping[str, PayloadSink]
    name: str = ""
    """What to be called at the other end: the same for each incarnation of this gateway, and for nobody else."""
    executor: Executor | None = None
    """What the connector's pumps are to be items of, so that the deployment's observers see them. The connector adds
    them and runs it; `None` leaves it to make one."""
    revive: AsyncBool = attrs.field(factory=AsyncBool)
    """True once somebody has asked for an attempt to connect at once, instead of after the delay. The connector makes
    it false when it begins one: what is asked for just before a delay begins ends that delay."""
    duties: list[Callable[[], str | None]] = attrs.field(factory=list)
    """Each names work that it could do and has not done since it was asked last, or returns `None`. Asked regularly;
    as long as one answers, the gateway gives no sign of life."""


def _channels(value: Iterable[ChannelDescriptor[Any]]) -> tuple[ChannelDescriptor[Any], ...]:
    if isinstance(value, ChannelDescriptor) or not isinstance(value, Iterable):
        raise ConfigError("a connector's channels are a list: write [channel]")
    return tuple(value)


@attrs.frozen
class Connector(Configurable, ABC):
    """Declares channels that go through one connection. A protocol derives its own, by attrs, and defines `client`.

    Both halves have it, so its module imports no protocol stack.
    """

    default_name: ClassVar[str] = "connector"
    """The connector's name where the app gives none."""
    routing_type: ClassVar[type] = Routing
    """What each channel's routing must be."""

    channels: tuple[ChannelDescriptor[Any], ...] = attrs.field(converter=_channels)
    options: ConnectorOptions = attrs.field(
        factory=ConnectorOptions, kw_only=True, validator=instance_of(ConnectorOptions)
    )
    codec: PayloadCodec = attrs.field(factory=JsonCodec, kw_only=True, validator=instance_of(PayloadCodec))
    name: str = attrs.field(
        default=attrs.Factory(lambda self: self.default_name, takes_self=True),  # a derived class has its own
        kw_only=True,
    )

    def __attrs_post_init__(self) -> None:
        self.check()

    @abstractmethod
    async def serve_gateway(self, channels: GatewayChannels, health: HealthBoard, stop: trio.Event) -> None:
        """The gateway half. Report health under the connector's name; return, drained, after `stop` is set.

        The protocol stack is imported here, so that a process which never calls this never has it.
        """

    def check_carries_metadata(self) -> None:
        """Raise `ConfigError` where metadata and correlation ids would not reach the other side."""

    def known_as(self, deployment: str) -> str:
        """Return what its gateway is called at the other end, by default, if the deployment is called so."""
        return f"{deployment}-{self.name}"

    def check(self) -> None:
        """Raise `ConfigError` for what no half could work with. A protocol may check more."""
        check_name("connector", self.name)
        if not self.channels:
            raise ConfigError(f"connector {self.name!r} has no channels: give it at least one Outbound or Inbound")
        seen: set[str] = set()
        for channel in self.channels:
            if not isinstance(channel, ChannelDescriptor):
                raise ConfigError(
                    f"connector {self.name!r}: {channel!r} is no channel: use Outbound(...) or Inbound(...)"
                )
            if channel.name in seen:
                raise ConfigError(f"connector {self.name!r} has two channels named {channel.name!r}: rename one")
            seen.add(channel.name)
            if channel.max_metadata:
                try:
                    self.check_carries_metadata()
                except ConfigError as exc:
                    raise ConfigError(f"channel {channel.name!r} sets max_metadata: {exc}") from None
            if not isinstance(channel.routing, self.routing_type):
                raise ConfigError(
                    f"channel {channel.name!r}: its routing must be of type {self.routing_type.__name__}, not"
                    f" {channel.routing!r}"
                )
            self.codec.decoder(channel.message_type)  # raises ConfigError for a type it can't carry
            self.codec.encoder(channel.message_type)
            if channel.direction == "in" and channel.routing.fields_of(channel.message_type):
                self.codec.filling_decoder(channel.message_type)
