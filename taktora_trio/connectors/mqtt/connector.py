"""The MQTT connector as an app declares it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

import attrs

from taktora_trio.channels import ChannelDescriptor, Inbound
from taktora_trio.checks import instance_of
from taktora_trio.connectors.base import Connector, GatewayChannels
from taktora_trio.connectors.connection import Client, Guarantee, OnMessage
from taktora_trio.connectors.mqtt import settings as mqtt_settings
from taktora_trio.connectors.mqtt.options import MqttOptions
from taktora_trio.connectors.mqtt.routing import MqttRouting, any_client
from taktora_trio.connectors.mqtt.topics import FilterTree, check_shares
from taktora_trio.connectors.options import MESSAGE_OVERHEAD
from taktora_trio.connectors.settings import Setting, SettingValues
from taktora_trio.errors import ConfigError

if TYPE_CHECKING:
    from taktora_trio.connectors.description import ChannelDescription, ServerDescription
    from taktora_trio.connectors.finding import Finding
    from taktora_trio.connectors.peer import MemoryPeer, OnPublished

__all__ = ["MqttConnector"]


@attrs.frozen
class MqttConnector(Connector):
    """An app's channels through one connection to one MQTT broker."""

    default_name: ClassVar[str] = "mqtt"
    routing_type: ClassVar[type] = MqttRouting
    settings: ClassVar[Sequence[Setting]] = mqtt_settings.SETTINGS
    live_peers: ClassVar[str] = "taktora_trio.testing.mqtt.peers:open_mqtt_peers"

    options: MqttOptions = attrs.field(factory=MqttOptions, kw_only=True, validator=instance_of(MqttOptions))

    def check(self) -> None:
        super().check()
        inbound = [channel.routing for channel in self.channels if channel.direction == "in"]
        check_shares(routing.subscription for routing in inbound if isinstance(routing, MqttRouting))
        stored = [one.name for one in self.channels if isinstance(one, Inbound) and one.acknowledge == "stored"]
        if stored and self.options.persistent is False:
            raise ConfigError(
                f"channel {stored[0]!r}: acknowledge='stored' and MqttOptions(persistent=False) contradict each other:"
                " the broker would forget what is not stored yet; leave persistent out, or acknowledge otherwise"
            )

    def guarantee(self, channel: ChannelDescriptor[Any]) -> Guarantee:
        return cast(MqttRouting, channel.routing).guarantee

    def describe_channel(self, channel: ChannelDescriptor[Any]) -> ChannelDescription:
        from taktora_trio.connectors.mqtt.describing import describe_channel  # no run needs it

        return describe_channel(channel, self.options)

    def describe_server(self, url: str) -> ServerDescription:
        from taktora_trio.connectors.mqtt.describing import describe_server

        return describe_server(url, self.options)

    @property
    def takes_views(self) -> bool:
        return self.options.session == "native"  # the others hand it to what wants bytes

    def check_carries_metadata(self) -> None:
        if self.options.protocol != "5":
            raise ConfigError(
                f"MQTT {self.options.protocol} carries neither metadata nor correlation ids: leave them out, or set"
                " MqttOptions(protocol='5') where the broker speaks it"
            )

    def options_as(self, name: str) -> MqttOptions:
        """Return the options with a client id, made of this name if none was given, and with `persistent` decided."""
        client_id = self.options.client_id
        if client_id is None and name:
            # Not made up anew each time: by its name the broker knows an incarnation's successor, and closes the
            # connection that a stale one may still have (MQTT 3.1.1, section 3.1.4-2).
            client_id = name
        return attrs.evolve(
            self.options,
            client_id=client_id,
            persistent=self.session_lasts and client_id is not None,  # else nobody could come back to it
            receive_maximum=self.receive_maximum,
        )

    @property
    def receive_maximum(self) -> int | None:
        """The number of unacknowledged messages to announce to the broker: see the option of that name."""
        inbound = [channel for channel in self.channels if channel.direction == "in"]
        reliable = [channel for channel in inbound if cast(MqttRouting, channel.routing).qos > 0]
        if self.options.receive_maximum is not None or not reliable:
            return self.options.receive_maximum
        room = sum(channel.window for channel in reliable) + 1  # so that it is noticed when they are full
        if not any(cast(MqttRouting, channel.routing).is_shared for channel in reliable):
            largest = max(c.max_payload + c.topic_space + c.max_metadata for c in reliable)
            largest += self.trace_space + MESSAGE_OVERHEAD
            room += self.options.inbound_backlog // largest
        return min(room, 65_535)

    @property
    def session_lasts(self) -> bool:
        """True if the broker is asked to keep the session: the options say so, or inbound QoS 1 or 2 wants it."""
        if self.options.persistent is not None:
            return self.options.persistent
        return any(cast(MqttRouting, c.routing).qos > 0 for c in self.channels if c.direction == "in")

    def client(self, channels: GatewayChannels, on_message: OnMessage) -> Client:
        from taktora_trio.connectors.mqtt.client import MqttClient  # the protocol stack begins here
        from taktora_trio.connectors.mqtt.own_topics import of_client

        options = self.options_as(channels.name)
        declared, own_topics = of_client(self.channels, options.client_id)
        return MqttClient(self.name, declared, options, channels.outbound, on_message, channels.memory, own_topics)

    # For the tests of an app

    def overlap(self, pattern: str, other: str) -> bool:
        return bool(FilterTree([(any_client(pattern), None)]).overlapping(any_client(other)))

    def in_memory(self, run: str, name: str, on_published: OnPublished) -> tuple[Self, MemoryPeer]:
        from taktora_trio.connectors.mqtt.peer import MqttMemoryPeer, options_in_memory  # the protocol stack is there

        connector = attrs.evolve(self, options=options_in_memory(self.options, run))
        return connector, MqttMemoryPeer(connector.options_as(name), on_published)

    # Called by a run

    def configured(self, values: SettingValues) -> Self:
        return attrs.evolve(self, options=mqtt_settings.configured(self.options, values, self.name))

    def unused(self, values: SettingValues) -> Mapping[str, str]:
        return mqtt_settings.unused(self.options, values)

    @classmethod
    def open_supply(cls, setting: str, word: str) -> AbstractAsyncContextManager[str]:
        from taktora_trio.connectors.mqtt.embedded import open_embedded_broker  # few runs have one

        return open_embedded_broker()

    def check_files(self) -> None:
        for broker in self.options.brokers:
            self.options.at(broker).tls_context()

    async def preflight(self) -> None:
        if self.options.session != "memory":
            from taktora_trio.connectors.mqtt.preflight import check_any_reachable  # the protocol stack begins here

            await check_any_reachable(self.options.brokers)

    async def diagnose(self, name: str, trial: str | None = None) -> Sequence[Finding]:
        from taktora_trio.connectors.mqtt.diagnosis import diagnose  # the protocol stack begins here

        return await diagnose(self.options_as(name), self.channels, trial)

    @property
    def preload(self) -> Iterable[str]:
        package = "taktora_trio.connectors.mqtt"
        return "taktora_trio.connectors.bridge", f"{package}.client", f"{package}.sessions.native"

    def warning_of_temporary_name(self, origin: str) -> str | None:
        if self.options.client_id is not None or self.options.session == "memory" or not self.session_lasts:
            return None
        return (
            f"its client id is made of {origin}, which may be another one at the next start: the broker then takes it"
            " for another client, and keeps from it the messages that wait for this one; give a client id that stays,"
            " by --client-id ID or MqttOptions(client_id=...)"
        )

    async def forget(self, name: str, *, even_if_up: bool) -> str | None:
        if self.options.session == "memory":
            return None
        from taktora_trio.connectors.mqtt.forget import forget_everywhere

        client = self.options_as(name)
        return await forget_everywhere(client, even_if_up=even_if_up)
