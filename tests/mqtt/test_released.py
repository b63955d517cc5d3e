"""Outbound QoS 2 over killed gateways: what the broker has taken once is never published to it anew."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from taktora_trio import Header
from taktora_trio.connectors.mqtt.exactly_once import ExactlyOnce
from taktora_trio.connectors.mqtt.wire.engine import Engine
from taktora_trio.connectors.mqtt.wire.message import Message
from taktora_trio.connectors.mqtt.wire.packet_ids import PacketIds
from taktora_trio.connectors.mqtt.wire.state import SessionState
from tests.brokers.packets import PUBLISH, PUBREL, split

IDS = 3
KILLS = ("kill before it counts", "kill when it counts", "kill before it is told")
_KINDS = {PUBLISH: 0x5002, PUBREL: 0x7002}


class Killed(Exception):
    """The gateway ends here."""


class Gateway:
    """All that ends with a gateway: its session, and its memory of what it has published."""

    session_present = True

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self.state = SessionState(released=PacketIds(shared.memory))
        self.resumable = self.state.released
        self.exactly_once = ExactlyOnce(range(1, IDS + 1), shared)  # type: ignore[arg-type]
        self._done = shared.done  # up to here, and the channel is told of it later
        self.connect()

    def connect(self) -> None:
        self.engine = Engine(4, self.state, lambda message: None, lambda: None, 1000)
        self.engine.receive(b"\x20\x02\x01\x00")
        self.exactly_once.connected(self)  # type: ignore[arg-type]
        self.next = self._done + 1

    def tell(self) -> None:
        """Count what is done, as the outbox does behind a batch of answers, and before it publishes anything new."""
        self._shared.done = self._done

    def publish_next(self) -> None:
        self.tell()
        number = self.next
        if number <= self._shared.count and number <= self._shared.done + IDS:
            self.next += 1
            message = Message("t", bytes((number,)), 2)
            self.exactly_once.publish(message, 1 + number % IDS, Header(number, 0), self._finished)

    def publish(self, message: Message, packet_id: int, on_done: object) -> None:
        self.engine.publish(message, packet_id, on_done)  # type: ignore[arg-type]

    def release(self, packet_id: int, on_done: object) -> None:
        self.engine.release(packet_id, on_done)  # type: ignore[arg-type]

    def _finished(self, packet_id: int, refusal: str) -> None:
        assert packet_id == 1 + (self._done + 1) % IDS, "in order"
        if self._shared.kills == "kill before it counts":
            raise Killed
        self._done += 1
        if self._shared.kills == "kill when it counts":
            self.tell()
            raise Killed


class Shared:
    """What outlives a gateway: the counts of the channel, and the session's memory."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.memory = memoryview(bytearray(PacketIds.SIZE))
        self.done = self.begun_before = 0
        self.kills = ""

    def begin(self, header: Header, begun: object) -> None:
        self.begun_before = header.sequence_number
        begun()  # type: ignore[operator]


class Broker:
    """Takes for a repetition whatever has an identifier that waits for PUBREL (MQTT 3.1.1, section 4.3.3)."""

    def __init__(self) -> None:
        self.half_done: dict[bytes, bytes] = {}
        self.delivered: list[int] = []

    def take(self, data: bytes) -> bytes:
        answer = b""
        for asked in split(data)[0]:
            if asked.kind == PUBLISH:
                message = asked.published()
                packet_id = message.packet_id
                if packet_id not in self.half_done:
                    self.half_done[packet_id] = message.payload
                    self.delivered.append(message.payload[0])
            else:
                packet_id = asked.body[:2]
                self.half_done.pop(packet_id, None)
            answer += struct.pack(">H", _KINDS[asked.kind]) + packet_id
        return answer


@given(
    count=st.integers(1, 8),
    steps=st.lists(
        st.sampled_from(["publish", "exchange", "exchange", "exchange", "read", "cut", "kill", *KILLS]),
        min_size=20,
        max_size=60,
    ),
)
def test_a_killed_gateway_publishes_nothing_anew_that_the_broker_has(count: int, steps: list[str]) -> None:
    shared, broker = Shared(count), Broker()
    gateway, to_us = Gateway(shared), b""
    for step in [*steps, "kill", *["publish", "publish", "publish", "exchange", "read"] * 4 * count]:
        try:
            match step:
                case "publish":
                    gateway.publish_next()
                case "exchange":
                    gateway.engine.receive(to_us)
                    data = gateway.engine.take()[0]
                    assert isinstance(data, bytes)
                    to_us = broker.take(data)
                case "read" | "kill before it counts" | "kill when it counts" | "kill before it is told":
                    data, to_us = to_us, b""
                    shared.kills = step
                    gateway.engine.receive(data)
                    if step != "read":
                        raise Killed
                    gateway.tell()
                case "cut":
                    gateway.connect()
                    to_us = b""
                case "kill":
                    raise Killed
        except Killed:
            gateway, to_us = Gateway(shared), b""
        shared.kills = ""
    assert broker.delivered == list(range(1, count + 1))
    assert shared.done == count
    assert not broker.half_done
