"""The declaration: routing, options, connector. Both halves import this, so it imports no protocol stack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, Self

import attrs

from taktora_trio import (
    Client,
    ConfigError,
    Connector,
    ConnectorOptions,
    GatewayChannels,
    OnMessage,
    Routing,
    Setting,
    SettingValues,
)

__all__ = ["LineConnector", "LineOptions", "LineRouting"]

LONGEST = 2**20  # bytes of a line


@attrs.frozen
class LineRouting(Routing):
    """A topic: any text that is not empty."""

    topic: str

    @property
    def address(self) -> str:
        return self.topic

    @property
    def is_pattern(self) -> bool:
        return False

    def check(self, direction: Literal["out", "in"]) -> None:
        if not isinstance(self.topic, str) or not self.topic:
            raise ConfigError(f"LineRouting: the topic is {self.topic!r}; it must be a text that is not empty")


@attrs.frozen(kw_only=True)
class LineOptions(ConnectorOptions):
    """The server's address, and the gateway's patience with it in seconds."""

    server: str = "127.0.0.1:7007"
    connect_timeout: float = 3.0
    silence: float = 10.0
    """After which a server that says nothing counts as lost."""

    def __attrs_post_init__(self) -> None:
        host, _, port = self.server.rpartition(":")
        if not host or not port.isdecimal():
            raise ConfigError(f"the server is {self.server!r}; write HOST:PORT")


@attrs.frozen
class LineConnector(Connector):
    """An app's channels through one TCP connection to a server of lines."""

    default_name: ClassVar[str] = "line"
    routing_type: ClassVar[type] = LineRouting
    options: LineOptions = attrs.field(factory=LineOptions, kw_only=True)

    settings: ClassVar[Sequence[Setting]] = (Setting("server", "Where the server of lines is: HOST:PORT."),)

    def configured(self, values: SettingValues) -> Self:
        given = values.get("server")
        return attrs.evolve(self, options=attrs.evolve(self.options, server=given.text)) if given else self

    def check(self) -> None:
        super().check()
        for channel in self.channels:
            if 3 * channel.max_payload > LONGEST // 2:
                raise ConfigError(f"channel {channel.name!r}: a payload of max_payload bytes may not fit into a line")

    def check_carries_metadata(self) -> None:
        raise ConfigError("the line protocol carries neither metadata nor correlation ids: leave them out")

    def client(self, channels: GatewayChannels, on_message: OnMessage) -> Client:
        from examples.line_protocol.client import LineClient  # here: only the gateway's process calls this

        return LineClient(self, channels, on_message)
