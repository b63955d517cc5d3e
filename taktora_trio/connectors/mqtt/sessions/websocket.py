"""A websocket as a stream of bytes: subprotocol `mqtt`, binary messages, cut anywhere (MQTT 5, section 6)."""

from __future__ import annotations

import contextlib
from collections import deque

import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    Request,
    TextMessage,
)
from wsproto.utilities import LocalProtocolError, ProtocolError

from taktora_trio.connectors.mqtt.options import BrokerAddress
from taktora_trio.connectors.mqtt.sessions.session import ConnectFailed

__all__ = ["open_websocket"]

_CHUNK = 65_536


class WebsocketStream(trio.abc.Stream):
    """Each `send_all` is one binary message."""

    def __init__(self, stream: trio.abc.Stream, connection: WSConnection) -> None:
        self._stream = stream
        self._connection = connection
        self._sending = trio.Lock()  # an answer to a ping must not come between the parts of a message
        self._ready = deque[bytes]()
        self._ended = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        async with self._sending:
            await self._stream.send_all(self._framed(BytesMessage(bytes(data))))

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return what has come of the next message, whatever `max_bytes` says; empty once the broker has closed."""
        await trio.lowlevel.checkpoint_if_cancelled()
        while not self._ready and not self._ended:
            await self._receive()
        return self._ready.popleft() if self._ready else b""

    async def aclose(self) -> None:
        try:
            with contextlib.suppress(trio.BrokenResourceError, trio.BusyResourceError):
                await self._stream.send_all(self._framed(CloseConnection(code=1000)))
        finally:
            await self._stream.aclose()

    def _framed(self, event: Event) -> bytes:
        """Return the bytes of an event. Raises `trio.BrokenResourceError` if the broker has closed the websocket."""
        try:
            return self._connection.send(event)
        except LocalProtocolError:  # without its message, which repeats the data
            raise trio.BrokenResourceError("the broker has closed the websocket") from None

    async def _receive(self) -> None:
        data = await self._stream.receive_some(_CHUNK)
        try:
            self._connection.receive_data(bytes(data) or None)
        except ProtocolError as exc:
            raise _broken(exc) from None
        await self.take()
        if not data:
            self._ended = True

    async def take(self) -> None:
        """Take the events that have come, and answer pings."""
        answers = b""
        try:
            for event in self._connection.events():
                if isinstance(event, BytesMessage):
                    if event.data:
                        self._ready.append(bytes(event.data))
                elif isinstance(event, Ping):
                    answers += self._framed(event.response())
                elif isinstance(event, TextMessage):
                    raise trio.BrokenResourceError("the broker sent text over the websocket")
                elif isinstance(event, CloseConnection):
                    self._ended = True
        except ProtocolError as exc:
            raise _broken(exc) from None
        if answers:
            async with self._sending:
                await self._stream.send_all(answers)


def _broken(exc: ProtocolError) -> trio.BrokenResourceError:
    return trio.BrokenResourceError(f"the broker broke the rules of websockets: {exc}")


async def open_websocket(stream: trio.abc.Stream, address: BrokerAddress) -> WebsocketStream:
    """Do the opening handshake (RFC 6455, section 4). Raises `ConnectFailed`."""
    connection = WSConnection(ConnectionType.CLIENT)
    host = f"[{address.bare_host}]" if ":" in address.host else address.host
    request = Request(host=f"{host}:{address.port}", target=address.target, subprotocols=["mqtt"])
    try:
        opening = connection.send(request)
    except (ProtocolError, ValueError) as exc:
        raise ConnectFailed(f"no websocket can be asked for at this address: {exc}") from None
    await stream.send_all(opening)
    socket = WebsocketStream(stream, connection)
    while True:
        data = await stream.receive_some(_CHUNK)
        if not data:
            raise ConnectFailed("the websocket was closed before it was open")
        try:
            connection.receive_data(bytes(data))
            for event in connection.events():
                if isinstance(event, AcceptConnection):
                    await socket.take()  # what came with the answer
                    return socket
                if isinstance(event, RejectConnection):
                    raise ConnectFailed(f"the websocket was refused with HTTP status {event.status_code}")
        except (ProtocolError, ValueError) as exc:  # the second for headers that are not ASCII
            raise ConnectFailed(f"there is no websocket at this address: {exc}") from None
