"""A password never appears in an error, a log line or a printed object, however a connection fails."""

from __future__ import annotations

import contextlib
import logging
import traceback
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
import trio

from taktora_trio.connectors.mqtt.options import BrokerAddress, MqttOptions
from taktora_trio.connectors.mqtt.preflight import check_reachable
from taktora_trio.connectors.mqtt.sessions import open_session
from taktora_trio.connectors.mqtt.sessions.session import ConnectFailed, ConnectRefused, SessionLost
from taktora_trio.errors import ConnectorError, leaves
from tests.mosquitto import free_port

SECRET = "s3cret-Passw0rd"

# What the server says to CONNECT; `None` is nothing at all.
ANSWERS: dict[str, bytes | None] = {
    "closes": b"",
    "never answers": None,
    "garbage": b"\xff" * 20,
    "http": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "bad login": b"\x20\x02\x00\x04",
    "not authorized": b"\x20\x02\x00\x05",
    "unavailable": b"\x20\x02\x00\x03",
    "unknown code": b"\x20\x02\x00\x99",
    "says goodbye": b"\x20\x02\x00\x00",
    "breaks the rules": b"\x20\x02\x00\x00\xff\xff\xff\xff\xff",
}
REFUSED = {"bad login": "Bad user name or password", "not authorized": "Not authorized"}


@pytest.fixture
async def server(request: pytest.FixtureRequest) -> AsyncIterator[int]:
    answer: bytes | None = ANSWERS[request.param]

    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some(1000)
        if answer is None:
            await trio.sleep_forever()
        with contextlib.suppress(trio.BrokenResourceError):  # the client has gone
            await stream.send_all(answer or b"")

    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


def said_of(exc: BaseException, caplog: pytest.LogCaptureFixture) -> str:
    return "".join(traceback.format_exception(exc)) + repr(exc) + caplog.text


async def fail(options: MqttOptions) -> BaseException:
    """How it fails, at the latest when it is connected."""
    with trio.fail_after(20):
        try:
            async with open_session(options, lambda message: None) as session:
                return await session.wait_until_lost()
        except Exception as exc:  # noqa: BLE001 - told apart by who asks
            return exc


@pytest.mark.parametrize("session", ["native", "aiomqtt"])
@pytest.mark.parametrize("server", ANSWERS, indirect=True)
async def test_whatever_a_server_answers(
    session: Any, server: int, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    address = BrokerAddress("127.0.0.1", server, username="me", password=SECRET)
    exc = await fail(MqttOptions(broker=address, session=session, connect_timeout=0.5))
    assert SECRET not in said_of(exc, caplog)
    [cause] = leaves(exc)
    assert isinstance(cause, ConnectFailed | ConnectRefused | SessionLost)
    assert str(cause)
    answer = request.node.callspec.params["server"]
    assert isinstance(cause, ConnectRefused) == (answer in REFUSED)
    assert REFUSED.get(answer, "") in str(cause)


@pytest.mark.parametrize(
    ("session", "scheme"),
    [(session, scheme) for session in ("native", "aiomqtt") for scheme in ("mqtt", "mqtts", "ws", "wss", "unix")][:-1],
)  # without the last: paho leaves a unix socket that it could not connect to the garbage collector
async def test_nobody_there(session: Any, scheme: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    place = "/nonexistent/socket" if scheme == "unix" else f"127.0.0.1:{free_port()}"
    options = MqttOptions(broker=f"{scheme}://me:{SECRET}@{place}", session=session, connect_timeout=1)
    exc = await fail(options)
    [cause] = leaves(exc)
    assert isinstance(cause, ConnectFailed)
    assert SECRET not in said_of(exc, caplog) + repr(options) + str(options) + str(options.broker)
    with pytest.raises(ConnectorError) as caught:
        await check_reachable(options.broker, 1)
    assert SECRET not in said_of(caught.value, caplog)


@pytest.mark.parametrize("scheme", ["mqtts", "wss", "ws"])
@pytest.mark.parametrize("server", ["http", "closes"], indirect=True)
async def test_another_protocol_is_spoken_there(scheme: str, server: int, caplog: pytest.LogCaptureFixture) -> None:
    options = MqttOptions(broker=f"{scheme}://me:{SECRET}@127.0.0.1:{server}", connect_timeout=1)
    exc = await fail(options)
    assert isinstance(exc, ConnectFailed)
    assert SECRET not in said_of(exc, caplog)
