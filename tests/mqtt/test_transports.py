"""Every way to a broker that an address can name: a real mosquitto behind TLS, a unix socket and a websocket."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trustme
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from taktora_trio.connectors.mqtt.options import MqttOptions
from taktora_trio.connectors.mqtt.sessions import open_session
from taktora_trio.connectors.mqtt.sessions.native import NativeSession
from taktora_trio.connectors.mqtt.sessions.session import ConnectFailed
from taktora_trio.connectors.mqtt.wire.message import Message
from tests.mosquitto import Mosquitto, free_port, open_mosquitto

SESSIONS = pytest.mark.parametrize("session", ["native", "aiomqtt"])


async def exchange(options: MqttOptions) -> None:
    """Payloads of all sizes there and back."""
    payloads = [b"", b"x", b"y" * 1000, bytes(range(256)) * 1000]
    arrived: list[bytes] = []
    all_there = trio.Event()

    def on_message(message: Message) -> None:
        arrived.append(message.payload)
        session.acknowledge(message)
        if len(arrived) == len(payloads):
            all_there.set()

    async with open_session(options, on_message) as session:
        await session.subscribe({"test/#": 1})
        for number, payload in enumerate(payloads):
            session.publish(Message("test/a", payload, 1), number + 1, lambda *_: None)
        with trio.fail_after(10):
            await all_there.wait()
    assert arrived == payloads


# TLS


@attrs.frozen
class Tls:
    broker: Mosquitto
    port: int
    ca_file: Path
    cert_file: Path
    other_cert_file: Path


@pytest.fixture
async def tls(tmp_path: Path) -> AsyncIterator[Tls]:
    """A mosquitto that asks each client for a certificate of its own authority."""
    ca = trustme.CA()
    ca_file, key, cert = tmp_path / "ca.pem", tmp_path / "server.key", tmp_path / "server.pem"
    ca.cert_pem.write_to_path(str(ca_file))
    server = ca.issue_cert("localhost")
    server.private_key_pem.write_to_path(str(key))
    server.cert_chain_pems[0].write_to_path(str(cert))
    files: list[Path] = []
    for authority in (ca, trustme.CA()):
        file = tmp_path / f"client-{len(files)}.pem"
        authority.issue_cert("client@example.org").private_key_and_cert_chain_pem.write_to_path(str(file))
        files.append(file)
    port = free_port()
    lines = [f"listener {port} 127.0.0.1", f"cafile {ca_file}", f"certfile {cert}", f"keyfile {key}"]
    async with open_mosquitto(tmp_path, [*lines, "require_certificate true", "allow_anonymous true"]) as broker:
        yield Tls(broker, port, ca_file, *files)


@SESSIONS
async def test_tls_with_a_client_certificate(tls: Tls, session: Any) -> None:
    options = MqttOptions(
        broker=f"mqtts://localhost:{tls.port}",
        session=session,
        ca_file=tls.ca_file,
        cert_file=tls.cert_file,
        alpn="mqtt",
        tls_minimum="1.3",
    )
    await exchange(options)


@SESSIONS
@pytest.mark.parametrize("other", [False, True], ids=["no certificate", "of another authority"])
async def test_tls_without_the_right_client_certificate(tls: Tls, session: Any, other: bool) -> None:
    options = MqttOptions(
        broker=f"mqtts://localhost:{tls.port}",
        session=session,
        ca_file=tls.ca_file,
        cert_file=tls.other_cert_file if other else None,
    )
    with pytest.RaisesGroup(ConnectFailed, allow_unwrapped=True, flatten_subgroups=True):
        async with open_session(options, lambda message: None):
            pass


@SESSIONS
async def test_a_ca_file_that_is_away_is_a_failed_connection(tls: Tls, session: Any, tmp_path: Path) -> None:
    """As while certificates are renewed: the next one may find it again."""
    content, ours = tls.ca_file.read_bytes(), tmp_path / "ours.pem"  # the broker may not have read its own yet
    options = MqttOptions(
        broker=f"mqtts://localhost:{tls.port}", session=session, ca_file=ours, cert_file=tls.cert_file
    )
    for broken in (None, b"", content[:100]):
        if broken is not None:
            ours.write_bytes(broken)
        with pytest.RaisesGroup(ConnectFailed, allow_unwrapped=True, flatten_subgroups=True):
            async with open_session(options, lambda message: None):
                pass
    ours.write_bytes(content)
    await exchange(options)


# Where a handshake fails paho leaves its socket to the garbage collector, so these are for the native session alone.


async def test_a_broker_that_nobody_vouches_for(tls: Tls) -> None:
    options = MqttOptions(broker=f"mqtts://localhost:{tls.port}")
    with pytest.raises(ConnectFailed, match="certificate verify failed"):
        async with open_session(options, lambda message: None):
            pass


async def test_alpn_and_the_lowest_version_are_asked_for(tls: Tls) -> None:
    context = MqttOptions(
        broker="mqtts://localhost", ca_file=tls.ca_file, cert_file=tls.cert_file, alpn=["mqtt"], tls_minimum="1.3"
    ).tls_context()
    assert context is not None
    assert context.minimum_version == ssl.TLSVersion.TLSv1_3


# Unix sockets


@SESSIONS
async def test_a_unix_socket(tmp_path: Path, session: Any) -> None:
    path = tmp_path / "broker.sock"
    async with open_mosquitto(tmp_path, [f"listener 0 {path}", "allow_anonymous true"]):
        await exchange(MqttOptions(broker=f"unix://{path}", session=session))


# TCP


async def test_nagle_is_off(broker: Mosquitto) -> None:
    async with open_session(MqttOptions(broker=broker.url), lambda message: None) as session:
        assert isinstance(session, NativeSession)
        assert isinstance(session.stream, trio.SocketStream)
        assert session.stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


# Websockets: mosquitto has them only where it was built so, hence a proxy, by another implementation than ours


@contextlib.asynccontextmanager
async def open_websocket_proxy(target: int, *, answer: int = 101, pings: bool = True) -> AsyncIterator[int]:
    """A port where websockets are spoken, with the broker at `target` behind it."""

    async def serve(outside: trio.SocketStream) -> None:
        protocol = ServerProtocol(subprotocols=[Subprotocol("mqtt")], max_size=None)
        async with await trio.open_tcp_stream("127.0.0.1", target) as inside, trio.open_nursery() as nursery:
            nursery.start_soon(inward, protocol, outside, inside, nursery)
            while data := await inside.receive_some(50_000):
                if protocol.state is State.OPEN:
                    if pings:
                        protocol.send_ping(b"are you there?")
                    protocol.send_binary(data)
                    await flush(protocol, outside)
            nursery.cancel_scope.cancel()

    async def inward(
        protocol: ServerProtocol, outside: trio.SocketStream, inside: trio.SocketStream, nursery: trio.Nursery
    ) -> None:
        while data := await outside.receive_some(7):  # so that everything comes in pieces
            protocol.receive_data(bytes(data))
            for event in protocol.events_received():
                if isinstance(event, Request):
                    response = protocol.accept(event) if answer == 101 else protocol.reject(answer, "no")
                    protocol.send_response(response)
                elif isinstance(event, Frame) and event.opcode in (Opcode.BINARY, Opcode.CONT):
                    await inside.send_all(event.data)
            await flush(protocol, outside)
        nursery.cancel_scope.cancel()

    async def flush(protocol: ServerProtocol, outside: trio.SocketStream) -> None:
        async with sending:
            for data in protocol.data_to_send():
                if data:
                    await outside.send_all(data)

    async def survive(stream: trio.SocketStream) -> None:
        try:
            await serve(stream)
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the client has gone

    sending = trio.Lock()
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, survive, [listener])
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


@SESSIONS
@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
async def test_a_websocket(broker: Mosquitto, session: Any, protocol: Any) -> None:
    # After a ping paho does not look for what has come behind it.
    async with open_websocket_proxy(broker.port, pings=session == "native") as port:
        await exchange(MqttOptions(broker=f"ws://127.0.0.1:{port}/mqtt", session=session, protocol=protocol))


async def test_a_websocket_that_is_refused(broker: Mosquitto) -> None:
    async with open_websocket_proxy(broker.port, answer=403) as port:
        with pytest.raises(ConnectFailed, match="HTTP status 403"):
            async with open_session(MqttOptions(broker=f"ws://127.0.0.1:{port}"), lambda message: None):
                pass
