"""From a socket to where MQTT begins: TLS, a websocket."""

from __future__ import annotations

import os
import ssl

import trio

from taktora_trio.connectors.mqtt.options import MqttOptions
from taktora_trio.connectors.mqtt.sessions.session import ConnectFailed
from taktora_trio.errors import ConfigError

__all__ = ["open_stream", "tls_context", "why"]


def tls_context(options: MqttOptions) -> ssl.SSLContext | None:
    """For a connection of now. Raises `ConnectFailed`: a file that is away or half written may be back for the next."""
    try:
        return options.tls_context()
    except ConfigError as exc:
        raise ConnectFailed(str(exc)) from exc


async def open_stream(socket: trio.SocketStream, options: MqttOptions) -> trio.abc.Stream:
    """What the options have above the socket, which is closed if that fails. Raises `ConnectFailed`."""
    address = options.broker
    stream: trio.abc.Stream = socket
    try:
        if (context := tls_context(options)) is not None:
            # Whether all of a message has come MQTT knows by itself, so the end need not be told again below it.
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


def why(exc: BaseException) -> str:
    """In a few words why a connection failed or broke."""
    cause: BaseException = exc.__cause__ or exc
    if isinstance(cause, ssl.SSLError):
        return f"TLS failed: {cause}; check the CA file and the broker's certificate"
    if isinstance(cause, OSError):
        number = cause.errno or 0
        return os.strerror(number) if number > 0 else cause.strerror or str(cause)
    return str(cause) or type(cause).__name__
