"""The session by aiomqtt (asyncio-mqtt under its present name), run under trio-asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, cast

import aiomqtt
import paho.mqtt.client as paho
import trio
import trio_asyncio
from aiomqtt.exceptions import MqttConnectError
from paho.mqtt.reasoncodes import ReasonCode
from trio_asyncio import aio_as_trio

from taktora_trio.mqtt.options import MqttOptions
from taktora_trio.mqtt.sessions.session import ConnectFailed, ConnectRefused, Message, OnMessage, Session, SessionLost

__all__ = ["open_aiomqtt_session"]

# CONNACK reasons that another attempt would meet again (MQTT 3.1.1, section 3.2.2.3; paho maps them to MQTT 5 names).
_PERMANENT = {
    "Unsupported protocol version",
    "Client identifier not valid",
    "Bad user name or password",
    "Not authorized",
    "Banned",
}
# Without it a QoS 1 round trip takes 88 ms: Nagle's algorithm waits for an acknowledgement that the peer delays.
_SOCKET_OPTIONS = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]


class _Inbox(asyncio.Queue[aiomqtt.Message]):
    """Hands each message on at once, in the callback that parsed it, instead of through two tasks a message.

    `get` never returns: the one caller of `client.messages` waits only for the exception that ends it.
    """

    on_message: OnMessage

    def put_nowait(self, item: aiomqtt.Message) -> None:
        payload = item.payload
        assert isinstance(payload, bytes)
        self.on_message(Message(item.topic.value, payload, item.qos, item.retain))

    async def get(self) -> aiomqtt.Message:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")


class _Client(aiomqtt.Client):
    """Does not crash where the connection breaks just as paho wants to write.

    aiomqtt then adds a writer for a socket that paho has closed meanwhile, and the loop ends with EBADF.
    """

    def _on_socket_register_write(self, client: paho.Client, userdata: object, sock: Any) -> None:
        def write() -> None:
            try:
                client.loop_write()
            except Exception as exc:  # noqa: BLE001 - whatever it is, the connection is over
                if not self._disconnected.done():
                    self._disconnected.set_exception(exc)

        def add_writer() -> None:
            now = client.socket()
            if now is not None and now is sock and now.fileno() >= 0:
                self._loop.add_writer(now.fileno(), write)

        self._loop.call_soon_threadsafe(add_writer)


class AiomqttSession(Session):
    """See `Session`. Each publish is an asyncio task, started in order, so that many are in flight at once."""

    def __init__(self, client: aiomqtt.Client, loop: trio_asyncio.TrioEventLoop) -> None:
        self._client = client
        self._loop = loop
        self._tasks: set[asyncio.Task[None]] = set()
        self._lost: SessionLost | None = None
        self._ended = trio.Event()

    async def subscribe(self, filters: Mapping[str, int]) -> None:
        if not filters:
            return
        names = list(filters)
        try:
            codes = await aio_as_trio(self._client.subscribe)([(name, filters[name]) for name in names])
        except aiomqtt.MqttError as exc:
            raise SessionLost(f"subscribing failed: {exc}") from exc
        refused = [name for name, code in zip(names, codes, strict=False) if _value(code) >= 0x80]
        if refused:
            raise ConnectRefused(f"the broker refused the subscription to {', '.join(refused)}: check its access rules")

    def publish(self, message: Message, on_done: Callable[[], None]) -> None:
        task = self._loop.create_task(self._publish(message, on_done))
        self._tasks.add(task)  # the loop itself keeps only a weak reference

    async def _publish(self, message: Message, on_done: Callable[[], None]) -> None:
        try:
            # No timeout of its own: keepalive notices a broker that fell silent, for all messages at once.
            await self._client.publish(message.topic, message.payload, message.qos, message.retain, timeout=math.inf)
        except aiomqtt.MqttError as exc:
            self._lose(f"publishing failed: {exc}")
        else:
            on_done()
        finally:
            self._tasks.discard(cast("asyncio.Task[None]", asyncio.current_task()))

    async def wait_until_lost(self) -> SessionLost:
        await self._ended.wait()
        assert self._lost is not None
        return self._lost

    def _lose(self, reason: str) -> None:
        if self._lost is None:
            self._lost = SessionLost(reason)
            self._ended.set()

    async def watch(self) -> None:
        """Serve: notice the end of the connection."""
        try:
            await aio_as_trio(self._client.messages.__anext__)()
        except aiomqtt.MqttError as exc:
            self._lose(str(exc.__cause__ or exc))

    async def end_publishing(self) -> None:
        """Give up what was not acknowledged."""
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await aio_as_trio(asyncio.wait)(list(self._tasks))


@contextlib.asynccontextmanager
async def open_aiomqtt_session(options: MqttOptions, on_message: OnMessage) -> AsyncIterator[AiomqttSession]:
    """Connect. Needs `trio_asyncio.open_loop()` around it no further than this: it opens its own."""
    inbox = type("Inbox", (_Inbox,), {"on_message": staticmethod(on_message)})
    broker = options.broker
    async with trio_asyncio.open_loop() as loop:
        client = _Client(
            broker.host,
            broker.port,
            username=broker.username,
            password=broker.password,
            identifier=options.client_id,
            clean_session=True,
            keepalive=options.keepalive,
            timeout=options.connect_timeout,
            max_inflight_messages=options.max_inflight,
            queue_type=inbox,
            tls_context=options.tls_context(),
            socket_options=_SOCKET_OPTIONS,
        )
        client._client.connect_timeout = options.connect_timeout
        client.pending_calls_threshold = 2**31  # many in flight is the point
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(_connected(client))
            session = AiomqttSession(client, loop)
            stack.push_async_callback(session.end_publishing)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(session.watch)
                try:
                    yield session
                finally:
                    nursery.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def _connected(client: aiomqtt.Client) -> AsyncIterator[None]:
    try:
        await aio_as_trio(client.__aenter__)()
    except MqttConnectError as exc:
        reason = exc.rc.getName() if isinstance(exc.rc, ReasonCode) else str(exc)
        if reason in _PERMANENT:
            raise ConnectRefused(f"the broker refused the login: {reason}") from exc
        raise ConnectFailed(f"the broker refused the connection for now: {reason}") from exc
    except ssl.SSLError as exc:
        raise ConnectFailed(f"TLS failed: {exc}; check the CA file and the broker's certificate") from exc
    except (aiomqtt.MqttError, OSError, ValueError) as exc:
        raise ConnectFailed(str(exc)) from exc
    try:
        yield
    finally:
        with trio.CancelScope(shield=True) as scope:
            scope.deadline = trio.current_time() + 1.0  # DISCONNECT is one small write; a dead peer must not hold us up
            with contextlib.suppress(aiomqtt.MqttError):
                await aio_as_trio(client.__aexit__)(None, None, None)


def _value(code: Any) -> int:
    return code.value if isinstance(code, ReasonCode) else int(code)
