"""Inbound QoS 2 over killed gateways: what was acknowledged once is never received again, and every exchange ends."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from taktora_trio import MqttOptions
from taktora_trio.connectors.mqtt.sessions.client_state import client_state
from taktora_trio.connectors.mqtt.wire.engine import Engine
from taktora_trio.connectors.mqtt.wire.message import Message
from taktora_trio.connectors.mqtt.wire.packet_ids import PacketIds
from taktora_trio.connectors.mqtt.wire.state import SessionState

PRESENT = b"\x20\x02\x01\x00"
PUBREC, PUBREL, PUBCOMP = 0x5002, 0x6202, 0x7002


def publish(payload: int, packet_id: int, dup: bool) -> bytes:
    return bytes((0x34 | dup << 3, 6)) + b"\0\1t" + packet_id.to_bytes(2, "big") + bytes((payload,))


class Broker:
    """Sends numbered messages at QoS 2 under a few identifiers, which it uses again. It never forgets anything."""

    def __init__(self, count: int, ids: int) -> None:
        self.queue = list(range(count))
        self.free = list(range(1, ids + 1))
        self.published: dict[int, int] = {}
        self.released: list[int] = []
        self.completed = 0

    def more(self, again: bool = False) -> bytes:
        """All that it sends now; on a new connection also what it has sent before (MQTT-4.4.0-1)."""
        sent = b""
        if again:
            sent += b"".join(publish(payload, packet_id, True) for packet_id, payload in self.published.items())
            sent += b"".join(struct.pack(">HH", PUBREL, packet_id) for packet_id in self.released)
        while self.queue and self.free:
            packet_id = self.free.pop(0)
            self.published[packet_id] = self.queue.pop(0)
            sent += publish(self.published[packet_id], packet_id, False)
        return sent

    def take(self, data: bytes) -> bytes:
        answer = b""
        for kind, packet_id in struct.iter_unpack(">HH", data):
            if kind == PUBREC:
                if self.published.pop(packet_id, None) is not None:
                    self.released.append(packet_id)
                answer += struct.pack(">HH", PUBREL, packet_id)
            else:
                assert kind == PUBCOMP
                if packet_id in self.released:
                    self.released.remove(packet_id)
                    self.free.append(packet_id)
                    self.completed += 1
        return answer


@given(
    count=st.integers(1, 8),
    steps=st.lists(st.sampled_from(["read", "done", "write", "answer", "kill", "cut"]), max_size=60),
)
def test_a_killed_gateway_brings_nothing_again_that_it_had_begun_to_acknowledge(count: int, steps: list[str]) -> None:
    memory = memoryview(bytearray(PacketIds.SIZE))
    broker, acknowledged, in_hand = Broker(count, ids=3), list[int](), list[Message]()

    def came(message: Message) -> None:
        assert message.payload[0] not in acknowledged, "received twice"
        in_hand.append(message)

    def connect(state: SessionState) -> Engine:
        engine = Engine(4, state, came, lambda: None, 1000)
        engine.receive(PRESENT)
        return engine

    state = SessionState(PacketIds(memory))
    engine, to_us, to_broker = connect(state), b"", b""
    for step in [*steps, *["kill", *["read", "done", "write", "answer"] * 4 * count]]:
        if step == "read":
            engine.receive(to_us + broker.more())
            to_us = b""
        elif step == "done" and in_hand:
            message = in_hand.pop(0)
            acknowledged.append(message.payload[0])
            engine.acknowledge(message)
        elif step == "write":
            data = engine.take()[0]
            assert isinstance(data, bytes)
            to_broker += data
        elif step == "answer":
            to_us += broker.take(to_broker)
            to_broker = b""
        elif step in ("kill", "cut"):
            if step == "kill":
                in_hand.clear()
                state = SessionState(PacketIds(memory))
            to_broker = b""
            engine, to_us = connect(state), broker.more(again=True)
    assert sorted(acknowledged) == list(range(count))
    assert broker.completed == count
    assert not any(memory), "nothing is left of any"


def test_the_memory_is_of_one_session() -> None:
    opened: list[str] = []

    def memory(name: str, size: int) -> memoryview:
        opened.append(name)
        return memoryview(bytearray(size))

    def of(**options: object) -> MqttOptions:
        return MqttOptions(**{"broker": "mqtt://a.example", "client_id": "one", "persistent": True, **options})  # type: ignore[arg-type]

    client_state(of(persistent=False), memory)
    assert opened == [], "the broker keeps nothing either"
    for options in of(), of(), of(client_id="two"), of(broker="mqtt://b.example"):
        client_state(options, memory)
    assert [opened.index(name) for name in opened] == [0, 1, 0, 1, 4, 5, 6, 7]
