from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taktora_trio.connectors.mqtt.wire.message import Message
from taktora_trio.connectors.mqtt.wire.packet_ids import PacketIds
from taktora_trio.connectors.mqtt.wire.state import SessionState


def message(packet_id: int, qos: int = 1, payload: bytes = b"x") -> Message:
    return Message("t", payload, qos, delivery_id=packet_id)


def connected() -> SessionState:
    state = SessionState()
    state.connected(False)
    return state


@given(st.permutations(range(1, 9)), st.booleans())
def test_acknowledgements_of_each_qos_go_out_in_the_order_of_arrival_each_once(order: list[int], fast: bool) -> None:
    state, safe = connected(), set[int]()
    sent: dict[int, list[int]] = {1: [], 2: []}
    messages = {number: message(number, 1 + number % 2) for number in range(1, 9)}
    assert all(state.arrived(messages[number]) for number in range(1, 9))
    for number in order:
        safe.add(number)
        if fast and state.acknowledge_next(messages[number]):
            sent[messages[number].qos].append(number)
        else:
            state.acknowledge(messages[number])
        for packet_id, qos in state.due():
            sent[qos].append(packet_id)
        for qos in (1, 2):
            own = [number for number in range(1, 9) if messages[number].qos == qos]
            first = next((number for number in own if number not in safe), 9)
            assert sent[qos] == [number for number in own if number < first], "no more, and no less"
    assert state.due() == []


def test_what_the_app_was_done_with_after_a_lost_connection_is_known_to_the_next_gateway() -> None:
    """The gateway is killed before it has connected again: no PUBREC was sent, and the broker sends it again."""
    memory = memoryview(bytearray(PacketIds.SIZE))
    state = SessionState(PacketIds(memory))
    state.connected(False)
    done, in_hand = message(1, 2), message(2, 2)
    assert state.arrived(done)
    assert state.arrived(in_hand)
    state.acknowledge(done)  # by a session that is lost, which sends nothing
    successor = SessionState(PacketIds(memory))
    successor.connected(True)
    assert not successor.arrived(message(1, 2))
    assert successor.arrived(message(2, 2))
    assert successor.due() == [(1, 2)]


def test_what_was_received_at_qos_2_is_known_to_the_next_gateway() -> None:
    memory = memoryview(bytearray(PacketIds.SIZE))
    state = SessionState(PacketIds(memory))
    state.connected(False)
    first, second, third = (message(packet_id, 2) for packet_id in (1, 2, 65_535))
    assert all(map(state.arrived, (first, second, third)))
    state.acknowledge(first)
    state.acknowledge(third)
    assert state.due() == [(1, 2)], "the second is before the third"
    successor = SessionState(PacketIds(memory))
    successor.connected(True)
    assert not successor.arrived(message(1, 2))
    assert successor.due() == [(1, 2)]
    assert successor.arrived(message(2, 2))
    assert successor.complete(1)
    last = SessionState(PacketIds(memory))
    last.connected(True)
    assert last.arrived(second := message(1, 2)), "it was complete"
    assert last.acknowledge_next(second)
    last.connected(False)
    assert last.arrived(message(1, 2)), "the broker knows nothing of it"


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 65_535)), max_size=50))
def test_packet_ids_are_a_set(steps: list[tuple[bool, int]]) -> None:
    ids, model = PacketIds(), set[int]()
    for adds, packet_id in steps:
        (ids.add if adds else ids.discard)(packet_id)
        (model.add if adds else model.discard)(packet_id)
        near = {packet_id, packet_id ^ 1, max(1, packet_id - 8)}
        assert {one for one in near | model if one in ids} == (near | model) & model
    ids.clear()
    assert not any(one in ids for one in model)


def test_what_waits_here_is_known_when_it_comes_again() -> None:
    state = connected()
    first, second = message(1), message(2)
    assert state.arrived(first)
    assert state.arrived(second)
    state.acknowledge(second)  # safe, but the one before it is not, and then the connection breaks
    state.connected(True)
    assert not state.arrived(message(1))
    assert not state.arrived(message(2))
    assert state.due() == []
    assert state.acknowledge_next(first)
    assert state.has_more
    assert state.due() == [(2, 1)]
    assert not state.has_more


def test_a_broker_that_does_not_wait_for_another_connection() -> None:
    state = connected()
    first = message(1)
    assert state.arrived(first)
    assert not state.arrived(Message("t", b"x", 1, delivery_id=1, redelivered=True))
    with pytest.raises(ValueError, match="in use"):
        state.arrived(Message("t", b"another", 1, delivery_id=1, redelivered=True))
    assert state.acknowledge_next(first)
    assert state.due() == []


def test_very_many_that_come_again_take_no_time() -> None:
    state = connected()
    messages = [message(number) for number in range(1, 65_536)]
    assert all(map(state.arrived, messages))
    state.connected(True)
    assert not any(map(state.arrived, messages))  # minutes, if each were looked for among the others
    assert all(map(state.acknowledge_next, messages))


def test_an_identifier_that_the_broker_has_given_to_another_message() -> None:
    state = connected()
    old = message(1)
    assert state.arrived(old)
    state.connected(True)
    new = message(1, payload=b"another")
    assert state.arrived(new)
    state.acknowledge(old)
    assert state.due() == []
    state.acknowledge(new)
    assert state.due() == [(1, 1)]


def test_a_broker_that_kept_nothing_is_not_told_what_it_does_not_know() -> None:
    state = connected()
    old = message(1)
    assert state.arrived(old)
    state.connected(False)
    state.acknowledge(old)
    assert state.due() == []
    assert state.arrived(message(1))


def test_qos_2_is_received_once_until_it_is_complete() -> None:
    state = connected()
    first = message(1, 2)
    assert state.arrived(first)
    assert state.acknowledge_next(first)
    state.connected(True)
    assert not state.arrived(message(1, 2))
    assert state.due() == [(1, 2)]
    state.complete(1)
    assert state.arrived(message(1, 2))
