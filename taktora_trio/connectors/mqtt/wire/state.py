"""The client's side of what MQTT calls session state (MQTT 3.1.1, section 4.1): it outlives a connection."""

from __future__ import annotations

import hashlib
from collections import deque

from taktora_trio.connectors.mqtt.wire.message import Message

__all__ = ["SessionState"]


class SessionState:
    """What came and is not acknowledged yet, and which exchanges of QoS 2 are half done. Sans-I/O.

    Give the same one to each connection of a client: then a message that is still waiting here is not delivered again
    when the broker sends it again, and one at QoS 2 that was received is not received twice.
    """

    def __init__(self) -> None:
        self.released: set[int] = set()
        """Outbound QoS 2: for these PUBREC has come, so that PUBREL is what is to be sent (MQTT-4.3.3-1)."""
        self._order: deque[int] = deque()  # those of this connection, in which they are to be acknowledged
        self._waiting: dict[int, Message] = {}  # the same, as messages
        self._acknowledged: set[int] = set()  # of these
        # Came on an earlier connection, and not on this one yet. Of those that are safe only what it takes to know them
        # again is kept: a broker that never sends them again must not fill the memory.
        self._before: dict[int, Message] = {}
        self._safe: dict[int, bytes] = {}
        self._received: set[int] = set()  # inbound QoS 2: PUBREC was sent, PUBREL has not come yet

    def connected(self, session_present: bool) -> None:
        """A new connection begins."""
        if session_present:
            self._before.update(self._waiting)
            for packet_id in self._acknowledged:
                self._safe[packet_id] = _digest(self._before.pop(packet_id))
        else:
            self.released.clear()
            self._before.clear()
            self._safe.clear()
            self._received.clear()
        self._waiting.clear()
        self._order.clear()
        self._acknowledged.clear()

    def arrived(self, message: Message) -> bool:
        """Whether this message of QoS 1 or 2 is new, and to be delivered. Else call `due()`: it may be acknowledged.

        Raises `ValueError` if its packet identifier is in use by another one.
        """
        packet_id = message.packet_id
        if packet_id in self._waiting:
            if message.dup and _same(message, self._waiting[packet_id]):
                return False  # some brokers, against the rules, do not wait for another connection
            raise ValueError(f"packet identifier {packet_id} is in use")
        self._order.append(packet_id)
        self._waiting[packet_id] = message
        if self._before:
            held = self._before.pop(packet_id, None)  # another than this one the broker has given up
            if held is not None and _same(message, held):
                self._waiting[packet_id] = held
                return False
        if self._safe and self._safe.pop(packet_id, None) == _digest(message):
            self._acknowledged.add(packet_id)
            return False
        if message.qos == 2 and packet_id in self._received:
            self._acknowledged.add(packet_id)
            return False
        return True

    def acknowledge(self, message: Message) -> None:
        """This one is safe; `due()` says what may be sent now."""
        packet_id = message.packet_id
        if self._waiting.get(packet_id) is message:
            self._acknowledged.add(packet_id)
        elif self._before.get(packet_id) is message:
            del self._before[packet_id]
            self._safe[packet_id] = _digest(message)

    def acknowledge_next(self, message: Message) -> bool:
        """Whether this one may be acknowledged to the broker at once, as it mostly may: then that is done with.

        Else nothing has changed. What it costs is a fifth of `acknowledge` and `due`, of which `due` may still be due.
        """
        packet_id, order = message.packet_id, self._order
        if not order or order[0] != packet_id or self._waiting[packet_id] is not message:
            return False
        order.popleft()
        del self._waiting[packet_id]
        if message.qos == 2:
            self._received.add(packet_id)
        return True

    @property
    def has_more(self) -> bool:
        """Whether others are safe too, so that `due()` is worth asking."""
        return bool(self._acknowledged)

    def due(self) -> list[tuple[int, int]]:
        """Packet identifier and QoS of what is to be acknowledged to the broker now, in order; each once."""
        ready = []
        order, acknowledged = self._order, self._acknowledged
        while order and order[0] in acknowledged:
            packet_id = order.popleft()
            acknowledged.discard(packet_id)
            qos = self._waiting.pop(packet_id).qos
            if qos == 2:
                self._received.add(packet_id)
            ready.append((packet_id, qos))
        return ready

    def complete(self, packet_id: int) -> bool:
        """PUBREL has come: the broker may use the identifier for another message. Whether it was in use at all.

        Raises `ValueError` if the broker could not know that its message was received.
        """
        if packet_id in self._received:
            self._received.discard(packet_id)
            return True
        if packet_id in self._waiting:
            raise ValueError(f"a PUBREL for {packet_id}, which was not received yet")
        return False


def _digest(message: Message) -> bytes:
    head = f"{message.qos} {len(message.payload)} {message.topic}".encode()
    return hashlib.blake2b(head + message.payload, digest_size=16).digest()


def _same(message: Message, other: Message) -> bool:
    return message.topic == other.topic and message.qos == other.qos and message.payload == other.payload
