"""The line protocol of the examples passes the conformance suite."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, ClassVar, Self
from urllib.parse import unquote_to_bytes

import trio

from examples.line_protocol.client import words
from examples.line_protocol.connector import LineConnector, LineOptions, LineRouting
from examples.line_protocol.server import Server
from taktora_trio import Backoff, Connector, Inbound, Outbound, RawCodec
from taktora_trio.testing.conformance import ConnectorConformance
from taktora_trio.testing.network import Network, open_network
from taktora_trio.testing.rig import Echo, TcpRig

QUICKLY = Backoff(initial=0.01, maximum=0.1)


class LineRig(TcpRig):
    declared_in = "examples.line_protocol.connector"
    protocol_stack = ("examples.line_protocol.client",)
    has_echo: ClassVar[bool] = True
    silence = 0.3
    patience = 0.3
    garbage = (b"WELCOME\nACK 1\n", b"WELCOME\nNAK 1 %0A%1b[2J\n", b"MSG 1\n", b"x" * 2_000_000)

    def __init__(self, network: Network, server: Server, outsider: trio.SocketStream, port: int) -> None:
        super().__init__(network)
        self._server, self._outsider, self._port = server, outsider, port
        self._lines: list[bytes] = []
        self._rest = b""
        self._saying = trio.Lock()

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, folder: Path) -> AsyncIterator[Self]:
        async with trio.open_nursery() as nursery:
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            server, port = Server(), listeners[0].socket.getsockname()[1]
            nursery.start_soon(trio.serve_listeners, server.serve, listeners)
            async with open_network(port) as network, await trio.open_tcp_stream("127.0.0.1", port) as outsider:
                rig = cls(network, server, outsider, port)
                await rig._say(b"HELLO", b"outsider")
                await rig._say(b"SUB", b"topic of out", b"topic of other", b"replies")
                await rig._until(b"READY")
                yield rig
            nursery.cancel_scope.cancel()

    def outbound(self, name: str, **options: Any) -> Outbound[bytes]:
        return Outbound(name, bytes, LineRouting(f"topic of {name}"), **options)

    def inbound(self, name: str, **options: Any) -> Inbound[bytes]:
        return Inbound(name, bytes, LineRouting(f"topic of {name}"), **options)

    def connector(self, *channels: Any) -> Connector:
        server = f"127.0.0.1:{self._network.port}"
        options = LineOptions(server=server, silence=self.silence, connect_timeout=self.patience, reconnect=QUICKLY)
        return LineConnector(channels, options=options, codec=RawCodec())

    async def publish(self, topic: str, payload: bytes) -> None:
        await self._say(b"PUB", b"0", topic.encode(), payload)

    async def receive(self) -> tuple[str, bytes]:
        _, number, topic, payload = await self._until(b"MSG")
        await self._say(b"GOT", number)
        return topic.decode(), payload

    def refuse(self) -> None:
        self._server.refusal = "nobody comes in\x1b[2J"

    def come_back(self) -> None:
        super().come_back()
        self._server.refusal = ""

    @property
    def echo(self) -> Echo:
        server = f"127.0.0.1:{self._port}"
        return Echo("examples.line_protocol:deployment", ["--server", server], "requests", "replies")

    async def _until(self, kind: bytes) -> list[bytes]:
        """Wait for the next line of this kind, and pass over the others."""
        while True:
            while self._lines:
                found = [unquote_to_bytes(word) for word in self._lines.pop(0).split(b" ")]
                if found[0] == kind:
                    return found
            chunk = await self._outsider.receive_some()
            assert chunk, "the server has closed the connection"
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            self._lines += lines

    async def _say(self, *parts: bytes) -> None:
        async with self._saying:
            await self._outsider.send_all(words(*parts))


class TestLineProtocol(ConnectorConformance):
    rig_type = LineRig
