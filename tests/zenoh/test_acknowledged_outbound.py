"""Acknowledged delivery, both ends of it: a message is a query, which is sent again until somebody has replied."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any, cast

import pytest
import trio
import trio.lowlevel
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from taktora_trio import Envelope, Header, Metadata, RawCodec
from taktora_trio.connectors.expiry import EXPIRED
from taktora_trio.connectors.zenoh.metadata import Beside, Carrier, attached, read_beside
from taktora_trio.connectors.zenoh.queries.acknowledged_inbound import Acknowledging, Asked
from taktora_trio.connectors.zenoh.queries.acknowledged_outbound import AcknowledgedChannel
from taktora_trio.connectors.zenoh.queries.numbering import AGAIN, NUMBER, SENDER, Numbering
from taktora_trio.connectors.zenoh.session import Quality, Question, Sample, Session


class Wire(Question):
    """A query on its way, as both ends see it. What is said to the sender comes when `tell` is called."""

    def __init__(self, payload: bytes, encoding: str, attachment: bytes, *calls: Callable[..., None]) -> None:
        self.key, self.payload, self.encoding, self.attachment = "key", payload, encoding, attachment
        self._on_reply, self._on_failure, self._on_end = calls
        self._to_tell: list[Callable[[], None]] = []
        self.is_closed = False

    def reply(self, key: str, payload: bytes, encoding: str = "", attachment: bytes = b"", timestamp: str = "") -> None:
        self._to_tell.append(partial(self._on_reply, Sample(key, payload)))

    def fail(self, payload: bytes) -> None:
        self._to_tell.append(partial(self._on_failure, payload))

    def close(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            self._to_tell.append(self._on_end)

    def end(self) -> None:
        """Its receiver has gone: what that has said and did not arrive is lost."""
        self.is_closed, self._to_tell = True, [self._on_end]

    def tell(self) -> None:
        calls, self._to_tell = self._to_tell, []
        for call in calls:
            call()

    @property
    def beside(self) -> Beside:
        return read_beside(self.encoding, self.attachment)

    @property
    def number(self) -> int:
        at = Numbering.decoded(self.beside.own[NUMBER])
        assert at is not None
        return at.number


class Wires:
    """Stands in for a session: keeps what is asked."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.asked: deque[Wire] = deque()
        """What did not reach a receiver yet."""
        self.is_asked = trio.Event()
        self.open: list[Wire] = []
        self.troubles: list[str] = []
        self.done: list[tuple[int, str]] = []
        self.channel = AcknowledgedChannel(
            "key", Quality(), cast(Session, self), "me", Carrier(RawCodec()).carry, self.troubles.append
        )
        self.channel.matching(True)

    ask_in_turn = Session.ask_in_turn

    def ask(self, key: str, payload: bytes, quality: Quality, *rest: Any, complete: bool) -> None:
        encoding, attachment, timeout, *calls = rest
        assert complete  # else a storage of values would count as a receiver
        wire = Wire(payload, encoding, attachment, *calls)
        self.nursery.start_soon(self.end_in_time, wire, timeout)
        self.asked.append(wire)
        self.is_asked.set()
        self.open.append(wire)

    def lose(self) -> list[int]:
        """Lose what was asked, though it does not end, and return the numbers."""
        numbers = [wire.number for wire in self.asked]
        self.asked.clear()
        self.is_asked = trio.Event()
        return numbers

    def tell(self) -> None:
        """Let the sender hear all that was said."""
        for wire in self.open.copy():
            wire.tell()
        self.open = [wire for wire in self.open if not wire.is_closed]

    def nobody_is_there(self) -> list[int]:
        """End all queries without a reply, and return their numbers."""
        numbers = [wire.number for wire in self.asked]
        for wire in self.open:
            wire.end()
        self.asked.clear()
        self.is_asked = trio.Event()
        self.tell()
        return numbers

    async def end_in_time(self, wire: Wire, timeout: float) -> None:
        await trio.sleep(timeout)
        if wire in self.open:
            wire.end()
            self.tell()

    def publish(self, *numbers: int, expiry: int | None = None, again: bool = False) -> None:
        for number in numbers:
            self.channel.publish(message(number, expiry), self.on_done, again=again)

    def on_done(self, number: int, refusal: str) -> None:
        self.done.append((number, refusal))


def message(number: int, expiry: int | None = None) -> Envelope:
    header = Header(number, time.time_ns(), time.clock_gettime_ns(time.CLOCK_BOOTTIME))
    metadata = None if expiry is None else Metadata(message_expiry=expiry)
    return Envelope(b"%d" % number, header, "key", metadata)


@pytest.fixture
async def wires(nursery: trio.Nursery) -> Wires:
    wires = Wires(nursery)
    nursery.start_soon(wires.channel.serve)
    return wires


async def test_a_message_is_done_at_the_first_reply(wires: Wires, autojump_clock: trio.testing.MockClock) -> None:
    wires.publish(1, 2)
    first, second = wires.asked
    second.reply("key", b"")
    second.tell()
    assert wires.done == [(2, "")]
    first.reply("key", b"")
    first.reply("key", b"")  # of another receiver
    first.close()
    first.tell()
    assert wires.done == [(2, ""), (1, "")]


async def test_what_nobody_took_is_sent_again_in_order_from_the_first(
    wires: Wires, autojump_clock: trio.testing.MockClock
) -> None:
    wires.publish(1, 2, 3)
    wires.asked[0].reply("key", b"")
    for wire in wires.asked:
        wire.close()
    wires.asked.clear()
    wires.tell()
    wires.publish(4)
    assert not wires.asked  # it must not overtake the others
    await trio.sleep(0.1)
    assert [wire.number for wire in wires.asked] == [2, 3, 4]
    assert [AGAIN in wire.beside.own for wire in wires.asked] == [True, True, False]
    wires.publish(5)
    assert wires.asked[-1].number == 5
    assert wires.done == [(1, "")]


async def test_while_nobody_is_there_one_message_a_second_looks_for_somebody(
    wires: Wires, autojump_clock: trio.testing.MockClock
) -> None:
    wires.channel.matching(False)
    wires.publish(*range(1, 51))
    wires.nobody_is_there()
    sent: list[int] = []
    for _ in range(60):
        await trio.sleep(1)
        sent += wires.nobody_is_there()
    assert set(sent) == {1}
    assert 20 < len(sent) < 80
    assert wires.troubles[-1] == "nobody is there for its messages: 50 wait"
    wires.channel.matching(True)
    await trio.sleep(0.001)
    assert [wire.number for wire in wires.asked] == list(range(1, 51))  # without delay


async def test_a_look_that_is_answered_sends_the_rest(wires: Wires, autojump_clock: trio.testing.MockClock) -> None:
    """What is said of somebody being there may come late."""
    wires.channel.matching(False)
    wires.publish(1, 2, 3)
    wires.nobody_is_there()
    await trio.sleep(1)
    (wire,) = wires.asked
    wire.reply("key", b"")
    wire.close()
    wires.channel.matching(True)
    wires.tell()
    wires.asked.clear()
    await trio.sleep(0.1)
    assert [wire.number for wire in wires.asked] == [2, 3]


async def test_a_look_that_came_too_early_is_sent_again_before_the_rest(
    wires: Wires, autojump_clock: trio.testing.MockClock
) -> None:
    """Also by a receiver that takes whatever comes, the first is had first."""
    wires.channel.matching(False)
    wires.publish(1, 2, 3)
    assert not wires.asked
    await trio.sleep(0.1)
    (look,) = wires.asked
    wires.asked.clear()
    wires.channel.matching(True)
    await trio.sleep(0.001)
    assert not wires.asked  # it may be there, or not
    look.close()
    wires.tell()
    await trio.sleep(0.001)
    assert [wire.number for wire in wires.asked] == [1, 2, 3]
    assert AGAIN in wires.asked[0].beside.own  # nobody knows


async def test_what_nobody_can_have_had_is_not_said_to_come_again(
    wires: Wires, autojump_clock: trio.testing.MockClock
) -> None:
    wires.channel.matching(False)
    wires.publish(1, 2)
    await trio.sleep(0.1)
    wires.nobody_is_there()
    wires.channel.matching(True)
    await trio.sleep(0.001)
    assert [AGAIN in wire.beside.own for wire in wires.asked] == [False, False]
    wires.channel.matching(False)
    wires.nobody_is_there()  # somebody was when they were sent
    wires.channel.matching(True)
    await trio.sleep(0.001)
    assert [AGAIN in wire.beside.own for wire in wires.asked] == [True, True]


async def test_a_receiver_that_refuses_again_and_again_is_asked_less_and_less_often(
    wires: Wires, autojump_clock: trio.testing.MockClock
) -> None:
    wires.publish(1)
    times = []
    for _ in range(20):
        await wires.is_asked.wait()
        wires.nobody_is_there()
        times.append(trio.current_time())
    assert times[1] - times[0] < 0.05
    assert times[-1] - times[-2] > 0.5
    assert wires.troubles[-1] == "its messages are not taken: 1 wait"


async def test_a_failure_is_a_refusal_with_its_reason(wires: Wires, autojump_clock: trio.testing.MockClock) -> None:
    wires.publish(1, 2)
    first, second = wires.asked
    first.fail(b"no\nroom")
    first.close()
    second.fail(b"not me")
    second.reply("key", b"")  # another one has it
    second.close()
    wires.tell()
    assert wires.done == [(1, "no\\nroom"), (2, "")]


async def test_a_query_that_does_not_end_is_asked_again_by_itself_and_less_and_less_often(
    wires: Wires, autojump_clock: trio.testing.MockClock
) -> None:
    wires.publish(1, 2, 3)
    first, lost, third = wires.asked
    wires.lose()
    for wire in (first, third):
        wire.reply("key", b"")
        wire.close()
    wires.tell()
    times = []
    for _ in range(6):
        await wires.is_asked.wait()
        times.append(trio.current_time())
        again = wires.asked[0]
        assert (wires.lose(), AGAIN in again.beside.own) == ([2], True)
    assert [round(later - before) for before, later in pairwise(times)] == [10, 20, 40, 60, 60]
    assert times[0] < 6
    lost.reply("key", b"")  # too late: this query has ended
    again.reply("key", b"")
    wires.tell()
    assert wires.done == [(1, ""), (3, ""), (2, "")]
    assert not wires.troubles  # an app may take so long


async def test_what_is_behind_a_lost_query_comes_behind_it(
    wires: Wires, autojump_clock: trio.testing.MockClock
) -> None:
    receiver = Acknowledging()
    wires.publish(1, 2, 3)
    wires.asked.popleft()
    taken: list[int] = []
    with trio.fail_after(10):
        while len(taken) < 3:
            await wires.is_asked.wait()
            wires.is_asked = trio.Event()
            while wires.asked:
                if (message := receiver.take(wires.asked.popleft())) is not None:
                    taken.append(int(message.payload))
            wires.tell()
    assert taken == [1, 2, 3]


async def test_a_message_that_expires_while_nobody_is_there_is_not_sent(
    wires: Wires, autojump_clock: trio.testing.MockClock
) -> None:
    wires.publish(1)
    wires.publish(2, expiry=3)
    wires.publish(3, expiry=60)
    wires.nobody_is_there()
    lives: list[int | None] = []
    for _ in range(10):
        await trio.sleep(1)
        lives += [metadata.message_expiry for wire in wires.asked if (metadata := wire.beside.metadata) is not None]
        wires.nobody_is_there()
    assert wires.done == [(2, EXPIRED)]
    assert lives[-1] is not None
    assert 48 < lives[-1] < 54  # it has waited


async def test_a_message_that_a_receiver_has_in_hand_does_not_expire(
    wires: Wires, autojump_clock: trio.testing.MockClock
) -> None:
    wires.publish(1, expiry=2)
    await trio.sleep(30)
    assert not wires.done
    wires.asked[-1].reply("key", b"")
    wires.tell()
    assert wires.done == [(1, "")]


# The receiver


def asked(number: int, before: int = 0, oldest: int = 0, *, sender: str = "me", again: bool = False) -> Wire:
    own = [(SENDER, sender.encode()), (NUMBER, Numbering(number, before, oldest or number).encoded())]
    if again:
        own.append((AGAIN, b""))
    return Wire(b"%d" % number, "", attached(None, b"", own), *[lambda *args: None] * 3)


def was_answered(wire: Wire) -> bool:
    return wire.is_closed and len(wire._to_tell) == 2


def test_a_message_that_is_in_hand_is_given_to_the_app_once_and_its_last_query_is_answered() -> None:
    receiver = Acknowledging()
    first, again = asked(1), asked(1, again=True)
    message = receiver.take(first)
    assert message is not None
    assert receiver.take(again) is None
    assert first.is_closed
    assert not was_answered(first)
    assert not again.is_closed
    receiver.acknowledge(message)
    assert was_answered(again)
    late = asked(1, again=True)
    assert receiver.take(late) is None
    assert was_answered(late)  # the app was done with it


def test_what_is_behind_a_message_that_did_not_come_is_not_taken() -> None:
    receiver = Acknowledging()
    assert receiver.take(asked(1))
    for refused in (asked(3, 2, 1), asked(4, 3, 1)):
        assert receiver.take(refused) is None
        assert refused.is_closed
        assert not was_answered(refused)
    assert [receiver.take(asked(number, number - 1, 1)) is not None for number in (2, 3, 4)] == [True] * 3


def test_one_that_comes_later_than_others_begins_where_these_have_what_came_before() -> None:
    receiver = Acknowledging()
    assert receiver.take(asked(7, 6, 5)) is None
    assert receiver.take(asked(8, 7, 6)) is None
    message = receiver.take(asked(9, 8, 8))
    assert message is not None
    assert receiver.take(asked(10, 9, 8))
    receiver.acknowledge(message)
    # The others have gone, and had not had it: late is better than never.
    assert receiver.take(asked(8, 0, 8, again=True))


def test_numbers_may_be_left_out() -> None:
    receiver = Acknowledging()
    assert receiver.take(asked(3))
    assert receiver.take(asked(7, 3, 3))
    assert receiver.take(asked(20, 0, 20))


def test_each_sender_counts_for_itself_and_those_not_heard_of_for_long_are_forgotten() -> None:
    receiver = Acknowledging()
    kept = receiver.take(asked(1, sender="kept"))
    for number in range(5000):
        message = receiver.take(asked(1, sender=f"sender {number}"))
        assert message is not None
        receiver.acknowledge(message)
    assert len(receiver._senders) <= 4097
    assert kept is not None
    assert receiver.take(asked(1, sender="kept", again=True)) is None


def test_anybody_may_ask_for_an_acknowledgement() -> None:
    receiver = Acknowledging()
    for attachment in (b"", b"\xff", attached(None, b"", [(NUMBER, b"1 0 1")]), attached(None, b"", [(SENDER, b"x")])):
        for _ in range(2):
            wire = Wire(b"payload", "", attachment, *[lambda *args: None] * 3)
            message = receiver.take(wire)
            assert message is not None
            assert message.reliable
            assert not message.delivery_id
            receiver.acknowledge(message)
            assert was_answered(wire)
    value = Wire(b"", "", b"", *[lambda *args: None] * 3)
    assert receiver.take(value) is None
    assert value.is_closed


@pytest.mark.parametrize(
    "text", ["", "1", "1 2", "0 0 0", "1 1 1", "2 1 3", "2 1 0", "-1 0 1", "1 0 1 ", f"{10**19} 0 1"]
)
def test_a_place_that_means_nothing_is_none(text: str) -> None:
    assert Numbering.decoded(text.encode()) is None


# Both ends

STEPS = st.lists(
    st.sampled_from(
        [
            "publish",
            "publish",
            "arrive",
            "arrive",
            "arrive",
            "done",
            "tell",
            "no room",
            "lost",
            "receiver",
            "sender",
            "wait",
        ]
    ),
    max_size=80,
)


class Model:
    """A sender, a line that keeps the order, and an app whose gateway may be killed."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.sent = 0
        self.done: list[int] = []
        self.first: list[int] = []  # first arrivals at the app
        self.had: set[int] = set()  # what the app was done with
        self.receiver = Acknowledging()
        self.in_hand: list[Asked] = []
        self.wires = self.connected()

    def connected(self) -> Wires:
        wires = Wires(self.nursery)
        wires.on_done = self.on_done  # type: ignore[method-assign]
        self.nursery.start_soon(wires.channel.serve)
        wires.publish(*(number for number in range(1, self.sent + 1) if number not in self.done), again=True)
        return wires

    def on_done(self, number: int, refusal: str) -> None:
        assert not refusal
        assert number not in self.done
        assert number in self.had  # else it may be lost
        self.done.append(number)

    async def step(self, step: str) -> None:
        wires = self.wires
        if step == "publish":
            self.sent += 1
            wires.publish(self.sent)
        elif step == "arrive" and wires.asked:
            message = self.receiver.take(wires.asked.popleft())
            if message is not None:
                self.in_hand.append(message)
                number = int(message.payload)
                if number not in self.first:
                    self.first.append(number)
        elif step == "done" and self.in_hand:
            message = self.in_hand.pop(0)
            self.had.add(int(message.payload))
            self.receiver.acknowledge(message)
        elif step == "tell":
            wires.tell()
        elif step == "no room" and wires.asked:
            wires.asked.popleft().close()
        elif step == "lost" and wires.asked:  # on a node between
            wires.asked.popleft()
        elif step == "receiver":  # killed, and another one is there
            for wire in wires.open:
                if wire not in wires.asked:
                    wire.end()
            self.receiver, self.in_hand = Acknowledging(), []
        elif step == "sender":  # its connection is lost, with what was said
            wires.open.clear()
            self.wires = self.connected()
        elif step == "wait":
            await trio.sleep(2)
        await trio.lowlevel.checkpoint()


@given(STEPS)
def test_whatever_happens_nothing_is_lost_and_first_arrivals_are_in_order(steps: list[str]) -> None:
    async def run() -> None:
        async with trio.open_nursery() as nursery:
            model = Model(nursery)
            for step in steps:
                await model.step(step)
            for _ in range(10 * model.sent + 10):
                for step in ("arrive", "done", "tell"):
                    await model.step(step)
                if not model.wires.asked and len(model.done) < model.sent:
                    await model.step("wait")
            assert sorted(model.done) == list(range(1, model.sent + 1))
            assert model.first == sorted(model.first)
            nursery.cancel_scope.cancel()

    trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))
