"""A broker's name with several addresses: one whose socket connects is not yet one where MQTT is spoken."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator, Sequence
from typing import Any

import attrs
import pytest
import trio

from taktora_trio.connectors.mqtt.address import BrokerAddress
from taktora_trio.connectors.mqtt.options import MqttOptions
from taktora_trio.connectors.mqtt.sessions import open_session
from taktora_trio.connectors.mqtt.sessions.client_state import ClientState
from taktora_trio.connectors.mqtt.sessions.endpoints import EndpointOrder, open_socket
from taktora_trio.connectors.mqtt.sessions.session import ConnectFailed, ConnectRefused
from taktora_trio.connectors.mqtt.wire.message import Message
from taktora_trio.connectors.sockets import SocketAddress, open_any
from tests.brokers.hostile import HostileBroker, Peer, Script
from tests.brokers.packets import CONNACK, PINGREQ, packet
from tests.mosquitto import free_port

A, B, C = (SocketAddress(socket.AF_INET, (f"192.0.2.{last}", 1883)) for last in (1, 2, 3))


def test_those_that_failed_go_last_the_latest_very_last() -> None:
    order = EndpointOrder()
    assert order.sorted([A, B, C]) == [A, B, C]
    order.failed(A)
    assert order.sorted([A, B, C]) == [B, C, A]
    order.failed(B)
    assert order.sorted([A, B, C]) == [C, A, B]
    assert order.best_of([C, A, B]) == [C]
    assert order.best_of([A, B]) == [A, B]
    order.was_good(A)
    assert order.sorted([A, B, C]) == [A, C, B]
    assert order.sorted([A, A, B]) == [A, B]


def test_what_the_name_does_not_stand_for_any_more_is_forgotten() -> None:
    order = EndpointOrder()
    order.failed(A)
    order.sorted([B])
    assert order.sorted([A, B]) == [A, B]


# On the real clock: each address of 127.0.0.0/8 is ours


@attrs.define
class Resolver(trio.abc.HostnameResolver):
    """`broker.example` is these addresses."""

    hosts: Sequence[str]

    async def getaddrinfo(self, host: Any, port: Any, *more: Any, **fields: Any) -> Any:
        await trio.lowlevel.checkpoint()
        assert host == b"broker.example"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in self.hosts]

    async def getnameinfo(self, sockaddr: Any, flags: int) -> Any:
        raise NotImplementedError


@attrs.define
class Brokers:
    """One after the other at 127.0.1.1, 127.0.1.2 and so on, all behind one name and on one port."""

    port: int
    at: list[HostileBroker] = attrs.field(factory=list)

    def options(self, **more: Any) -> MqttOptions:
        url = f"mqtt://broker.example:{self.port}"
        return MqttOptions(**{"broker": url, "connect_timeout": 0.2, "keepalive": 1, **more})

    @property
    def connects(self) -> list[int]:
        return [len(broker.connects) for broker in self.at]


@contextlib.asynccontextmanager
async def open_brokers(*scripts: Script) -> AsyncIterator[Brokers]:
    brokers = Brokers(free_port())
    hosts = [f"127.0.1.{number}" for number in range(1, len(scripts) + 1)]
    trio.socket.set_custom_hostname_resolver(Resolver(hosts))
    async with trio.open_nursery() as nursery:
        for host, script in zip(hosts, scripts, strict=True):
            broker = HostileBroker(brokers.port, [script])
            listeners = await trio.open_tcp_listeners(brokers.port, host=host)
            nursery.start_soon(trio.serve_listeners, broker.serve_connection, listeners)
            brokers.at.append(broker)
        yield brokers
        nursery.cancel_scope.cancel()


async def hang(peer: Peer) -> None:
    await peer.connect()
    await peer.until_gone()


async def close(peer: Peer) -> None:
    await peer.connect()


async def talk_nonsense(peer: Peer) -> None:
    await peer.connect()
    await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await peer.until_gone()


async def accept(peer: Peer) -> None:
    await peer.connect()
    await peer.send(peer.connack())
    await peer.until_gone()


async def accept_and_fall_silent(peer: Peer) -> None:
    await peer.connect()
    await peer.send(peer.connack())
    await peer.read(PINGREQ)
    await peer.until_gone()


def refuse_by(code: int) -> Script:
    async def refuse(peer: Peer) -> None:
        await peer.connect()
        await peer.send(packet(CONNACK, bytes([0, code])))
        await peer.until_gone()

    return refuse


def ignore(message: Message) -> None: ...


@pytest.mark.parametrize("script", [hang, close, talk_nonsense])
async def test_after_a_handshake_that_fails_comes_the_next_address(script: Script) -> None:
    state = ClientState()
    async with open_brokers(script, accept) as brokers:
        for connects in ([1, 1], [1, 2]):  # the second time it begins with the one that was good
            with trio.fail_after(5):
                async with open_session(brokers.options(), ignore, state):
                    assert brokers.connects == connects


async def test_where_all_fail_each_reason_is_told_and_the_next_attempt_begins_elsewhere() -> None:
    state = ClientState()
    async with open_brokers(hang, close) as brokers:
        options = brokers.options()
        with trio.fail_after(5), pytest.raises(ConnectFailed) as caught:
            async with open_session(options, ignore, state):
                pass
        assert brokers.connects == [1, 1]
    assert str(caught.value) == (
        "127.0.1.1: timed out: the broker did not answer within 0.2 s;"
        " 127.0.1.2: the broker closed the connection before it answered"
    )
    assert caught.value.overdue


async def test_a_broker_that_accepts_and_does_not_answer_is_told_from_one_that_is_not_there() -> None:
    async with open_brokers(close) as brokers:
        with pytest.raises(ConnectFailed) as closed:
            async with open_session(brokers.options(), ignore, ClientState()):
                pass
        options = brokers.options()
    with pytest.raises(ConnectFailed) as gone:
        async with open_session(options, ignore, ClientState()):
            pass
    assert not closed.value.overdue
    assert not gone.value.overdue


async def test_one_that_has_failed_is_still_tried_when_no_other_can_be_connected_to() -> None:
    """And that it ended the connection without an answer is told, though the others did not even do that."""
    state = ClientState()
    async with open_brokers(accept, close) as brokers:
        trio.socket.set_custom_hostname_resolver(Resolver(["127.0.1.2", "127.0.1.3"]))
        for connects in (1, 2):
            with trio.fail_after(5), pytest.raises(ConnectFailed) as caught:
                async with open_session(brokers.options(), ignore, state):
                    pass
            assert "Connection refused" in str(caught.value)
            assert "127.0.1.2: the broker closed the connection before it answered" in str(caught.value)
            assert caught.value.answered is False
            assert brokers.connects == [0, connects]


async def test_an_attempt_is_bounded() -> None:
    async with open_brokers(*[close] * 6) as brokers:
        state = ClientState()
        for connects in ([1, 1, 1, 1, 0, 0], [2, 2, 1, 1, 1, 1]):
            with pytest.raises(ConnectFailed):
                async with open_session(brokers.options(), ignore, state):
                    pass
            assert brokers.connects == connects


@pytest.mark.parametrize(("code", "error"), [(3, ConnectFailed), (5, ConnectRefused)])
async def test_a_refusal_is_the_brokers_and_ends_the_attempt(code: int, error: type[Exception]) -> None:
    async with open_brokers(refuse_by(code), accept) as brokers:
        state = ClientState()
        with pytest.raises(error):
            async with open_session(brokers.options(), ignore, state):
                pass
        assert brokers.connects == [1, 0]
        if error is ConnectFailed:  # it is unavailable; another may not be
            async with open_session(brokers.options(), ignore, state):
                assert brokers.connects == [1, 1]


async def test_one_that_falls_silent_is_not_the_first_to_be_tried_again() -> None:
    async with open_brokers(accept_and_fall_silent, accept) as brokers:
        state = ClientState()
        with trio.fail_after(5):
            async with open_session(brokers.options(), ignore, state) as session:
                assert (await session.wait_until_lost()).silent
            async with open_session(brokers.options(), ignore, state):
                assert brokers.connects == [1, 1]


async def test_a_websocket_that_hangs() -> None:
    async def hang_at_once(peer: Peer) -> None:
        await trio.sleep_forever()

    async def close_at_once(peer: Peer) -> None:
        await trio.lowlevel.checkpoint()

    async with open_brokers(hang_at_once, close_at_once) as brokers:
        options = brokers.options(broker=f"ws://broker.example:{brokers.port}")
        with trio.fail_after(5), pytest.raises(ConnectFailed, match=r"127\.0\.1\.1: timed out: .*; 127\.0\.1\.2: "):
            async with open_session(options, ignore):
                pass
        assert brokers.connects == [1, 1]


async def test_a_socket_that_does_not_answer_gets_only_a_head_start() -> None:
    with socket.create_server(("127.0.1.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        with socket.create_connection(("127.0.1.1", port)), socket.create_server(("127.0.1.2", port)):
            endpoints = [SocketAddress(socket.AF_INET, (f"127.0.1.{last}", port)) for last in (1, 2)]
            with trio.fail_after(2):
                endpoint, stream = await open_any(endpoints)
            await stream.aclose()
            assert endpoint is endpoints[1]


async def test_where_none_can_be_connected_to_the_first_reason_is_told() -> None:
    port = free_port()
    with pytest.raises(ConnectionRefusedError):
        await open_socket(BrokerAddress("127.0.0.1", port))
    with pytest.raises(ConnectFailed, match=r"\AConnection refused\Z"):
        async with open_session(MqttOptions(broker=f"mqtt://127.0.0.1:{port}"), ignore):
            pass
