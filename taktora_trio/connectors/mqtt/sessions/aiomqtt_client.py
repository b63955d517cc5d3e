"""aiomqtt's client as the session needs it: what it does not do itself, or not right."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import aiomqtt
import paho.mqtt.client as paho

from taktora_trio.connectors.mqtt.sessions.paho_properties import code_of, connack_properties
from taktora_trio.connectors.mqtt.wire.limits import NO_LIMITS, BrokerLimits, limits_of
from taktora_trio.connectors.mqtt.wire.reasons import reason_name

__all__ = ["Client"]

_MOST_UNWRITTEN = 2 * 65_535  # packets: more than a broker can make us send while it keeps to the rules


class Client(aiomqtt.Client):
    """aiomqtt's client with the session's own way for messages: straight from and to paho, without a task for each.

    It notices a connection that ends before aiomqtt has noticed that it began, which aiomqtt forgets.

    And it does not crash where the connection breaks just as paho wants to write: aiomqtt then adds a writer for a
    socket that paho has closed meanwhile, and the loop ends with EBADF.
    """

    deliver: Callable[[paho.MQTTMessage], None]
    finish: Callable[[int, str], None]
    session_present = False
    limits: BrokerLimits = NO_LIMITS
    was_closed = False
    """Whether the connection was ended by the broker, at whatever time."""
    is_gone = False
    """Whether the connection has ended, though aiomqtt may not know it."""
    farewell: int | None = None
    """With which reason code the broker ended the connection, if it said so (MQTT 5)."""
    _read: Callable[[], None]

    _holds = False
    _is_stuffed = False
    """Whether so many answers are still to be written that nothing more is read."""

    def hold(self, reading: bool) -> None:
        self._holds = reading
        self._switch_reading()

    def _switch_reading(self) -> None:
        sock = self._client.socket()
        if sock is not None and sock.fileno() >= 0:
            if self._holds or self._is_stuffed:
                self._loop.remove_reader(sock.fileno())
            else:
                self._loop.add_reader(sock.fileno(), self._read)
                self._loop.call_soon(self._read)  # what TLS has decoded already is nothing that the socket tells of

    def _look_at_unwritten(self) -> None:
        is_stuffed = len(self._client._out_packet) > _MOST_UNWRITTEN
        if is_stuffed != self._is_stuffed:
            self._is_stuffed = is_stuffed
            self._switch_reading()

    def _on_connect(
        self, client: paho.Client, userdata: Any, flags: Any, reason_code: Any, properties: Any = None
    ) -> None:
        self.session_present = bool(flags.session_present)
        if client.protocol == paho.MQTTv5:
            with contextlib.suppress(ValueError):  # values that the standard forbids: none, then
                self.limits = limits_of(connack_properties(properties))
        # The setter is for clients that aren't connected; before the first message it is as well.
        client._max_inflight_messages = min(client._max_inflight_messages, self.limits.receive_maximum)
        super()._on_connect(client, userdata, flags, reason_code, properties)
        self.hold(True)  # what comes must find somebody who can acknowledge it

    def _on_disconnect(
        self, client: paho.Client, userdata: Any, flags: Any, reason_code: Any, properties: Any = None
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            self.farewell = code_of(reason_code)
        self.was_closed = True
        if self._connected.cancelled():
            return  # nobody waits for it any more, which aiomqtt does not think of
        super()._on_disconnect(client, userdata, flags, reason_code, properties)
        self._ended()

    def _ended(self, exc: Exception | None = None) -> None:
        if exc is not None and not self._disconnected.done():
            self._disconnected.set_exception(exc)
        if self._disconnected.done() and not self._disconnected.cancelled():
            self.is_gone = True
            # Looked at, lest the loop fails with it should aiomqtt put another future in its place.
            self._disconnected.exception()

    def _on_message(self, client: paho.Client, userdata: Any, message: paho.MQTTMessage) -> None:
        self.deliver(message)

    def _on_publish(self, client: paho.Client, userdata: Any, mid: int, reason_code: Any, properties: Any) -> None:
        code = code_of(reason_code)
        self.finish(mid, reason_name(code) if code >= 0x80 else "")

    def _on_socket_open(self, client: paho.Client, userdata: Any, sock: Any) -> None:
        def read() -> None:
            try:
                client.loop_read()
                while not self._holds and getattr(client.socket(), "pending", int)() > 0:  # decoded by TLS already
                    client.loop_read()
                self._look_at_unwritten()
            except Exception as exc:  # noqa: BLE001 - whatever it is, the connection is over
                self._ended(exc)

        def start() -> None:
            self._misc_task = self._loop.create_task(self._misc_loop())

        self._read = read
        self._loop.call_soon_threadsafe(self._loop.add_reader, sock.fileno(), read)
        self._loop.call_soon_threadsafe(start)

    def _on_socket_register_write(self, client: paho.Client, userdata: object, sock: Any) -> None:
        def write() -> None:
            try:
                client.loop_write()
                self._look_at_unwritten()
            except Exception as exc:  # noqa: BLE001 - whatever it is, the connection is over
                self._ended(exc)

        def add_writer() -> None:
            now = client.socket()
            if now is not None and now is sock and now.fileno() >= 0:
                self._loop.add_writer(now.fileno(), write)

        self._loop.call_soon_threadsafe(add_writer)
