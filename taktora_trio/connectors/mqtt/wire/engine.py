"""The client's side of MQTT without I/O: bytes in, bytes out. The native session drives it.

The path of a message is kept lean, since it decides what a gateway costs: the message is the only object that is made,
and outgoing bytes are gathered, to be written with one call.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from io import BytesIO

import msgspec

from taktora_trio.connectors.mqtt.wire import packets
from taktora_trio.connectors.mqtt.wire.answers import decode_ack, decode_suback
from taktora_trio.connectors.mqtt.wire.connack import Connack, decode_connack
from taktora_trio.connectors.mqtt.wire.exchanges import Exchanges
from taktora_trio.connectors.mqtt.wire.limits import NO_LIMITS
from taktora_trio.connectors.mqtt.wire.message import OWN_PACKET_IDS, Message, OnDone, OnMessage
from taktora_trio.connectors.mqtt.wire.packets import (
    Malformed,
    decode_publish,
    iter_u16_pairs,
    pack_u16,
)
from taktora_trio.connectors.mqtt.wire.reasons import reason_name
from taktora_trio.connectors.mqtt.wire.state import SessionState

__all__ = ["Disconnected", "Engine"]

SUBSCRIBE_ID = 65_535
_CONTROL_LIMIT = 2**18  # bytes: what a packet may have besides a payload (a topic, properties), and more than any has
_WHOLE = 2**14  # bytes of a payload from which on it is written as it is, without a copy
_LARGE = 2**15  # bytes from which a copy of what comes is avoided,
_HEAD = 4096  # and what is copied of a packet to look at it
_TOPICS = 1024  # encoded topics that are kept,
_SHORT = 256  # and the longest of them, in bytes


class Disconnected(Exception):
    """The broker has ended the connection by DISCONNECT. `code` is its reason code, and the text is the code's name."""

    def __init__(self, code: int) -> None:
        super().__init__(reason_name(code) if code else "normal disconnection")
        self.code = code


class Engine:
    """One connection. It calls `wake` when there is something to `take`, and when a SUBACK or UNSUBACK has come."""

    def __init__(
        self, version: int, state: SessionState, on_message: OnMessage, wake: Callable[[], None], max_payload: int
    ) -> None:
        self.connack: Connack | None = None
        self.refused: dict[str, str] | None = None
        """The filters that the last SUBACK or UNSUBACK refused, with the reason; `None` until it has come."""
        self.granted: dict[str, int] = {}
        self.received = 0
        """Counts the reads, to tell a silent broker from a busy one."""
        self.answers = 0
        """The number of answers that wait to be taken. It has no bound: the broker decides how many it asks for."""
        self.room: memoryview | None = None
        """Where the rest of a large message goes, if one has begun: read into it, and call `filled`."""
        self._version = version
        self._state = state
        self._on_message = on_message
        self._wake = wake
        self._idle = True
        self._limit = max_payload + _CONTROL_LIMIT
        self._rest: list[bytes] = []  # what came of a packet that is not whole yet,
        self._gathered = 0  # and the number of its bytes
        self._needed = 0
        self._begun: tuple[Message, BytesIO] | None = None  # the large message, of which `room` is not filled yet
        self._skip = 0
        self._out: list[bytes] = []
        self._large = 0  # payloads among these that are large
        self._unwritten: list[tuple[OnDone, int]] = []
        self._topics: dict[str, bytes] = {}
        self._limits = NO_LIMITS
        self._largest, self._highest_qos, self._retains_none = NO_LIMITS.largest_length, 2, False
        self._queued: deque[tuple[Message, int, OnDone]] = deque()
        self._exchanges = Exchanges(state, self._send)
        self._asked: tuple[int, list[str]] | None = None  # the kind of answer that is to come, and for which filters

    @property
    def unacknowledged(self) -> int:
        """The number of published messages that the broker has not answered."""
        return self._exchanges.count

    @property
    def queued(self) -> int:
        """The number of messages that wait because the broker takes no more at once."""
        return len(self._queued)

    @property
    def has_large(self) -> bool:
        """True if there is a large payload to take."""
        return self._large > 0

    # Outgoing

    def publish(self, message: Message, packet_id: int, on_done: OnDone) -> None:
        """See `Session.publish`."""
        exchanges = self._exchanges
        if message.qos:
            if exchanges.quota <= 0 or self._queued:
                self._queued.append((message, packet_id, on_done))
                return
            if message.qos == 2 and exchanges.resume(packet_id, on_done):
                return
        topic = self._topics.get(message.topic)
        if topic is None:
            topic = packets.string(message.topic)
            if len(topic) <= _SHORT:
                if len(self._topics) >= _TOPICS:
                    self._topics.clear()
                self._topics[message.topic] = topic
        payload, qos = message.payload, message.qos
        properties = b""
        if self._version == 5:
            metadata, data = message.metadata, message.correlation_id
            properties = packets.encode_properties(metadata, data) if data or metadata is not None else b"\0"
        length = len(topic) + len(properties) + len(payload) + (2 if qos else 0)
        if length > self._largest or qos > self._highest_qos or (message.retained and self._retains_none):
            on_done(packet_id, self._limits.refusal(length, qos, message.retained))
            return
        first = 0x30 | qos << 1 | message.retained | message.redelivered << 3
        head = bytes((first, length)) if length < 0x80 else bytes((first,)) + packets.varint(length)
        out = self._out
        if qos:
            exchanges.quota -= 1
            if qos == 1:
                exchanges.acks[packet_id] = on_done
            else:
                exchanges.recs[packet_id] = on_done
            out += (head, topic, pack_u16(packet_id), properties, payload)
        else:
            self._unwritten.append((on_done, packet_id))
            out += (head, topic, properties, payload)
        if len(payload) >= _WHOLE:
            self._large += 1
        if self._idle:
            self._idle = False
            self._wake()

    def acknowledge(self, message: Message) -> None:
        """See `Session.acknowledge`."""
        if self._state.acknowledge_next(message):
            self._send((b"\x40\x02" if message.qos == 1 else b"\x50\x02") + pack_u16(message.delivery_id))
            if self._state.has_more:
                self._send_due()
            return
        self._state.acknowledge(message)
        self._send_due()

    def release(self, packet_id: int, on_done: OnDone) -> None:
        """See `Session.release`."""
        self._exchanges.release(packet_id, on_done)

    def subscribe(self, filters: list[tuple[str, int]]) -> None:
        """Send the request; `refused` is set when the answer has come."""
        self.refused = None
        self._asked = packets.SUBACK, [name for name, _ in filters]
        self._send(packets.subscribe(self._version, SUBSCRIBE_ID, filters))

    def unsubscribe(self, filters: list[str]) -> None:
        """Send the request; `refused` is set when the answer has come."""
        self.refused = None
        self._asked = packets.UNSUBACK, filters
        self._send(packets.unsubscribe(self._version, SUBSCRIBE_ID, filters))

    def ping(self) -> None:
        self._send(packets.PINGREQ)

    def disconnect(self) -> None:
        self._send(b"\xe0\x00")

    def take(self) -> tuple[bytes | list[bytes], list[tuple[OnDone, int]]]:
        """Return all there is to write, and what to call once it is written. If nothing, `wake` tells of more.

        Where payloads are large it is a list of parts, to be written as they are: a copy costs more than a write.
        """
        data = self._parts() if self._large else b"".join(self._out)
        self._out.clear()
        self.answers = 0
        unwritten, self._unwritten = self._unwritten, []
        if not data:
            self._idle = True
        return data, unwritten

    def _parts(self) -> list[bytes]:
        """Return large payloads, and between them all the rest put together."""
        parts, small = list[bytes](), list[bytes]()
        for data in self._out:
            if len(data) < _WHOLE:
                small.append(data)
                continue
            parts += (b"".join(small), data)
            small.clear()
        if small:
            parts.append(b"".join(small))
        self._large = 0
        return parts

    def _send(self, data: bytes) -> None:
        self._out.append(data)
        self.answers += 1
        if self._idle:
            self._idle = False
            self._wake()

    def _send_due(self) -> None:
        for packet_id, qos in self._state.due():
            self._send((b"\x40\x02" if qos == 1 else b"\x50\x02") + pack_u16(packet_id))

    # Incoming

    def receive(self, data: bytes) -> None:
        """Handle received bytes. Raises `Malformed` and `Disconnected`; the connection is then over.

        Packets behind CONNACK are handled by the next call, so that the caller can get ready for them.
        """
        self.received += 1
        if self.room is not None:
            count = min(len(self.room), len(data))
            self.room[:count] = data[:count]
            self.filled(count)
            data = data[count:]
        if self._skip:
            if len(data) <= self._skip:
                self._skip -= len(data)
                return
            data = data[self._skip :]
            self._skip = 0
        if self._rest:
            self._gathered += len(data)
            if len(self._rest[-1]) < _HEAD:  # a broker may send byte by byte
                self._rest[-1] += data
            else:
                self._rest.append(data)
            if self._gathered < self._needed:
                self._begin_large()
                return
            data, self._rest = b"".join(self._rest), []
        position = self._parse(data)
        if position < len(data):
            self._rest = [data[position:]]
            self._gathered = len(data) - position
            self._begin_large()

    def filled(self, count: int) -> None:
        """So many bytes were read into `room`. The large message is delivered when that is full."""
        assert self.room is not None
        self.received += 1
        if count < len(self.room):
            self.room = self.room[count:]
            return
        assert self._begun is not None
        (message, whole), self._begun, self.room = self._begun, None, None
        self._deliver(msgspec.structs.replace(message, payload=whole.getvalue()))  # no copy: these are its own bytes

    def _begin_large(self) -> None:
        """Make room for the whole payload of a large message of which the head has come, so that the rest is read to
        where it stays, and copied nowhere else."""
        first = self._rest[0]
        if self._needed < _LARGE or len(first) < _HEAD or len(self._rest) > 1 or first[0] >> 4 != packets.PUBLISH:
            return
        length, start = self._length_at(first, 0)
        if length > self._limit or not self._has_short_head(first, start):
            return
        message = decode_publish(first[:_HEAD], first[0], start, _HEAD, self._version)
        head, behind = message.payload, memoryview(first)[_HEAD:]
        came = len(head) + len(behind)
        whole = BytesIO(bytes(len(head) + start + length - _HEAD))  # lends its bytes to be written to
        room = whole.getbuffer()
        room[: len(head)], room[len(head) : came] = head, behind
        self._begun, self.room, self._rest = (message, whole), room[came:], []

    def _has_short_head(self, data: bytes, start: int) -> bool:
        """Return true if the first `_HEAD` bytes of a large PUBLISH hold its topic and its properties."""
        topic_length = data[start] << 8 | data[start + 1]
        properties = start + 2 + topic_length + (2 if data[0] & 6 else 0)
        return topic_length < _HEAD // 2 and (self._version != 5 or data[properties] < 0x80)

    def _deliver(self, message: Message) -> None:
        try:
            new = not message.qos or self._state.arrived(message)
        except ValueError as exc:
            raise Malformed(str(exc)) from None
        if new:
            self._on_message(message)
        else:
            self._send_due()

    def _parse(self, data: bytes) -> int:
        """Handle all whole packets; return the position of the first incomplete one."""
        position, available = 0, len(data)
        version, on_message, arrived = self._version, self._on_message, self._state.arrived
        if self.connack is None:
            position = self._connack_at(data)
            self._needed = 0
            return position
        self._needed = 0
        while available - position >= 2:
            first, length, start = data[position], data[position + 1], position + 2
            if first == 0x40 and length == 2 and available - position >= 4:
                position = self._pubacks(data, position)
                continue
            if length >= 0x80:
                length, start = self._length_at(data, position)
                if not start:
                    return position
            stop = start + length
            if stop > available:
                if length > self._limit:
                    if first >> 4 != packets.PUBLISH:
                        raise Malformed(f"a packet of type {first >> 4} with {length} bytes")
                    if available - start >= _CONTROL_LIMIT:
                        self._skip = stop - available
                        self._deliver_oversized(data, first, start, length)
                        return available
                    stop = start + _CONTROL_LIMIT
                self._needed = stop - position
                return position
            if first >> 4 == packets.PUBLISH:
                message = decode_publish(data, first, start, stop, version)
                if message.qos:
                    try:
                        new = arrived(message)
                    except ValueError as exc:
                        raise Malformed(str(exc)) from None
                    if not new:
                        self._send_due()
                        position = stop
                        continue
                on_message(message)
            else:
                handle = _HANDLERS.get(first >> 4)
                if handle is None:
                    raise Malformed(f"a packet of type {first >> 4}, which is not for clients")
                handle(self, first, data, start, stop)
            position = stop
        return position

    def _pubacks(self, data: bytes, position: int) -> int:
        """Handle a run of PUBACKs without a reason code (brokers send many at once); return the position behind it."""
        whole = len(data) - (len(data) - position) % 4
        exchanges = self._exchanges
        acks = exchanges.acks
        for head, packet_id in iter_u16_pairs(memoryview(data)[position:whole]):
            if head != 0x4002:
                break
            position += 4
            on_done = acks.pop(packet_id, None)
            if on_done is None:
                exchanges.puback(packet_id)
            else:
                exchanges.quota += 1
                on_done(packet_id, "")
        if self._queued:
            self._publish_queued()
        return position

    def _length_at(self, data: bytes, position: int) -> tuple[int, int]:
        """Return the remaining length of the packet at `position` and where that begins; (0, 0) if it has not come."""
        length = 0
        for shift in (0, 7, 14, 21):
            position += 1
            if position >= len(data):
                self._needed = 0
                return 0, 0
            byte = data[position]
            length |= (byte & 0x7F) << shift
            if byte < 0x80:
                return length, position + 1
        raise Malformed("a length of more than four bytes")

    def _connack_at(self, data: bytes) -> int:
        if len(data) < 2:
            return 0
        if data[0] != 0x20:
            raise Malformed(f"an answer to CONNECT that begins with 0x{data[0]:02x}: is it an MQTT broker?")
        length, start = self._length_at(data, 0)
        if length > _CONTROL_LIMIT:
            raise Malformed("a CONNACK that is too large")
        stop = start + length
        if not start or stop > len(data):
            return 0
        self.connack = decode_connack(data, start, stop, self._version)
        limits = self._limits = self.connack.limits
        self._exchanges.quota = limits.receive_maximum
        self._largest = limits.largest_length
        self._highest_qos, self._retains_none = limits.maximum_qos, not limits.retain_available
        if not self.connack.code:
            self._state.connected(self.connack.session_present)
        return stop

    def _deliver_oversized(self, data: bytes, first: int, start: int, length: int) -> None:
        message = decode_publish(data, first, start, len(data), self._version)
        size = length - (len(data) - start) + len(message.payload) + message.skipped
        shell = msgspec.structs.replace(message, payload=b"", metadata=None, correlation_id=b"", skipped=size)
        self._deliver(shell)

    # One handler for each type of packet; see _HANDLERS

    def _on_puback(self, first: int, data: bytes, start: int, stop: int) -> None:
        self._exchanges.puback(*decode_ack("PUBACK", data, start, stop, self._version))
        if self._queued:
            self._publish_queued()

    def _on_pubrec(self, first: int, data: bytes, start: int, stop: int) -> None:
        self._exchanges.pubrec(*decode_ack("PUBREC", data, start, stop, self._version))
        if self._queued:
            self._publish_queued()

    def _on_pubcomp(self, first: int, data: bytes, start: int, stop: int) -> None:
        self._exchanges.pubcomp(*decode_ack("PUBCOMP", data, start, stop, self._version))
        if self._queued:
            self._publish_queued()

    def _on_pubrel(self, first: int, data: bytes, start: int, stop: int) -> None:
        packet_id, _ = decode_ack("PUBREL", data, start, stop, self._version)
        if first & 0x0F != 2:
            raise Malformed("a PUBREL with wrong flags")
        try:
            known = self._state.complete(packet_id)
        except ValueError as exc:
            raise Malformed(str(exc)) from None
        if known or self._version != 5:
            self._send(b"\x70\x02" + pack_u16(packet_id))
        else:
            self._send(b"\x70\x03" + pack_u16(packet_id) + b"\x92")

    def _on_suback(self, first: int, data: bytes, start: int, stop: int) -> None:
        kind = first >> 4
        if self._asked is None or self._asked[0] != kind:
            raise Malformed(f"a packet of type {kind} that answers nothing")
        names = self._asked[1]
        packet_id, codes = decode_suback(kind, data, start, stop, self._version, len(names))
        if packet_id != SUBSCRIBE_ID:
            raise Malformed(f"a packet of type {kind} that answers nothing")
        self._asked = None
        self.refused = {name: reason_name(code) for name, code in zip(names, codes, strict=True) if code >= 0x80}
        self.granted = {name: code for name, code in zip(names, codes, strict=True) if code <= 2}
        self._wake()

    def _on_pingresp(self, first: int, data: bytes, start: int, stop: int) -> None:
        """Do nothing: it is a sign of life, as is everything that comes."""

    def _on_disconnect(self, first: int, data: bytes, start: int, stop: int) -> None:
        if self._version != 5:
            raise Malformed("a DISCONNECT, which a broker may send with MQTT 5 alone")
        raise Disconnected(data[start] if stop > start else 0)

    def _publish_queued(self) -> None:
        queued, self._queued = self._queued, deque()
        while queued and self._exchanges.quota > 0 and not self._queued:
            self.publish(*queued.popleft())
        queued.extend(self._queued)
        self._queued = queued


_HANDLERS: dict[int, Callable[[Engine, int, bytes, int, int], None]] = {
    packets.PUBACK: Engine._on_puback,
    packets.PUBREC: Engine._on_pubrec,
    packets.PUBREL: Engine._on_pubrel,
    packets.PUBCOMP: Engine._on_pubcomp,
    packets.SUBACK: Engine._on_suback,
    packets.UNSUBACK: Engine._on_suback,
    packets.PINGRESP: Engine._on_pingresp,
    packets.DISCONNECT: Engine._on_disconnect,
}
"""By packet type. CONNACK is handled before these, and PUBLISH and runs of PUBACK are handled inline, for speed."""

assert OWN_PACKET_IDS <= SUBSCRIBE_ID
