"""The layers between a socket and MQTT: TLS, a websocket."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from taktora_trio.connectors.mqtt.options import MqttOptions
from taktora_trio.connectors.mqtt.sessions.session import ConnectFailed
from taktora_trio.connectors.sockets import why
from taktora_trio.errors import ConfigError

if TYPE_CHECKING:
    import ssl

__all__ = ["open_stream", "tls_context"]


def tls_context(options: MqttOptions) -> ssl.SSLContext | None:
    """Make the TLS context for one connection, or return `None`.

    Raises `ConnectFailed`, not `ConfigError`: a file that is missing or half written may be there for the next one.
    """
    try:
        return options.tls_context()
    except ConfigError as exc:
        raise ConnectFailed(str(exc)) from exc


async def open_stream(socket: trio.SocketStream, options: MqttOptions) -> trio.abc.Stream:
    """Put the layers of the options on the socket. Raises `ConnectFailed`, and has then closed the socket."""
    address = options.broker
    stream: trio.abc.Stream = socket
    try:
        if (context := tls_context(options)) is not None:
            # MQTT knows by itself whether a packet is whole, so TLS need not announce the end of the stream.
            secure = trio.SSLStream(stream, context, server_hostname=address.bare_host, https_compatible=True)
            stream = secure
            await secure.do_handshake()
        if address.transport == "websocket":
            from taktora_trio.connectors.mqtt.sessions.websocket import open_websocket

            stream = await open_websocket(stream, address)
    except BaseException as exc:
        await trio.aclose_forcefully(stream)
        if isinstance(exc, trio.BrokenResourceError | trio.ClosedResourceError | OSError | ValueError):
            raise ConnectFailed(why(exc)) from exc
        raise
    return stream
