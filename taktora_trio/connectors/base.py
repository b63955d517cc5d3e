"""A connector: one protocol's pair of halves, declared once and used by both."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import attrs
import trio
from trio_util import AsyncBool

from taktora_trio.channels import ChannelDescriptor, check_name
from taktora_trio.channels.codec import PayloadCodec
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


class Connector(ABC):
    """What every connector has. A subclass is the plugin half: it imports no protocol stack."""

    name: str
    channels: tuple[ChannelDescriptor[Any], ...]
    codec: PayloadCodec

    @abstractmethod
    async def serve_gateway(self, channels: GatewayChannels, health: HealthBoard, stop: trio.Event) -> None:
        """The gateway half. Report health under the connector's name; return, drained, after `stop` is set.

        The protocol stack is imported here, so that a process which never calls this never has it.
        """

    def check_carries_metadata(self) -> None:  # noqa: B027 - a protocol may carry it
        """Raise `ConfigError` where metadata and correlation ids would not reach the other side."""

    def known_as(self, deployment: str) -> str:
        """What its gateway is called at the other end, by default, if the deployment is called so."""
        return f"{deployment}-{self.name}"

    def check(self) -> None:
        """Raise `ConfigError` for what no half could work with."""
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
            self.codec.decoder(channel.message_type)  # raises ConfigError for a type it can't carry
            self.codec.encoder(channel.message_type)
            if channel.direction == "in" and channel.routing.fields_of(channel.message_type):
                self.codec.filling_decoder(channel.message_type)
