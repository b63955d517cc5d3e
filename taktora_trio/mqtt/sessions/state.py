"""The client's side of what MQTT calls session state (MQTT 3.1.1, section 4.1): it outlives a connection."""

from __future__ import annotations

from collections import deque

from taktora_trio.mqtt.sessions.session import Message

__all__ = ["SessionState"]


class SessionState:
    """What came and is not acknowledged yet, and which exchanges of QoS 2 are half done. Sans-I/O.

    Give the same one to each connection of a client: then a message that is still waiting here is not delivered again
    when the broker sends it again, and one at QoS 2 that was received is not received twice.
    """

    def __init__(self) -> None:
        self.released: set[int] = set()
        """Outbound QoS 2: for these PUBREC has come, so that PUBREL is what is to be sent (MQTT-4.3.3-1)."""
        self._waiting: dict[int, Message] = {}
        self._acknowledged: set[int] = set()
        self._order: deque[int] = deque()  # those of this connection, in which they are to be acknowledged
        self._received: set[int] = set()  # inbound QoS 2: PUBREC was sent, PUBREL has not come yet

    def connected(self, session_present: bool) -> None:
        """A new connection begins."""
        self._order.clear()
        if not session_present:
            self.released.clear()
            self._waiting.clear()
            self._acknowledged.clear()
            self._received.clear()

    def arrived(self, message: Message) -> bool:
        """Whether this message of QoS 1 or 2 is new, and to be delivered. Else call `due()`: it may be acknowledged.

        Raises `ValueError` if its packet identifier is in use by another one.
        """
        packet_id = message.packet_id
        held = self._waiting.get(packet_id)
        if held is not None:
            if packet_id in self._order:
                raise ValueError(f"packet identifier {packet_id} is in use")
            self._order.append(packet_id)
            if held.topic == message.topic and held.payload == message.payload and held.qos == message.qos:
                return False
            self._acknowledged.discard(packet_id)  # the broker gave up the one that we know
        else:
            self._order.append(packet_id)
        if message.qos == 2 and packet_id in self._received:
            self._waiting[packet_id] = message
            self._acknowledged.add(packet_id)
            return False
        self._waiting[packet_id] = message
        return True

    def acknowledge(self, message: Message) -> None:
        """This one is safe; `due()` says what may be sent now."""
        if self._waiting.get(message.packet_id) is message:
            self._acknowledged.add(message.packet_id)

    def acknowledge_next(self, message: Message) -> bool:
        """Whether this one may be acknowledged to the broker at once, as it mostly may: then that is done with.

        Else nothing has changed. The same as `acknowledge` and `due`, for a fifth of what they cost.
        """
        packet_id, order = message.packet_id, self._order
        if self._acknowledged or not order or order[0] != packet_id or self._waiting[packet_id] is not message:
            return False
        order.popleft()
        del self._waiting[packet_id]
        if message.qos == 2:
            self._received.add(packet_id)
        return True

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

    def complete(self, packet_id: int) -> None:
        """PUBREL has come: the broker may use the identifier for another message."""
        self._received.discard(packet_id)
