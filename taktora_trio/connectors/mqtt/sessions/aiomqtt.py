"""The session on aiomqtt (the present name of asyncio-mqtt), run under trio-asyncio."""

from __future__ import annotations

import contextlib
import math
import socket
import ssl
import uuid
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any, Literal, TypeVar

import aiomqtt
import paho.mqtt.client as paho
import trio
import trio_asyncio
from paho.mqtt.subscribeoptions import SubscribeOptions
from trio_asyncio import aio_as_trio
from trio_util import move_on_when

from taktora_trio.connectors.mqtt.options import MqttOptions
from taktora_trio.connectors.mqtt.sessions.paho_driver import PacketLog, PahoDriver
from taktora_trio.connectors.mqtt.sessions.paho_properties import (
    code_of,
    connect_properties,
    metadata_of,
    publish_properties,
)
from taktora_trio.connectors.mqtt.sessions.session import (
    ConnectFailed,
    ConnectRefused,
    Session,
    SessionLost,
)
from taktora_trio.connectors.mqtt.sessions.streams import tls_context
from taktora_trio.connectors.mqtt.wire.limits import NO_LIMITS
from taktora_trio.connectors.mqtt.wire.message import Message, OnDone, OnMessage
from taktora_trio.connectors.mqtt.wire.packets import encode_properties
from taktora_trio.connectors.mqtt.wire.reasons import PERMANENT, reason_name
from taktora_trio.connectors.mqtt.wire.state import SessionState

__all__ = ["open_aiomqtt_session"]

T = TypeVar("T")

_NO_QOS_2 = "the aiomqtt session can't do QoS 2 in a persistent session: use session='native', or persistent=False"
# Without it a QoS 1 round trip takes 88 ms: Nagle's algorithm waits for an acknowledgement that the peer delays.
_SOCKET_OPTIONS = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]


class AiomqttSession(Session):
    """See `Session`. paho chooses the packet identifiers; `packet_id` is only handed back."""

    def __init__(
        self,
        client: aiomqtt.Client,
        packet_log: PacketLog,
        options: MqttOptions,
        state: SessionState,
        on_message: OnMessage,
    ) -> None:
        self._client = client
        self.driver = PahoDriver(client, packet_log, self._deliver, self._finish)
        self._paho = self.driver.paho
        self._paho.connect_timeout = options.connect_timeout
        self._paho.manual_ack_set(True)
        self._persistent = bool(options.persistent)
        self._asked_expiry = options.session_expiry if options.persistent else 0
        self._v5 = options.protocol == "5"
        self._state = state
        self._on_message = on_message
        self._early: list[paho.MQTTMessage] | None = []  # messages that came before the caller has the session
        self._quota = self.limits.receive_maximum  # how many more may be on their way, of QoS 1 and 2
        self._queued: deque[tuple[Message, int, OnDone]] = deque()
        self._pending: dict[int, tuple[OnDone, int, int]] = {}  # with the QoS
        self._finished: dict[int, str] = {}  # paho may say so before it says by which number
        self._publishing = False
        self._timeout = options.connect_timeout
        self._arrived = 0  # to tell a silent broker from one with much to say before it answers
        self._is_paused = False
        self._lost: SessionLost | None = None
        self._ended = trio.Event()

    async def subscribe(self, filters: Mapping[str, int]) -> dict[str, str]:
        refused = {name: why for name in filters if (why := self.limits.subscription_refusal(name))}
        if self._persistent:
            refused |= {name: _NO_QOS_2 for name, qos in filters.items() if qos == 2}
        wanted = {name: qos for name, qos in filters.items() if name not in refused}
        if wanted:
            asked = [self._asked(name, qos) for name, qos in wanted.items()]
            codes = await self._answer(aio_as_trio(self._client.subscribe), asked)
            answers = zip(wanted, map(code_of, codes), strict=False)
            refused |= {name: reason_name(code) for name, code in answers if code >= 0x80}
        return refused

    async def unsubscribe(self, filters: Iterable[str]) -> dict[str, str]:
        names = list(filters)
        if not names:
            return {}
        await self._answer(aio_as_trio(self._client.unsubscribe), names)
        answers = zip(names, self.driver.unsubscribed, strict=False)
        return {name: reason_name(code) for name, code in answers if code >= 0x80}

    def _asked(self, name: str, qos: int) -> tuple[str, int | SubscribeOptions]:
        if not self._v5:
            return name, qos
        return name, SubscribeOptions(qos, retainHandling=SubscribeOptions.RETAIN_SEND_IF_NEW_SUB)

    async def _answer(self, ask: Callable[..., Awaitable[T]], filters: list[Any]) -> T:
        """Send a request about these filters and return its answer. Raises `SessionLost`."""
        if self._lost is not None:
            raise self._lost
        answer, failure = list[T](), None
        async with move_on_when(self._until_silent_or_lost):
            try:
                answer.append(await ask(filters, timeout=math.inf))
            except aiomqtt.MqttError as exc:
                failure = exc
        if failure is not None:
            raise SessionLost(f"subscribing failed: {failure}") from failure
        if self._lost is not None:
            raise self._lost
        if not answer:
            raise SessionLost("the broker does not answer a subscription", silent=True)
        return answer[0]

    def publish(self, message: Message, packet_id: int, on_done: OnDone) -> None:
        if self._lost is not None:
            return
        if self._persistent and message.qos == 2:
            on_done(packet_id, _NO_QOS_2)
            return
        if self.limits != NO_LIMITS and (refusal := self._refusal(message)):
            on_done(packet_id, refusal)
            return
        if message.qos and (self._quota <= 0 or self._queued):
            self._queued.append((message, packet_id, on_done))
        else:
            self._send(message, packet_id, on_done)

    def _send(self, message: Message, packet_id: int, on_done: OnDone) -> None:
        properties = publish_properties(message) if self._v5 else None
        self._quota -= message.qos > 0
        self._publishing = True
        info = self._paho.publish(message.topic, message.payload, message.qos, message.retained, properties)
        self._publishing = False
        if info.rc != paho.MQTT_ERR_SUCCESS:
            self.lose(f"publishing failed: {paho.error_string(info.rc)}")
        elif info.mid in self._finished:
            self._done(on_done, packet_id, message.qos, self._finished.pop(info.mid))
        else:
            self._pending[info.mid] = (on_done, packet_id, message.qos)

    def _done(self, on_done: OnDone, packet_id: int, qos: int, refusal: str) -> None:
        self._quota += qos > 0
        on_done(packet_id, refusal)
        while self._queued and self._quota > 0 and self._lost is None:
            self._send(*self._queued.popleft())

    def _refusal(self, message: Message) -> str:
        properties = encode_properties(message.metadata, message.correlation_id)
        length = 2 + len(message.topic.encode()) + 2 * bool(message.qos) + len(properties) + len(message.payload)
        return self.limits.refusal(length, message.qos, message.retained)

    def acknowledge(self, message: Message) -> None:
        self._state.acknowledge(message)
        if self._lost is None:
            self._acknowledge_due()

    def pause_reading(self) -> None:
        self._is_paused = True
        self.driver.pause_reading()

    def resume_reading(self) -> None:
        self._is_paused = False
        self.driver.resume_reading()

    async def wait_until_lost(self) -> SessionLost:
        await self._ended.wait()
        assert self._lost is not None
        return self._lost

    @property
    def unanswered(self) -> int:
        return len(self._queued) + sum(qos > 0 for _, _, qos in self._pending.values())

    def lose(self, reason: str, code: int = 0, *, silent: bool = False) -> None:
        if self._lost is None:
            self._lost = SessionLost(reason, code, silent=silent)
            self._ended.set()

    async def watch(self) -> None:
        """Deliver messages that came early, then wait for the end of the connection."""
        early, self._early = self._early or [], None
        for message in early:
            self._deliver(message)
        driver = self.driver
        if not self._is_paused:
            driver.resume_reading()
        await driver.ended.wait()
        self.lose(driver.failure, driver.farewell or 0, silent=driver.was_silent)

    def connected(self) -> None:
        self.session_present, self.limits = self.driver.session_present, self.driver.limits
        self._quota = self.limits.receive_maximum
        self.limits.warn_of_expiry(self._asked_expiry)
        self._state.connected(self.session_present)

    async def _until_silent_or_lost(self) -> None:
        """Wait until nothing has come for a while. A persistent session's backlog may well come before a SUBACK."""
        before = None
        while self._lost is None and (self._is_paused or before != self._arrived):
            before = self._arrived
            with trio.move_on_after(self._timeout):
                await self._ended.wait()

    def _deliver(self, arrived: paho.MQTTMessage) -> None:
        self._arrived += 1
        if self._early is not None:
            self._early.append(arrived)
            return
        try:
            topic = arrived.topic
        except UnicodeDecodeError:
            self.lose("the broker broke the rules of MQTT: a topic is not UTF-8")
            return
        properties = arrived.properties if self._v5 else None
        message = Message(
            topic,
            bytes(arrived.payload),
            arrived.qos,
            reliable=arrived.qos > 0,
            redelivered=arrived.dup,
            delivery_id=arrived.mid if arrived.qos else 0,
            order=arrived.qos,
            retained=arrived.retain,
            metadata=metadata_of(properties),
            correlation_id=getattr(properties, "CorrelationData", b""),
        )
        if not message.qos:
            self._on_message(message)
            return
        try:
            new = self._state.arrived(message)
        except ValueError as exc:
            self.lose(f"the broker broke the rules of MQTT: {exc}")
            return
        if new:
            self._on_message(message)
        else:
            self._acknowledge_due()

    def _acknowledge_due(self) -> None:
        for packet_id, qos in self._state.due():
            self._state.complete(packet_id)  # paho hands on a message of QoS 2 when PUBREL has come
            self._paho.ack(packet_id, qos)

    def _finish(self, mid: int, refusal: str) -> None:
        pending = self._pending.pop(mid, None)
        if pending is not None:
            self._done(*pending, refusal)
        elif self._publishing:
            self._finished[mid] = refusal


@contextlib.asynccontextmanager
async def open_aiomqtt_session(
    options: MqttOptions, on_message: OnMessage, state: SessionState
) -> AsyncIterator[AiomqttSession]:
    """Connect; see `open_session`. It opens an asyncio loop of its own."""
    broker = options.broker
    v5, clean = options.protocol == "5", not options.persistent
    transports: dict[str, Literal["tcp", "websockets", "unix"]] = {
        "tcp": "tcp",
        "websocket": "websockets",
        "unix": "unix",
    }
    async with trio_asyncio.open_loop():
        packet_log = PacketLog()
        client = aiomqtt.Client(
            broker.path if broker.transport == "unix" else broker.host,
            broker.port or 1,
            username=broker.username,
            password=broker.password,  # type: ignore[arg-type]  # paho takes bytes as they are
            logger=packet_log,
            identifier=options.client_id or f"taktora-{uuid.uuid4().hex[:15]}",
            protocol=aiomqtt.ProtocolVersion.V5 if v5 else aiomqtt.ProtocolVersion.V311,
            clean_session=None if v5 else clean,
            clean_start=clean if v5 else paho.MQTT_CLEAN_START_FIRST_ONLY,
            properties=connect_properties(options) if v5 else None,
            will=aiomqtt.Will(options.will.topic, options.will.payload, options.will.qos, options.will.retain)
            if options.will
            else None,
            transport=transports[broker.transport],
            websocket_path=broker.target if broker.transport == "websocket" else None,
            keepalive=options.keepalive,
            timeout=options.connect_timeout,
            max_inflight_messages=options.max_inflight,
            tls_context=tls_context(options),
            socket_options=_SOCKET_OPTIONS if broker.transport == "tcp" else (),
        )
        session = AiomqttSession(client, packet_log, options, state, on_message)
        async with _connected(client, session.driver), trio.open_nursery() as nursery:
            session.connected()
            nursery.start_soon(session.watch)
            nursery.start_soon(session.driver.serve_keepalive)
            try:
                yield session
            finally:
                session.lose("disconnected")
                nursery.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def _connected(client: aiomqtt.Client, driver: PahoDriver) -> AsyncIterator[None]:
    try:
        try:
            await aio_as_trio(client.__aenter__)()
        except BaseException:
            driver.close()
            raise
    except aiomqtt.MqttCodeError as exc:
        code = code_of(exc.rc)
        reason = reason_name(code)
        if code in PERMANENT:
            raise ConnectRefused(f"the broker refused the login: {reason}", code) from exc
        raise ConnectFailed(f"the broker refused the connection for now: {reason}", answered=True) from exc
    except ssl.SSLError as exc:
        raise ConnectFailed(f"TLS failed: {exc}; check the CA file and the broker's certificate") from exc
    except (aiomqtt.MqttError, OSError, ValueError) as exc:
        if driver.was_closed:  # which aiomqtt takes no notice of before CONNACK
            raise ConnectFailed("the broker closed the connection before it answered", answered=False) from exc
        raise ConnectFailed(str(exc)) from exc
    try:
        if driver.failure:
            why = "" if driver.farewell is None else f": {reason_name(driver.farewell)}"
            raise ConnectFailed(f"the broker ended the connection as soon as it had accepted it{why}")
        yield
    finally:
        if not driver.failure:
            with trio.CancelScope(shield=True) as scope:
                scope.deadline = (
                    trio.current_time() + 1.0
                )  # DISCONNECT is one small write; a dead peer must not hold us up
                with contextlib.suppress(aiomqtt.MqttError):
                    await aio_as_trio(client.__aexit__)(None, None, None)
        driver.close()
