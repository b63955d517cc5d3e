"""The gateway's half: a `Client` for all of a gateway's life, and a `Connection` for each time that it connects."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable
from itertools import count
from urllib.parse import quote_from_bytes, unquote_to_bytes

import trio

from examples.line_protocol.connector import LONGEST, LineConnector
from taktora_trio import (
    Client,
    ConnectFailed,
    ConnectionLost,
    ConnectRefused,
    Envelope,
    GatewayChannels,
    Incoming,
    LineSplitter,
    OnDone,
    OnMessage,
    StreamConnection,
    connect_tcp,
    escaped,
    read_line,
)


class LineMessage(Incoming, frozen=True, gc=False):
    number: bytes = b""
    """The server's number of the message, which goes back to it when the app is done with the message."""


class LineConnection(StreamConnection):
    def __init__(self, stream: trio.SocketStream, silence: float, topics: set[str], on_message: OnMessage) -> None:
        super().__init__(stream, silence)
        self._topics, self._on_message = topics, on_message
        self._numbers = count(1)
        self._unanswered: dict[bytes, tuple[int, OnDone]] = {}
        self._lines, self._ready = LineSplitter(LONGEST), trio.Event()

    async def start(self) -> None:
        self.send(words(b"SUB", *(topic.encode() for topic in self._topics)))
        await self.wait_for(self._ready)

    def publish(self, channel: str, envelope: Envelope, on_done: OnDone, *, again: bool = False) -> None:
        number = b"%d" % next(self._numbers)
        self._unanswered[number] = (envelope.header.sequence_number, on_done)
        self.send(words(b"PUB", number, envelope.topic.encode(), envelope.payload))

    def acknowledge(self, message: Incoming) -> None:
        assert isinstance(message, LineMessage)
        self.send(words(b"GOT", message.number), is_answer=True)

    def ping(self) -> None:
        self.send(words(b"PING"))

    async def farewell(self) -> None:
        self.send(words(b"BYE"))
        await self.wait_until_lost()  # the server has read all that was sent before, and closes the connection

    def receive(self, data: bytes) -> None:
        for line in self._lines.split(data):
            self._take(line)

    def _take(self, line: bytes) -> None:
        match [unquote_to_bytes(word) for word in line.split(b" ")]:
            case [b"MSG" | b"AGAIN" as kind, number, topic, payload] if number.isdigit():
                message = LineMessage(
                    topic.decode(errors="replace"),
                    payload,
                    reliable=True,
                    redelivered=kind == b"AGAIN",
                    delivery_id=1 + int(number) % 65_535,
                    number=number,
                )
                self._on_message(message)
            case [b"ACK", number] if number in self._unanswered:
                self._answered(number, "")
            case [b"NAK", number, reason] if number in self._unanswered:
                self._answered(number, escaped(reason) or "the server gave no reason")
            case [b"READY"]:
                self._ready.set()
            case [b"PONG"]:
                pass
            case _:
                raise ConnectionLost(f"the server sent what means nothing: '{escaped(line)}'")

    def _answered(self, number: bytes, refusal: str) -> None:
        sequence_number, on_done = self._unanswered.pop(number)
        on_done(sequence_number, refusal)


class LineClient(Client):
    def __init__(self, connector: LineConnector, channels: GatewayChannels, on_message: OnMessage) -> None:
        self._options, self._name, self._on_message = connector.options, channels.name, on_message
        self._inbound = [(ch.routing.address, ch.name) for ch in connector.channels if ch.direction == "in"]

    @property
    def address(self) -> str:
        return self._options.server

    def channels_of(self, topic: str) -> Iterable[str]:
        return [name for address, name in self._inbound if address == topic]

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[LineConnection]:
        host, _, port = self._options.server.rpartition(":")
        async with connect_tcp(host, int(port), self._log_in, within=self._options.connect_timeout) as stream:
            topics = {address for address, _ in self._inbound}
            connection = LineConnection(stream, self._options.silence, topics, self._on_message)
            async with connection.served():
                yield connection

    async def _log_in(self, stream: trio.SocketStream) -> None:
        await stream.send_all(words(b"HELLO", self._name.encode()))
        answer = await read_line(stream, LONGEST)
        match [unquote_to_bytes(word) for word in answer.split(b" ")]:
            case [b"WELCOME"]:
                return
            case [b"SORRY", reason]:
                raise ConnectRefused(f"the server refuses this client: {escaped(reason)}")
        raise ConnectFailed(f"the server answers what means nothing: '{escaped(answer)}'")


def words(*parts: bytes) -> bytes:
    """Return a line of words. Percent-encoded (RFC 3986) none has a space or a line feed in it, whatever it is."""
    return " ".join(quote_from_bytes(part, safe="/!\"#$&'()*+,:;<=>?@[]^`{|}") for part in parts).encode() + b"\n"
