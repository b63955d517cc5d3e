"""From a broker's address to a stream of bytes: TCP, TLS, a unix socket, a websocket."""

from __future__ import annotations

import os
import socket
import ssl

import trio

from taktora_trio.errors import ConfigError
from taktora_trio.mqtt.options import BrokerAddress, MqttOptions
from taktora_trio.mqtt.sessions.session import ConnectFailed

__all__ = ["open_socket", "open_stream", "tls_context", "why"]


async def open_socket(address: BrokerAddress) -> trio.SocketStream:
    """Connect, without TLS or a websocket. Raises `OSError`; see `why`."""
    if address.transport == "unix":
        return await trio.open_unix_socket(address.path)
    stream = await trio.open_tcp_stream(address.host, address.port)
    # Without it a QoS 1 round trip takes 88 ms: Nagle's algorithm waits for an acknowledgement that the peer delays.
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return stream


def tls_context(options: MqttOptions) -> ssl.SSLContext | None:
    """For a connection of now. Raises `ConnectFailed`: a file that is away or half written may be back for the next."""
    try:
        return options.tls_context()
    except ConfigError as exc:
        raise ConnectFailed(str(exc)) from exc


async def open_stream(options: MqttOptions) -> trio.abc.Stream:
    """Connect all the way up to where MQTT begins. Raises `ConnectFailed`."""
    address = options.broker
    context = tls_context(options)
    try:
        stream: trio.abc.Stream = await open_socket(address)
    except (OSError, ValueError) as exc:
        raise ConnectFailed(why(exc)) from exc
    try:
        if context is not None:
            # Whether all of a message has come MQTT knows by itself, so the end need not be told again below it.
            secure = trio.SSLStream(stream, context, server_hostname=address.bare_host, https_compatible=True)
            stream = secure
            await secure.do_handshake()
        if address.transport == "websocket":
            from taktora_trio.mqtt.sessions.websocket import open_websocket

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
    if isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]  # one for each address of the host: the first is as good as any
    if isinstance(cause, ssl.SSLError):
        return f"TLS failed: {cause}; check the CA file and the broker's certificate"
    if isinstance(cause, OSError):
        number = cause.errno or 0
        return os.strerror(number) if number > 0 else cause.strerror or str(cause)
    return str(cause) or type(cause).__name__
