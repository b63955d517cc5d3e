"""The default session: the wire's engine on a trio stream, with many messages in each read and each write."""

from __future__ import annotations

import contextlib
import logging
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import TypeAlias

import trio

from taktora_trio.connectors.mqtt.options import MqttOptions
from taktora_trio.connectors.mqtt.sessions.client_state import ClientState
from taktora_trio.connectors.mqtt.sessions.direct import Direct
from taktora_trio.connectors.mqtt.sessions.endpoints import connect_to_any
from taktora_trio.connectors.mqtt.sessions.session import (
    ConnectFailed,
    ConnectRefused,
    Session,
    SessionLost,
)
from taktora_trio.connectors.mqtt.sessions.streams import open_stream
from taktora_trio.connectors.mqtt.wire import packets
from taktora_trio.connectors.mqtt.wire.connack import Connack
from taktora_trio.connectors.mqtt.wire.engine import Disconnected, Engine
from taktora_trio.connectors.mqtt.wire.message import Message, OnDone, OnMessage
from taktora_trio.connectors.mqtt.wire.packets import Malformed
from taktora_trio.connectors.mqtt.wire.reasons import PERMANENT
from taktora_trio.connectors.mqtt.wire.state import SessionState
from taktora_trio.connectors.sockets import why
from taktora_trio.escaping import escaped

__all__ = ["open_native_session"]

log = logging.getLogger(__name__)

_CHUNK = 65_536  # bytes of a read: some hundred small messages, then the other tasks have their turn
# A broker answers one by one, and a turn of the loop for each answer costs more than all else of a message. While so
# many are on their way that nobody is kept waiting by it, answers are let gather: until three quarters have come, so
# that the broker still has some when we have read them, and whoever sends has been woken.
_MANY = 32  # messages not acknowledged
_BYTES = 3  # of an answer's four, for each of these
_GATHER = 0.001  # seconds, at most
# A broker may have 65,535 messages on their way to us, each with two answers at most. One that makes us send more, and
# does not read them, is not read either.
_MOST_ANSWERS = 2 * 65_535
_FAREWELL = 1.0  # seconds for what is still to be written, and DISCONNECT; a dead peer must not hold us up
_FILTERS_AT_ONCE = 100

_Unwritten: TypeAlias = list[tuple[OnDone, int]]


class _Together:
    """A block of `Session.in_batches`: what was published in it is written at its end, without a turn of the loop."""

    __slots__ = ("_session", "is_due", "is_open")

    def __init__(self, session: NativeSession) -> None:
        self._session = session
        self.is_open = self.is_due = False

    def __enter__(self) -> None:
        self.is_open = True

    def __exit__(self, *failure: object) -> None:
        self.is_open = False
        if self.is_due:
            self.is_due = False
            self._session.write_now()


class NativeSession(Session):
    """See `Session`. One task reads, one writes, and one watches for signs of life."""

    def __init__(
        self,
        stream: trio.abc.Stream,
        options: MqttOptions,
        state: SessionState,
        on_message: OnMessage,
        max_payload: int,
        direct: Direct | None = None,
    ) -> None:
        """`direct` is the socket below the stream, where there is one."""
        self.stream = stream
        self._direct = direct
        self._state = state
        self.resumable = state.released
        self._wakened = trio.Event()
        self._answers: AbstractContextManager[object] = contextlib.nullcontext()
        self._together = _Together(self)
        self._is_idle = False  # the one that writes has nothing to do
        self._left: tuple[bytes | memoryview, _Unwritten] | None = None  # what the kernel did not take at once
        self._engine = Engine(5 if options.protocol == "5" else 4, state, on_message, self._wake, max_payload)
        self._options = options
        self._answered = trio.Event()
        self._resumed = trio.Event()
        self._is_paused = False
        self._taken = trio.Event()
        self._lost: SessionLost | None = None
        self._ended = trio.Event()
        self._closing = False
        self._writing = trio.CancelScope(shield=True)
        self.reading = trio.CancelScope(shield=True)
        self.entered = trio.Event()

    def _wake(self) -> None:
        if self._together.is_open:
            self._together.is_due = True
        else:
            self._wakened.set()
        if self._engine.refused is not None:
            self._answered.set()

    # Session

    async def subscribe(self, filters: Mapping[str, int]) -> dict[str, str]:
        refused = {name: why for name in filters if (why := self.limits.subscription_refusal(name))}
        wanted = [(name, qos) for name, qos in filters.items() if name not in refused]
        for start in range(0, len(wanted), _FILTERS_AT_ONCE):
            some = wanted[start : start + _FILTERS_AT_ONCE]
            self._answered = trio.Event()
            self._engine.subscribe(some)
            await self._wait_for_suback()
            assert self._engine.refused is not None
            refused |= self._engine.refused
            for name, options in some:
                qos = options & 3  # with MQTT 5 it may have other options beside it
                if self._engine.granted.get(name, qos) < qos:
                    log.warning(
                        "%r: the broker grants QoS %d, not %d",
                        name,
                        self._engine.granted[name],
                        qos,
                        extra={"event": "qos-lowered"},
                    )
        return refused

    async def unsubscribe(self, filters: Iterable[str]) -> dict[str, str]:
        names, refused = list(filters), dict[str, str]()
        for start in range(0, len(names), _FILTERS_AT_ONCE):
            self._answered = trio.Event()
            self._engine.unsubscribe(names[start : start + _FILTERS_AT_ONCE])
            await self._wait_for_suback()
            assert self._engine.refused is not None
            refused |= self._engine.refused
        return refused

    def publish(self, message: Message, packet_id: int, on_done: OnDone) -> None:
        if self._lost is None:
            self._engine.publish(message, packet_id, on_done)

    def acknowledge(self, message: Message) -> None:
        if self._lost is None:
            self._engine.acknowledge(message)
        else:
            self._state.acknowledge(message)

    def release(self, packet_id: int, on_done: OnDone) -> None:
        if self._lost is None:
            self._engine.release(packet_id, on_done)

    def in_batches(self, answers: AbstractContextManager[object]) -> AbstractContextManager[object]:
        self._answers = answers
        return self._together

    def pause_reading(self) -> None:
        if not self._is_paused:
            self._resumed = trio.Event()
        self._is_paused = True

    def resume_reading(self) -> None:
        self._is_paused = False
        self._resumed.set()

    async def wait_until_lost(self) -> SessionLost:
        await self._ended.wait()
        assert self._lost is not None
        return self._lost

    @property
    def unanswered(self) -> int:
        return 0 if self._lost is not None else self._engine.unacknowledged + self._engine.queued

    @property
    def granted(self) -> Mapping[str, int]:
        """The QoS that the broker has granted for each filter of the last subscription."""
        return self._engine.granted

    @property
    def lost(self) -> SessionLost | None:
        """The reason why the connection has ended; `None` while it lasts."""
        return self._lost

    # Connecting

    async def connect(self) -> Connack:
        """Say CONNECT and wait for the answer. Raises `ConnectFailed` and `ConnectRefused`."""
        options = self._options
        request = packets.connect(options, options.client_id or f"taktora-{uuid.uuid4().hex[:15]}")
        try:
            await self.stream.send_all(request)
            while self._engine.connack is None:
                data = await self.stream.receive_some(_CHUNK)
                if not data:
                    raise ConnectFailed("the broker closed the connection before it answered", answered=False)
                self._engine.receive(bytes(data))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            raise ConnectFailed(f"the connection broke before the broker answered: {why(exc)}", answered=False) from exc
        except Malformed as exc:
            raise ConnectFailed(f"the broker broke the rules of MQTT: {exc}") from exc
        connack = self._engine.connack
        if connack.code >= 0x80:
            if connack.code in PERMANENT:
                raise ConnectRefused(f"the broker refused the login: {connack.name}", connack.code)
            raise ConnectFailed(
                f"the broker refused the connection for now: {connack.name}{self._elsewhere(connack.server_reference)}",
                answered=True,
            )
        self.session_present, self.limits = connack.session_present, connack.limits
        self.limits.warn_of_expiry(options.session_expiry if options.persistent else 0)
        return connack

    def _elsewhere(self, server: str) -> str:
        """Name the server that the broker refers to. It is not followed: the operator decides who gets the password."""
        password = self._options.broker.password
        if not server or (password and password in server.encode()):  # a broker may say back what it was told
            return ""
        return f" (it names '{escaped(server)}', which is not followed)"

    # Tasks

    async def read(self) -> None:
        """Read and deliver until the connection ends."""
        engine, stream, direct = self._engine, self.stream, self._direct
        try:
            await self.entered.wait()
            engine.receive(b"")  # packets that came behind CONNACK
            while True:
                data: bytes | bytearray | None = None
                count = 0
                if engine.room is not None and direct is not None and (arrived := await direct.read_into(engine.room)):
                    count, data = arrived
                elif engine.unacknowledged >= _MANY:
                    data = await self._gather(engine.unacknowledged)
                if data is None:
                    data = await stream.receive_some(_CHUNK)
                while self._is_paused:
                    await self._resumed.wait()
                if engine.answers > _MOST_ANSWERS:
                    self._taken = trio.Event()
                    await self._taken.wait()
                if not count and not data:
                    return self._lose("the broker closed the connection")
                with self._answers:
                    if count:
                        engine.filled(count)
                    if data:
                        engine.receive(bytes(data))  # no copy: bytes is what it is
        except Malformed as exc:
            self._lose(f"the broker broke the rules of MQTT: {exc}")
        except Disconnected as exc:
            self._lose(f"the broker ended the connection: {exc}", exc.code)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            self._lose(f"the connection broke: {why(exc)}")

    async def _gather(self, unacknowledged: int) -> bytes | None:
        """Let answers gather, and return what was read; `None` if nothing was."""
        if self._direct is None:
            await trio.sleep(_GATHER)
            return None
        await self._direct.gather(_BYTES * unacknowledged, _GATHER)
        return self._direct.read_now(_CHUNK)

    async def write(self) -> None:
        """Write whatever has gathered with one call, until the connection ends; after `close` write the rest."""
        engine, direct = self._engine, self._direct
        has_waited = False
        # A write that is cut off in the middle would leave a broken packet in front of DISCONNECT. `close` bounds it.
        with self._writing:
            try:
                while self._lost is None:
                    data: bytes | memoryview | list[bytes]
                    if self._left is not None:
                        (data, unwritten), self._left = self._left, None
                    else:
                        data, unwritten = engine.take()
                    self._taken.set()
                    if data:
                        if isinstance(data, list):
                            await self._write_parts(data)
                            data = b""
                        elif has_waited and direct is not None:
                            has_waited, data = False, direct.write_now(data)
                        if data:
                            await self.stream.send_all(data)
                        for on_done, packet_id in unwritten:
                            on_done(packet_id, "")
                    elif self._closing:
                        return
                    else:
                        self._wakened = trio.Event()
                        self._is_idle = True
                        await self._wakened.wait()
                        self._is_idle = False
                        has_waited = True
            except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
                self._lose(f"the connection broke: {why(exc)}")

    async def _write_parts(self, parts: list[bytes]) -> None:
        if self._direct is None or not await self._direct.write_parts(parts):
            for part in parts:
                await self.stream.send_all(part)

    def write_now(self) -> None:
        """Write what there is at once, if nothing is before it; else have it written."""
        engine, direct = self._engine, self._direct
        if direct is None or not self._is_idle or self._closing or self._left is not None or engine.has_large:
            return self._wakened.set()
        try:
            while not engine.has_large:
                data, unwritten = engine.take()
                self._taken.set()
                if not data:
                    return None
                assert not isinstance(data, list)  # which has large ones
                if rest := direct.write_now(data):
                    self._left = rest, unwritten
                    return self._wakened.set()
                for on_done, packet_id in unwritten:
                    on_done(packet_id, "")
            return self._wakened.set()
        except trio.BrokenResourceError as exc:
            return self._lose(f"the connection broke: {why(exc)}")

    async def watch(self, keepalive: int) -> None:
        """Send PINGREQ every half of the keepalive, and end the connection if nothing comes in another half."""
        while True:
            before = self._engine.received
            self._engine.ping()
            await trio.sleep(keepalive / 2)
            if self._engine.received == before and not self._is_paused:
                if self._engine.answers > _MOST_ANSWERS:
                    return self._lose("the broker does not read the answers to what it sends", silent=True)
                return self._lose(f"the broker has been silent for {keepalive / 2:g} s", silent=True)

    def close(self) -> None:
        """Say DISCONNECT behind whatever is not written yet, and bound the time for it."""
        if self._lost is None:
            self._engine.disconnect()
        self._closing = True
        self._wakened.set()
        self._writing.deadline = trio.current_time() + _FAREWELL

    def _lose(self, reason: str, code: int = 0, *, silent: bool = False) -> None:
        if self._lost is None:
            self._lost = SessionLost(reason, code, silent=silent)
            self._ended.set()
            self._answered.set()
            self._wakened.set()

    async def _wait_for_suback(self) -> None:
        while self._lost is None and not self._answered.is_set():
            before = self._engine.received
            with trio.move_on_after(self._options.connect_timeout) as scope:
                await self._answered.wait()
            if scope.cancelled_caught and self._engine.received == before and not self._is_paused:
                self._lose("the broker does not answer a subscription", silent=True)
        if self._lost is not None:
            raise self._lost


@contextlib.asynccontextmanager
async def open_native_session(
    options: MqttOptions, on_message: OnMessage, state: ClientState, max_payload: int
) -> AsyncIterator[NativeSession]:
    """Connect; see `open_session`."""

    async def speak(socket: trio.SocketStream) -> tuple[NativeSession, Connack]:
        stream = await open_stream(socket, options)
        direct = Direct(socket, has_layers=stream is not socket)
        session = NativeSession(stream, options, state.session, on_message, max_payload, direct)
        try:
            return session, await session.connect()
        except BaseException:
            await trio.aclose_forcefully(session.stream)
            raise

    endpoint, (session, connack) = await connect_to_any(options, state.endpoints, speak)
    try:
        async with trio.open_nursery() as nursery:
            # Nothing is awaited before the `try`: a cancellation there would leave a task in its shield.
            try:
                nursery.start_soon(session.write)
                nursery.start_soon(_serve_reading, session)  # it waits for `entered`
                nursery.start_soon(session.watch, connack.limits.keepalive or options.keepalive)
                session.entered.set()  # not before: a message that comes must find somebody who can acknowledge it
                yield session
            finally:
                session.close()
                session.reading.cancel()
                nursery.cancel_scope.cancel()
    finally:
        if session.lost is not None and session.lost.silent:
            state.endpoints.failed(endpoint)
        with trio.CancelScope(shield=True):  # else a cancellation would take the place of an error that goes through
            await trio.aclose_forcefully(session.stream)


async def _serve_reading(session: NativeSession) -> None:
    """Read until the block of the session is left, even if it is cancelled: the last answers are heard, too."""
    with session.reading:
        await session.read()
