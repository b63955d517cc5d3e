"""What an app has in hand: against a model of a broker that forgets nothing, and gateways that are killed anywhere."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taktora_trio.host.in_hand import Arrival, InHand
from taktora_trio.transport.openings import Openings


def in_hand(taken: int = 0, acknowledged: int = 0, done: tuple[int, ...] = ()) -> InHand[str]:
    return InHand(taken, lambda number: number > acknowledged, done)


def arrives(hand: InHand[str], number: int, identity: int = 0, delivery_id: int = 0, again: bool = False) -> Arrival:
    return hand.arrives(number, identity, delivery_id, redelivered=again)


def test_one_after_the_other() -> None:
    hand = in_hand()
    for number in (1, 2, 3):
        assert arrives(hand, number) is Arrival.NEW
        hand.current = number
        assert hand.done_up_to == number - 1
        hand.done(number)
        assert hand.done_up_to == number


def test_pieces_in_any_order_release_the_finished_prefix() -> None:
    hand = in_hand()
    for number in (1, 2, 3, 4):
        arrives(hand, number)
        hand.pieces[number] = ""
    assert hand.done_up_to == 0
    for number, up_to in ((3, 0), (1, 1), (4, 1), (2, 4)):
        hand.done(number)
        assert hand.done_up_to == up_to


def test_a_plain_one_among_pieces() -> None:
    hand = in_hand()
    for number in (1, 2, 3):
        arrives(hand, number)
    hand.pieces[1], hand.current, hand.pieces[3] = "", 2, ""
    assert [hand.is_in_hand(number) for number in (0, 1, 2, 3, 4)] == [False, True, True, True, False]
    hand.done(1)
    assert hand.done_up_to == 1
    hand.done(2)
    assert hand.done_up_to == 2


def test_numbers_grow_and_what_lies_in_a_dead_gateways_memory_comes_again() -> None:
    hand = in_hand()
    assert [arrives(hand, number) for number in (1, 5, 3, 5, 6)] == [
        *(Arrival.NEW, Arrival.NEW, Arrival.STALE, Arrival.STALE, Arrival.NEW)
    ]


def test_a_repeat_of_what_is_in_hand_is_done_with_it() -> None:
    hand = in_hand()
    arrives(hand, 1, 70, 17)
    hand.current = 1
    for number in (4, 9):
        assert arrives(hand, number, 70, 17, again=True) is Arrival.REPEAT
        assert hand.done_up_to == 0
    hand.done(1)
    assert hand.done_up_to == 9


@pytest.mark.parametrize(
    ("identity", "delivery_id", "again"), [(71, 17, True), (70, 18, True), (70, 17, False), (70, 0, True)]
)
def test_what_is_another_message_in_any_way_is_new(identity: int, delivery_id: int, again: bool) -> None:
    hand = in_hand()
    arrives(hand, 1, 70, 17)
    assert arrives(hand, 2, identity, delivery_id, again) is Arrival.NEW


def test_what_may_have_been_acknowledged_is_given_again() -> None:
    hand = in_hand(acknowledged=1)
    for number in (1, 2):
        arrives(hand, number, 70, number)
    assert arrives(hand, 3, 70, 1, again=True) is Arrival.NEW
    assert arrives(hand, 4, 70, 2, again=True) is Arrival.REPEAT


def test_one_that_was_given_up_is_so_under_all_its_numbers() -> None:
    hand = in_hand()
    arrives(hand, 1, 70, 17)
    hand.current = 1
    arrives(hand, 3, 70, 17, again=True)
    assert hand.reason_of_repeat(3) is None
    assert hand.bury(1, "poison", 17) == [1, 3]
    hand.done(1)
    assert arrives(hand, 5, 70, 17, again=True) is Arrival.REPEAT
    assert hand.reason_of_repeat(5) == "poison"
    assert hand.done_up_to == 5


def test_a_successor_is_not_given_what_was_done_before_an_earlier_one() -> None:
    hand = in_hand(taken=4, done=(6, 8))
    assert [arrives(hand, number) for number in (5, 6, 7)] == [Arrival.NEW, Arrival.DONE, Arrival.NEW]
    assert arrives(hand, 9) is Arrival.NEW
    assert not hand.done_before, "nothing looks for 8 any more"


def test_it_stays_as_small_as_what_is_not_acknowledged() -> None:
    acknowledged = 0
    hand: InHand[str] = InHand(0, lambda number: number > acknowledged, bounds=lambda: (0, acknowledged))
    for number in range(1, 20_001):
        again = number % 3 == 0
        delivery_id = (number - again) % 65_535 + 1
        arrives(hand, number, 70, delivery_id, again)
        hand.bury(number, "poison", delivery_id)
        hand.done(number)
        acknowledged = number - 50
    kept = (hand._last, hand._identities, hand._first, hand._repeats, hand._buried)
    assert max(len(each) for each in kept) <= 300


# The model


@attrs.define(eq=False)
class Message:
    content: int
    was_sent: bool = False
    was_given: int = 0
    is_done: bool = False
    may_be_acknowledged: bool = False


@attrs.define
class Gateway:
    opened: int
    """The last number of the gateways before it."""
    sent: dict[int, Message] = attrs.field(factory=dict)
    """What it has handed over and not acknowledged."""
    ids: dict[int, int] = attrs.field(factory=dict)


class World:
    """A broker with three packet identifiers, a gateway, a reader and an app. Anything may happen in between."""

    def __init__(self) -> None:
        self.in_flight: dict[int, Message] = {}  # at the broker, by identifier
        self.number = self.acknowledged = self.left = self.done = 0
        self.memory: list[tuple[int, int, Message, bool]] = []
        self.hand: InHand[Message] = InHand(
            0, self.may_come_again, bounds=lambda: (self.gateway.opened, self.acknowledged)
        )
        self.hand._fewest = self.hand._limit = 1  # it forgets all the time
        self.given: list[Message] = []
        self.published = 0
        self.gateway = Gateway(0)
        self.is_up = True
        self.openings = Openings()

    def may_come_again(self, number: int) -> bool:
        return self.openings.may_come_again(number, self.gateway.opened, self.left, self.acknowledged)

    def broker_publishes(self, choice: int) -> None:
        free = [each for each in (1, 2, 3) if each not in self.in_flight]
        if free:
            delivery_id = free[choice % len(free)]
            self.in_flight[delivery_id] = message = Message(choice % 2)
            self.is_up = self.is_up and choice % 5 > 0  # else the connection is lost meanwhile
            if self.is_up:
                self.hand_over(delivery_id, message)
            message.was_sent = True

    def hand_over(self, delivery_id: int, message: Message) -> None:
        self.number += 1
        self.gateway.sent[self.number], self.gateway.ids[self.number] = message, delivery_id
        self.memory.append((self.number, delivery_id, message, message.was_sent))

    def gateway_is_killed(self, choice: int) -> None:
        kept = [] if choice % 2 else self.memory  # the reader may have it mapped still
        self.memory = []
        self.gateway, self.left = Gateway(self.number), self.acknowledged
        if choice % 7 == 0:  # the broker has lost the session
            self.in_flight.clear()
            for _, _, message, _ in kept:
                message.may_be_acknowledged = True  # as far as anybody can know
            self.left, self.acknowledged = self.number + 1, self.number
        self.is_up = True
        for delivery_id, message in self.in_flight.items():
            self.is_up = self.is_up and (choice + delivery_id) % 4 > 0  # else it is killed before it gets there
            if self.is_up:
                self.hand_over(delivery_id, message)
            message.was_sent = True
        self.memory = kept + self.memory if choice % 3 else self.memory + kept

    def gateway_acknowledges(self, choice: int) -> None:
        for number, message in list(self.gateway.sent.items()):
            if number > self.done:
                break
            del self.gateway.sent[number]
            self.acknowledged = number
            message.may_be_acknowledged = True
            assert message.is_done, "acknowledged, and the app is not done with it"
            if choice % 3 == 0:  # before it has left
                self.gateway_is_killed(choice // 3)
                break
            del self.in_flight[self.gateway.ids[number]]

    def reader_takes(self, choice: int) -> None:
        if not self.memory:
            return
        number, delivery_id, message, was_sent = self.memory.pop(0)
        arrival = self.hand.arrives(number, message.content, delivery_id, redelivered=was_sent)
        if arrival is Arrival.NEW:
            assert not message.was_given or message.may_be_acknowledged, "given twice, without need"
            message.was_given += 1
            self.hand.pieces[number] = message
            self.given.append(message)
        elif arrival is Arrival.REPEAT:
            assert message.was_given, "taken for a repeat of another message"
        self.release()

    def app_is_done(self, choice: int) -> None:
        if self.hand.pieces:
            number = list(self.hand.pieces)[choice % len(self.hand.pieces)]
            self.hand.pieces[number].is_done = True
            self.hand.done(number)
            self.release()

    def release(self) -> None:
        done = self.hand.done_up_to
        assert done >= self.done
        self.done = done


DEEDS: list[Callable[[World, int], None]] = [
    *(World.broker_publishes, World.gateway_is_killed, World.gateway_acknowledges),
    *(World.reader_takes, World.reader_takes, World.app_is_done, World.app_is_done),
]


@settings(max_examples=300)
@given(st.lists(st.tuples(st.sampled_from(DEEDS), st.integers(0, 41)), max_size=80))
def test_nothing_is_lost_and_nothing_repeated_without_need(
    deeds: list[tuple[Callable[[World, int], None], int]],
) -> None:
    world = World()
    for deed, choice in deeds:
        deed(world, choice)
    for _ in range(2):  # then everything runs: all that the broker has is done with, and acknowledged
        world.gateway_is_killed(4)
        while world.memory:
            world.reader_takes(0)
        while world.hand.pieces:
            world.app_is_done(0)
        world.gateway_acknowledges(1)
    assert not world.in_flight
