"""A connector: one protocol's pair of halves, declared once and used by both."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import attrs

from taktora_trio.channels import ChannelDescriptor, Routing, check_name
from taktora_trio.channels.codec import JsonCodec, PayloadCodec
from taktora_trio.checks import flag, instance_of
from taktora_trio.connectors.connection import Client, Guarantee, OnMessage
from taktora_trio.connectors.options import ConnectorOptions
from taktora_trio.connectors.settings import Configurable
from taktora_trio.errors import ConfigError
from taktora_trio.tracing.fields import TRACE_SPACE, check_tracing

if TYPE_CHECKING:
    from taktora_trio.connectors.dead_letters.letters import DeadLetters
    from taktora_trio.connectors.description import ChannelDescription, ServerDescription
    from taktora_trio.connectors.peer import MemoryPeer, OnPublished
    from taktora_trio.connectors.pump import Pump
    from taktora_trio.connectors.source import Source
    from taktora_trio.executor import Executor
    from taktora_trio.health import HealthBoard
    from taktora_trio.transport.sink import PayloadSink

__all__ = ["Connector", "GatewayChannels"]


def _of_this_gateway_alone(name: str, size: int) -> memoryview:
    return memoryview(bytearray(size))


def _pump() -> Pump:
    from taktora_trio.connectors.pump import Pump  # here, for an app imports this too, and is to be small

    return Pump()


@attrs.frozen
class GatewayChannels:
    """The gateway's ends of a connector's channels, by name, and the rest that a client may use."""

    outbound: Mapping[str, Source]
    """The outboxes take messages from these. A client may use `begun_before` and `begin` alone, to complete exchanges
    that an earlier gateway has left half done."""
    inbound: Mapping[str, PayloadSink]
    """The inbox sends messages by these; a client calls `on_message`."""
    executor: Executor
    """Runs the gateway's pumps as items, so that the deployment's observers see them. A client may add items of its
    own; when one fails, the gateway does."""
    health: HealthBoard
    """Shows the connector's health, under its name. A client may `degrade` it."""
    name: str = ""
    """The gateway's name at the other end: the same for each of its incarnations, and for nobody else."""
    memory: Callable[[str, int], memoryview] = _of_this_gateway_alone
    """`memory(name, size)` returns so many bytes, zero at first, that outlive this gateway if it is killed, though not
    the run: the next one finds under the same name what this one has written. It costs a client what a store to memory
    does. Raises `TransportError` where there is no room. Check what is there: it may be half of something."""
    dead_letters: DeadLetters | None = None
    """The inbox puts messages there that the app could not be done with; `None` discards them."""
    pump: Pump = attrs.field(factory=_pump)
    """Moves the messages. It is the gateway's own."""


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
    """The class of each channel's routing."""

    channels: tuple[ChannelDescriptor[Any], ...] = attrs.field(converter=_channels)
    options: ConnectorOptions = attrs.field(
        factory=ConnectorOptions, kw_only=True, validator=instance_of(ConnectorOptions)
    )
    codec: PayloadCodec = attrs.field(factory=JsonCodec, kw_only=True, validator=instance_of(PayloadCodec))
    tracing: bool = attrs.field(default=False, kw_only=True, validator=flag)
    """If true, each message carries the trace that it belongs to (W3C Trace Context), and the gateway publishes it in a
    span: see docs/how-to/trace.md. Where the other side takes no metadata, this is logged once, and messages go
    without."""
    name: str = attrs.field(
        default=attrs.Factory(lambda self: self.default_name, takes_self=True),  # a derived class has its own
        kw_only=True,
    )

    def __attrs_post_init__(self) -> None:
        self.check()

    @abstractmethod
    def client(self, channels: GatewayChannels, on_message: OnMessage) -> Client:
        """Return the protocol's side of a gateway, which calls `on_message` with each message from the other side.

        It is called once in each incarnation of a gateway, in its trio loop, before anything is connected. An error
        that it raises ends the gateway, which is started again by its supervisor. Import the protocol stack here: a
        process that never calls this then never has it.
        """

    def check_carries_metadata(self) -> None:
        """Raise `ConfigError` where metadata and correlation ids would not reach the other side."""

    @property
    def trace_space(self) -> int:
        """The bytes of metadata in each message that are set aside for its trace; 0 if no message carries one."""
        if not self.tracing:
            return 0
        try:
            self.check_carries_metadata()
        except ConfigError:
            return 0
        return TRACE_SPACE

    def guarantee(self, channel: ChannelDescriptor[Any]) -> Guarantee:
        """Return how often a message of this outbound channel arrives, as `Client.guarantee` does in the gateway."""
        return "at least once"

    def describe_channel(self, channel: ChannelDescriptor[Any]) -> ChannelDescription:
        """Return what others need to know of a channel to exchange messages with it."""
        from taktora_trio.connectors.description import ChannelDescription  # no run needs it

        return ChannelDescription(topic=channel.routing.address, address=channel.routing.address)

    def describe_server(self, url: str) -> ServerDescription:
        """Return the description of the other side at this URL, without what is secret. Raises `ConfigError`."""
        raise ConfigError(f"connector {self.name!r} can't describe a server: its protocol has no URLs")

    @property
    def takes_views(self) -> bool:
        """True if its connections take the payload of a large message as a read-only `memoryview` of shared memory,
        instead of bytes: see `Connection.publish`."""
        return False

    def known_as(self, deployment: str) -> str:
        """Return the name by which the other side knows the gateway of a deployment that is called so, by default."""
        return f"{deployment}-{self.name}"

    # For the tests of an app

    live_peers: ClassVar[str] = ""
    """Names what opens a real other side for tests, as "module:function" (`taktora_trio.testing.live.PeerOpener`)."""

    def overlap(self, pattern: str, other: str) -> bool:
        """Return whether a topic fits both of these, each a topic or a pattern of topics as the protocol writes it."""
        return pattern == other

    def in_memory(self, run: str, name: str, on_published: OnPublished) -> tuple[Self, MemoryPeer]:
        """Return the same connector with its other side in this process, and that other side.

        It is the other side of this run of tests alone. `name` is the gateway's there (`GatewayChannels.name`), and
        `on_published` is called with each message that this connector publishes.

        Raises `ConfigError` where the protocol has no such other side.
        """
        raise ConfigError(
            f"connector {self.name!r} ({type(self).__name__}) can't be tested in memory: test it in another shape, with"
            " a real peer, or define `in_memory` in its class"
        )

    def check(self) -> None:
        """Raise `ConfigError` for a declaration that can't work. A protocol may check more."""
        check_name("connector", self.name)
        if not self.channels:
            raise ConfigError(f"connector {self.name!r} has no channels: give it at least one Outbound or Inbound")
        if self.tracing:
            check_tracing()
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
                    what = f"channel {channel.name!r} sets max_metadata"
                    if channel.exchange:
                        what = f"exchange {channel.exchange!r} needs correlation ids"
                    raise ConfigError(f"{what}: {exc}") from None
            if not isinstance(channel.routing, self.routing_type):
                raise ConfigError(
                    f"channel {channel.name!r}: its routing must be of type {self.routing_type.__name__}, not"
                    f" {channel.routing!r}"
                )
            self.codec.decoder(channel.message_type)  # raises ConfigError for a type it can't carry
            self.codec.encoder(channel.message_type)
            if channel.direction == "in" and channel.routing.fields_of(channel.message_type):
                self.codec.filling_decoder(channel.message_type)
