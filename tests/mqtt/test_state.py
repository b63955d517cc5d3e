from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taktora_trio.connectors.mqtt.wire.message import Message
from taktora_trio.connectors.mqtt.wire.state import SessionState


def message(packet_id: int, qos: int = 1, payload: bytes = b"x") -> Message:
    return Message("t", payload, qos, packet_id=packet_id)


def connected() -> SessionState:
    state = SessionState()
    state.connected(False)
    return state


@given(st.permutations(range(1, 9)), st.booleans())
def test_acknowledgements_go_out_in_the_order_of_arrival_each_once(order: list[int], fast: bool) -> None:
    state, sent = connected(), list[int]()
    messages = {number: message(number, 1 + number % 2) for number in range(1, 9)}
    assert all(state.arrived(messages[number]) for number in range(1, 9))
    for number in order:
        if fast and state.acknowledge_next(messages[number]):
            sent.append(number)
        else:
            state.acknowledge(messages[number])
        for packet_id, qos in state.due():
            assert qos == messages[packet_id].qos
            sent.append(packet_id)
        assert sent == list(range(1, len(sent) + 1))
    assert sent == list(range(1, 9))
    assert state.due() == []


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
    assert not state.arrived(Message("t", b"x", 1, packet_id=1, dup=True))
    with pytest.raises(ValueError, match="in use"):
        state.arrived(Message("t", b"another", 1, packet_id=1, dup=True))
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
