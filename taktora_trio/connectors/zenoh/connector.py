"""The Zenoh connector as an app declares it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

import attrs

from taktora_trio.channels import ChannelDescriptor
from taktora_trio.channels.codec import RawCodec
from taktora_trio.checks import instance_of
from taktora_trio.connectors.base import Connector, GatewayChannels
from taktora_trio.connectors.connection import Client, Guarantee, OnMessage
from taktora_trio.connectors.settings import Setting, SettingValues
from taktora_trio.connectors.zenoh import settings as zenoh_settings
from taktora_trio.connectors.zenoh.keys import intersects
from taktora_trio.connectors.zenoh.options import ZenohOptions
from taktora_trio.connectors.zenoh.routing import ZenohRouting, any_client, guarantee_of
from taktora_trio.errors import ConfigError

if TYPE_CHECKING:
    from taktora_trio.connectors.description import ChannelDescription, ServerDescription
    from taktora_trio.connectors.finding import Finding
    from taktora_trio.connectors.peer import MemoryPeer, OnPublished

__all__ = ["ZenohConnector"]


@attrs.frozen
class ZenohConnector(Connector):
    """An app's channels through one node of a Zenoh network."""

    default_name: ClassVar[str] = "zenoh"
    routing_type: ClassVar[type] = ZenohRouting
    settings: ClassVar[Sequence[Setting]] = zenoh_settings.SETTINGS

    options: ZenohOptions = attrs.field(factory=ZenohOptions, kw_only=True, validator=instance_of(ZenohOptions))

    def check(self) -> None:
        super().check()
        inbound = [(channel, cast(ZenohRouting, channel.routing)) for channel in self.channels]
        for (one, its), (other, others) in combinations(inbound, 2):
            differ = its.others_only != others.others_only
            if one.direction == other.direction == "in" and differ and intersects(its.address, others.address):
                raise ConfigError(
                    f"channels {one.name!r} and {other.name!r}: their keys overlap, and only one has others_only:"
                    " give it to both, or use two connectors"
                )

        for channel, routing in inbound:
            if routing.liveliness:
                self._check_watcher(channel)

    def _check_watcher(self, watcher: ChannelDescriptor[Any]) -> None:
        """Raise `ConfigError` for a channel whose messages are tokens, if it can't have these alone."""
        if watcher.message_type is not bool and not isinstance(self.codec, RawCodec):
            raise ConfigError(
                f"channel {watcher.name!r}: the message of a token is true or false, and not {watcher.message_type!r}:"
                " declare it as bool"
            )
        for channel in self.channels:
            routing = cast(ZenohRouting, channel.routing)
            is_other = channel.direction == "in" and not routing.liveliness
            if is_other and intersects(routing.address, watcher.routing.address):
                raise ConfigError(
                    f"channels {watcher.name!r} and {channel.name!r}: their keys overlap, and one is for tokens, the"
                    " other for what is published: give them different keys, or use two connectors"
                )

    def guarantee(self, channel: ChannelDescriptor[Any]) -> Guarantee:
        return guarantee_of(channel)

    def describe_channel(self, channel: ChannelDescriptor[Any]) -> ChannelDescription:
        from taktora_trio.connectors.zenoh.describing import describe_channel  # no run needs it

        return describe_channel(channel)

    def describe_server(self, url: str) -> ServerDescription:
        from taktora_trio.connectors.zenoh.describing import describe_server

        return describe_server(url)

    def client(self, channels: GatewayChannels, on_message: OnMessage) -> Client:
        from taktora_trio.connectors.zenoh.client import ZenohClient  # the library begins there
        from taktora_trio.connectors.zenoh.metadata import Carrier

        degrade = partial(channels.health.degrade, self.name)
        return ZenohClient(
            self.channels, self.options, channels.name, on_message, Carrier(self.codec), channels.memory, degrade
        )

    # For the tests of an app

    live_peers: ClassVar[str] = "taktora_trio.testing.zenoh.peers:open_zenoh_peers"

    def overlap(self, pattern: str, other: str) -> bool:
        return intersects(any_client(pattern), any_client(other))

    def in_memory(self, run: str, name: str, on_published: OnPublished) -> tuple[Self, MemoryPeer]:
        from taktora_trio.connectors.zenoh.peer import ZenohMemoryPeer  # no run needs it

        peer = ZenohMemoryPeer(self.channels, self.options, run, name, on_published)
        return attrs.evolve(self, options=peer.options), peer

    # Called by a run

    @property
    def native_library(self) -> str | None:
        return "zenoh" if self.options.session == "native" else None

    @property
    def preload(self) -> Iterable[str]:
        package = "taktora_trio.connectors.zenoh"
        return "taktora_trio.connectors.bridge", f"{package}.client", f"{package}.native.node"

    def configured(self, values: SettingValues) -> Self:
        return attrs.evolve(self, options=zenoh_settings.configured(self.options, values))

    def unused(self, values: SettingValues) -> Mapping[str, str]:
        return zenoh_settings.unused(self.options, values)

    @classmethod
    def open_supply(cls, setting: str, word: str) -> AbstractAsyncContextManager[str]:
        from taktora_trio.connectors.zenoh.embedded import open_embedded_router  # few runs have one

        return open_embedded_router()

    def check_files(self) -> None:
        if self.options.session != "memory":
            from taktora_trio.connectors.zenoh.checking import check_files  # once in a run

            check_files(self.options)

    async def diagnose(self, name: str, trial: str | None = None) -> Sequence[Finding]:
        from taktora_trio.connectors.zenoh.diagnosis import diagnose  # no run needs it

        return await diagnose(self.options, trial)

    async def preflight(self) -> None:
        if self.options.session != "memory":
            from taktora_trio.connectors.zenoh.preflight import check_any_reachable

            await check_any_reachable(self.options)
