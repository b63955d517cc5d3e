"""The client's half of MQTT's session state (MQTT 3.1.1, section 4.1), which outlives a connection."""

from __future__ import annotations

from collections import deque

from taktora_trio.connectors.mqtt.wire.message import Message
from taktora_trio.connectors.mqtt.wire.packet_ids import PacketIds
from taktora_trio.digest import blake2b

__all__ = ["SessionState"]


class SessionState:
    """Inbound messages that are not acknowledged yet, and exchanges of QoS 2 that are half done. Sans-I/O.

    Give the same object to each connection of a client. Then a message that still waits here is not delivered again
    when the broker sends it again, and one of QoS 2 that was received is not received twice. With `received` and
    `released` in memory that outlives a killed gateway, the next one does not receive it twice either, nor publish one
    anew that the broker has.

    Acknowledgements go out in the order in which the messages came: PUBACKs among themselves (MQTT-4.6.0-2), and
    PUBRECs among themselves (MQTT-4.6.0-3). Neither wait for the other.
    """

    def __init__(self, received: PacketIds | None = None, released: PacketIds | None = None) -> None:
        self.released = PacketIds() if released is None else released
        """Outbound QoS 2: the identifiers for which PUBREC has come, so that PUBREL is sent next (MQTT-4.3.3-1).

        Whoever publishes another message under one discards it before: it stays here when its exchange is complete."""
        # Of this connection: the order in which to acknowledge, by QoS; the same messages; and those acknowledged.
        self._orders: tuple[deque[int], deque[int], deque[int]] = (deque(), deque(), deque())
        self._waiting: dict[int, Message] = {}
        self._acknowledged: set[int] = set()
        # These came on an earlier connection, and not on this one yet. Of those that are safe only a digest is kept, to
        # recognize them by: a broker that never sends them again must not fill the memory.
        self._before: dict[int, Message] = {}
        self._safe: dict[int, bytes] = {}
        self._received = PacketIds() if received is None else received  # QoS 2: PUBREC was sent, PUBREL has not come

    def connected(self, session_present: bool) -> None:
        """Begin a new connection, with or without the broker's half of the state."""
        if session_present:
            self._before.update(self._waiting)
            for packet_id in self._acknowledged:
                self._keep_safe(self._before[packet_id])
        else:
            self.released.clear()
            self._before.clear()
            self._safe.clear()
            self._received.clear()
        self._waiting.clear()
        for order in self._orders:
            order.clear()
        self._acknowledged.clear()

    def arrived(self, message: Message) -> bool:
        """Note an inbound message of QoS 1 or 2. Return true if it is new, and to be delivered.

        If it is not, call `due()`, for it may be acknowledged at once. Raises `ValueError` if another message uses its
        packet identifier.
        """
        packet_id = message.delivery_id
        if packet_id in self._waiting:
            if message.redelivered and _same(message, self._waiting[packet_id]):
                return False  # some brokers, against the rules, do not wait for another connection
            raise ValueError(f"packet identifier {packet_id} is in use")
        self._orders[message.qos].append(packet_id)
        self._waiting[packet_id] = message
        if self._before:
            held = self._before.pop(packet_id, None)  # if it is another message, the broker has given this one up
            if held is not None and _same(message, held):
                self._waiting[packet_id] = held
                return False
        if self._safe and (digest := self._safe.pop(packet_id, None)) is not None:
            if digest == _digest(message):
                self._acknowledged.add(packet_id)
                return False
            self._received.discard(packet_id)
        if message.qos == 2 and packet_id in self._received:
            self._acknowledged.add(packet_id)
            return False
        return True

    def acknowledge(self, message: Message) -> None:
        """Note that this message is safe. Call `due()` for the acknowledgements that may be sent now."""
        packet_id = message.delivery_id
        if self._waiting.get(packet_id) is message:
            self._acknowledged.add(packet_id)
            if message.qos == 2:
                # At once, though its PUBREC may wait for another one's, or for a connection: a gateway may be killed
                # meanwhile, and the next is not to receive again what the app is done with.
                self._received.add(packet_id)
        elif self._before.get(packet_id) is message:
            self._keep_safe(message)

    def _keep_safe(self, message: Message) -> None:
        """Note that this message of an earlier connection is safe: it is acknowledged when it comes again."""
        del self._before[message.delivery_id]
        self._safe[message.delivery_id] = _digest(message)
        if message.qos == 2:
            self._received.add(message.delivery_id)  # for the next gateway, which has no digest of it

    def acknowledge_next(self, message: Message) -> bool:
        """Acknowledge this message if it is the next in order, as it mostly is. Return false, and do nothing, if not.

        It costs a fifth of `acknowledge` and `due`. If `has_more`, call `due` after it.
        """
        packet_id, order = message.delivery_id, self._orders[message.qos]
        if not order or order[0] != packet_id or self._waiting[packet_id] is not message:
            return False
        order.popleft()
        del self._waiting[packet_id]
        if message.qos == 2:
            self._received.add(packet_id)
        return True

    @property
    def has_more(self) -> bool:
        """True if messages are safe that `due()` has not returned."""
        return bool(self._acknowledged)

    def due(self) -> list[tuple[int, int]]:
        """Return packet identifier and QoS of each acknowledgement to send now, in order. Each is returned once."""
        ready = []
        acknowledged = self._acknowledged
        for qos in (1, 2):
            order = self._orders[qos]
            while order and order[0] in acknowledged:
                packet_id = order.popleft()
                acknowledged.discard(packet_id)
                del self._waiting[packet_id]
                if qos == 2:
                    self._received.add(packet_id)
                ready.append((packet_id, qos))
        return ready

    def complete(self, packet_id: int) -> bool:
        """Note a PUBREL: the broker may now use the identifier again. Return false if it was not in use.

        Raises `ValueError` if the message was not acknowledged, so that no PUBREL can follow.
        """
        if packet_id in self._received:
            self._received.discard(packet_id)
            return True
        if packet_id in self._waiting:
            raise ValueError(f"a PUBREL for {packet_id}, which was not received yet")
        return False


def _digest(message: Message) -> bytes:
    head = f"{message.qos} {len(message.payload)} {message.topic}".encode()
    return blake2b(head + message.payload, digest_size=16).digest()


def _same(message: Message, other: Message) -> bool:
    return message.topic == other.topic and message.qos == other.qos and message.payload == other.payload
