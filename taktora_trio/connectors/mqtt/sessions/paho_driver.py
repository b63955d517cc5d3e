"""Drives the paho client inside an aiomqtt client, by paho's public callbacks.

aiomqtt opens and closes the connection, subscribes and unsubscribes. Messages go straight to and from paho, for aiomqtt
acknowledges each before the app has it, hides the reason of a refusal, and takes a task for each. Reading and writing
are done here, since aiomqtt can't pause them. The end of a connection is noticed here, since aiomqtt forgets one that
comes before it has noticed the beginning. See docs/decisions/0030.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any

import aiomqtt
import paho.mqtt.client as paho
import trio
from paho.mqtt.enums import MQTTErrorCode

from taktora_trio.connectors.mqtt.sessions.paho_properties import code_of, connack_properties
from taktora_trio.connectors.mqtt.wire.limits import NO_LIMITS, BrokerLimits, limits_of
from taktora_trio.connectors.mqtt.wire.reasons import reason_name
from taktora_trio.errors import ConfigError

__all__ = ["PacketLog", "PahoDriver"]

# A broker may have 65,535 messages on their way to us, each with two answers at most, and paho logs a line for each
# packet that it reads or writes. One that makes us log more while something is unwritten is not read.
_MOST_UNWRITTEN = 4 * 65_535
_MISC = 1.0  # seconds between two looks at the keepalive
_KEEPALIVE_TIMEOUT, _PROTOCOL_ERROR = 0x8D, 0x82  # paho gives what it has found itself as MQTT 5's reason codes


class PacketLog(logging.Logger):
    """aiomqtt's logger, which counts: nothing public of paho tells how many packets are still to be written."""

    def __init__(self) -> None:
        library = logging.getLogger("mqtt")  # aiomqtt's own
        super().__init__(library.name, library.getEffectiveLevel())
        self.parent = library
        self.count = 0

    def log(self, level: int, *args: Any, **kwargs: Any) -> None:
        self.count += 1
        if level >= self.level:
            super().log(level, *args, **kwargs)


class PahoDriver:
    """One connection. Make it before aiomqtt connects, inside the loop that `client` was made in.

    `on_message` is called with each message. `on_published` is called with paho's number of each published message
    that is done, and the broker's reason for refusing it, which is empty if it did not.
    """

    session_present = False
    limits: BrokerLimits = NO_LIMITS
    was_closed = False
    """True once the connection has ended, at whatever time."""
    farewell: int | None = None
    """The reason code with which the broker ended the connection, if it gave one (MQTT 5)."""
    was_silent = False
    """True if the connection was ended because the broker gave no sign of life."""
    unsubscribed: tuple[int, ...] = ()
    """The reason codes of the last UNSUBACK, which aiomqtt does not hand on (MQTT 5)."""

    def __init__(
        self,
        client: aiomqtt.Client,
        packet_log: PacketLog,
        on_message: Callable[[paho.MQTTMessage], None],
        on_published: Callable[[int, str], None],
    ) -> None:
        self.paho = _paho_of(client)
        self.failure = ""
        """The reason for which the connection has ended; empty while it lasts."""
        self.ended = trio.Event()
        self._packet_log = packet_log
        self._on_message = on_message
        self._on_published = on_published
        self._loop = asyncio.get_running_loop()
        self._is_connected = False
        self._is_paused = False
        self._is_stuffed = False  # so much is still to be written that nothing more is read
        self._take_callbacks()

    def pause_reading(self) -> None:
        self._is_paused = True
        self._switch_reading()

    def resume_reading(self) -> None:
        self._is_paused = False
        self._switch_reading()

    async def serve_keepalive(self) -> None:
        """Ask for signs of life, and end a connection that gives none."""
        try:
            while self.paho.loop_misc() == MQTTErrorCode.MQTT_ERR_SUCCESS:  # noqa: ASYNC110 - paho has no event for it
                await trio.sleep(_MISC)
        except Exception as exc:  # noqa: BLE001 - whatever it is, the connection is over
            self._end(str(exc))

    def close(self) -> None:
        """Close the socket, which aiomqtt leaves open where connecting fails or a connection has ended by an error."""
        sock = self.paho.socket()
        if sock is not None:
            if (on_close := self.paho.on_socket_close) is not None:
                on_close(self.paho, None, sock)
            sock.close()

    # paho's callbacks: some in place of aiomqtt's, some before them

    def _take_callbacks(self) -> None:
        client = self.paho
        aiomqtt_on_connect: Any = client.on_connect
        aiomqtt_on_disconnect: Any = client.on_disconnect
        aiomqtt_on_unsubscribe: Any = client.on_unsubscribe

        def on_connect(client: paho.Client, userdata: Any, flags: Any, code: Any, properties: Any = None) -> None:
            self._connected(flags, properties)
            aiomqtt_on_connect(client, userdata, flags, code, properties)

        def on_disconnect(client: paho.Client, userdata: Any, flags: Any, code: Any, properties: Any = None) -> None:
            # aiomqtt need only know of an end that it has asked for: of any other it would keep an exception that
            # nobody fetches, or fail where nobody waits any more for the connection.
            if self._disconnected(flags, code):
                aiomqtt_on_disconnect(client, userdata, flags, code, properties)

        def on_unsubscribe(client: paho.Client, userdata: Any, mid: int, codes: Any, properties: Any = None) -> None:
            self.unsubscribed = tuple(map(code_of, codes))
            aiomqtt_on_unsubscribe(client, userdata, mid, codes, properties)

        def on_message(client: paho.Client, userdata: Any, message: paho.MQTTMessage) -> None:
            self._on_message(message)

        def on_publish(client: paho.Client, userdata: Any, mid: int, reason: Any, properties: Any) -> None:
            code = code_of(reason)
            self._on_published(mid, reason_name(code) if code >= 0x80 else "")

        def on_socket_open(client: paho.Client, userdata: Any, sock: Any) -> None:
            self._loop.call_soon_threadsafe(self._start, sock)  # aiomqtt connects in a thread

        def on_socket_register_write(client: paho.Client, userdata: Any, sock: Any) -> None:
            self._loop.call_soon_threadsafe(self._start_writing, sock)

        client.on_connect = on_connect
        client.on_disconnect = on_disconnect
        client.on_unsubscribe = on_unsubscribe
        client.on_message = on_message
        client.on_publish = on_publish
        client.on_socket_open = on_socket_open
        client.on_socket_register_write = on_socket_register_write

    def _connected(self, flags: Any, properties: Any) -> None:
        if self._is_connected:
            return  # a second CONNACK, of which paho takes no notice
        self._is_connected = True
        self.session_present = bool(flags.session_present)
        if self.paho.protocol == paho.MQTTv5:
            with contextlib.suppress(ValueError):  # values that the standard forbids: none, then
                self.limits = limits_of(connack_properties(properties))
        self.pause_reading()  # what comes must find somebody who can acknowledge it

    def _disconnected(self, flags: Any, code: Any) -> bool:
        """Return true if it was aiomqtt that ended the connection."""
        number = code_of(code)
        self.was_closed = True
        if flags.is_disconnect_packet_from_server:
            self.farewell = number
            self._end(f"the broker ended the connection: {reason_name(number) if number else 'normal disconnection'}")
            return False
        if number == 0:
            return True
        if number == _KEEPALIVE_TIMEOUT:
            self.was_silent = True
            self._end("the broker has been silent for as long as the keepalive")
        elif number == _PROTOCOL_ERROR:
            self._end("the broker broke the rules of MQTT")
        else:
            self._end("the connection broke")
        return False

    def _end(self, failure: str) -> None:
        self.was_closed = True
        if not self.failure:
            self.failure = failure
            self.ended.set()

    # Reading and writing

    def _start(self, sock: Any) -> None:
        if self._is_open(sock):
            self._loop.add_reader(sock.fileno(), self._read)

    def _start_writing(self, sock: Any) -> None:
        if self._is_open(sock):
            self._loop.add_writer(sock.fileno(), self._write)

    def _is_open(self, sock: Any) -> bool:
        """Return true if paho has not closed it meanwhile: the loop would then end with EBADF."""
        now = self.paho.socket()
        return now is not None and now is sock and now.fileno() >= 0

    def _read(self) -> None:
        try:
            self.paho.loop_read()
            while not self._is_paused and getattr(self.paho.socket(), "pending", int)() > 0:  # decoded by TLS already
                self.paho.loop_read()
        except Exception as exc:  # noqa: BLE001 - whatever it is, the connection is over
            self._end(str(exc))
        self._look_at_unwritten()

    def _write(self) -> None:
        try:
            self.paho.loop_write()
        except Exception as exc:  # noqa: BLE001 - whatever it is, the connection is over
            self._end(str(exc))
        self._look_at_unwritten()

    def _look_at_unwritten(self) -> None:
        if not self.paho.want_write():
            self._packet_log.count = 0
        is_stuffed = self._packet_log.count > _MOST_UNWRITTEN
        if is_stuffed != self._is_stuffed:
            self._is_stuffed = is_stuffed
            self._switch_reading()

    def _switch_reading(self) -> None:
        sock = self.paho.socket()
        if sock is not None and sock.fileno() >= 0:
            if self._is_paused or self._is_stuffed:
                self._loop.remove_reader(sock.fileno())
            else:
                self._loop.add_reader(sock.fileno(), self._read)
                self._loop.call_soon(self._read)  # what TLS has decoded already makes no socket readable


def _paho_of(client: aiomqtt.Client) -> paho.Client:
    """Return the paho client that an aiomqtt client has inside. It has no public name, so it is known by its type."""
    found = [part for part in vars(client).values() if isinstance(part, paho.Client)]
    if len(found) != 1:
        raise ConfigError(
            f"the aiomqtt session does not work with aiomqtt {aiomqtt.__version__}, which has {len(found)} paho clients"
            " inside, not one: install aiomqtt 2.5, or use session='native', the default"
        )
    return found[0]
