"""The rig: the other side of a connector, and what the conformance suite asks of it.

Derive `ConnectorRig`, or `TcpRig` where the protocol runs over TCP: that one has a `Network` between the connector and
its peer, which fails as the suite wants it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, ClassVar, Self, TypeAlias

import attrs

from taktora_trio import Connector, Inbound, Outbound
from taktora_trio.testing.network import Network

__all__ = ["LACKS", "ConnectorRig", "Echo", "TcpRig"]

Out: TypeAlias = Outbound[bytes]
In: TypeAlias = Inbound[bytes]


LACKS = {
    "acknowledges": "the peer acknowledges nothing",
    "redelivers": "the peer keeps nothing that is not acknowledged",
    "numbers_deliveries": "the peer does not say that it sends a message again",
    "notices_silence": "the protocol has no sign of life",
    "refuses": "the peer can't refuse a client",
    "has_network": "there is no network that could fail so",
    "has_echo": "it has no deployment that echoes",
}
"""The reason for skipping a test, for each feature that a rig may lack."""


@attrs.frozen
class Echo:
    """A deployment that sends back each message that it gets, for the tests that start processes."""

    target: str
    """The deployment as the command takes it: `examples.echo:deployment`."""
    arguments: Sequence[str]
    """Options by which it reaches the rig's peer: `["--server", "127.0.0.1:7007"]`."""
    request: str
    """The topic that its messages come on."""
    reply: str
    """The topic that it answers on."""


class ConnectorRig(ABC):
    """One peer, for one test. The class attributes tell what the protocol lacks: the suite skips the tests of that."""

    declared_in: ClassVar[str]
    """The module that an app imports to declare the connector."""
    protocol_stack: ClassVar[Sequence[str]]
    """Modules that only the gateway may import: importing `declared_in` must not bring them."""

    acknowledges: ClassVar[bool] = True
    """True if the peer acknowledges what is published: a message that was lost on its way can come again."""
    redelivers: ClassVar[bool] = True
    """True if the peer keeps a message until it is acknowledged, over lost connections too. On a new connection it
    sends what it has kept before it acknowledges anything that is published there."""
    numbers_deliveries: ClassVar[bool] = True
    """True if the peer says of a message that it has sent it before, and under which number."""
    notices_silence: ClassVar[bool] = True
    """True if the connection ends when the peer gives no sign of life."""
    refuses: ClassVar[bool] = True
    """True if the peer can refuse a client for good."""
    carries_metadata: ClassVar[bool] = False
    """True if the protocol carries metadata and correlation ids."""

    has_network: ClassVar[bool] = False
    """True if there is a `network`."""
    has_echo: ClassVar[bool] = False
    """True if there is a deployment to start, `echo`."""

    silence: float = 1.0
    """The seconds after which the rig's connectors notice a silent peer."""
    patience: float = 1.0
    """The seconds for which the rig's connectors wait, as they connect, for a peer that does not answer."""
    garbage: Sequence[bytes] = ()
    """More that a hostile peer may say, in this protocol's own way."""
    secret: str = ""
    """A secret that the rig's connectors are declared with; empty if they have none."""

    @classmethod
    @abstractmethod
    def open(cls, folder: Path) -> AbstractAsyncContextManager[Self]:
        """Open the peer for one test, which may write files into the folder."""

    @abstractmethod
    def outbound(self, name: str, **options: Any) -> Out:
        """Return a channel of `bytes` on a topic of that name, acknowledged if the protocol can do that."""

    @abstractmethod
    def inbound(self, name: str, **options: Any) -> In:
        """Return a channel of `bytes` on a topic of that name, reliable if the protocol can do that."""

    @abstractmethod
    def connector(self, *channels: Out | In) -> Connector:
        """Return a connector at this peer, with the raw codec. It connects again quickly: after 10 ms or so."""

    @abstractmethod
    async def publish(self, topic: str, payload: bytes) -> None:
        """Publish as somebody else would, behind what was published so before."""

    @abstractmethod
    async def receive(self) -> tuple[str, bytes]:
        """Wait for the next message that somebody else gets, and return its topic and payload.

        That somebody wants the topics of `outbound("out")`, `outbound("other")`, and where the echo replies.
        """

    @abstractmethod
    def cut(self, *, reset: bool = True) -> None:
        """End the connector's connections: by a reset, or as a peer does that closes. New ones work."""

    @abstractmethod
    def leave(self) -> None:
        """Be unreachable, from the next attempt to connect on."""

    @abstractmethod
    def come_back(self) -> None:
        """Be reachable again, and refuse nobody."""

    @abstractmethod
    async def next_attempt(self) -> None:
        """Wait for the next attempt to connect, however it fares."""

    def refuse(self) -> None:
        """Refuse the client for good, from the next attempt on."""
        raise NotImplementedError

    @property
    def network(self) -> Network | None:
        """The network to the peer, for what is tested by bytes; `None` if there is none."""
        return None

    @property
    def echo(self) -> Echo | None:
        """A deployment for the tests that start processes; `None` if there is none."""
        return None


class TcpRig(ConnectorRig):
    """A rig whose connectors reach the peer through a `Network`: 127.0.0.1, at `network.port`."""

    has_network: ClassVar[bool] = True

    def __init__(self, network: Network) -> None:
        self._network = network

    @property
    def network(self) -> Network:
        return self._network

    def cut(self, *, reset: bool = True) -> None:
        self._network.cut(reset=reset)

    def leave(self) -> None:
        self._network.is_down = True

    def come_back(self) -> None:
        self._network.is_down = False

    async def next_attempt(self) -> None:
        await self._network.next_attempt()
