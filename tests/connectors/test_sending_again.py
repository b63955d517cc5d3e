"""Dead letters that are sent to the app again: each is removed when the app is done with it, and none before."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from taktora_trio import Metadata, StoreError
from taktora_trio.connectors.connection import Incoming
from taktora_trio.connectors.dead_letters.letter import DeadLetter
from taktora_trio.connectors.sending_again import SendingAgain

Then = Callable[[bool], None]


class Letters:
    """Letters of connector `line`, channels `in` and `gone`, of which some are marked."""

    def __init__(self, *marked: int) -> None:
        self.marked = list(marked)
        self.removed: list[int] = []
        self.trouble = False

    async def to_send(self, connector: str, channels: Collection[str], most: int) -> list[DeadLetter]:
        await self._touch_disk()
        assert (connector, channels) == ("line", ["in"])
        said = {"topic": "t", "reason": "", "deliveries": 5, "metadata": Metadata(content_type="a/b")}
        return [
            DeadLetter(connector="line", channel="in", payload=b"%d" % n, number=n, correlation_id=b"id", **said)  # type: ignore[arg-type]
            for n in self.marked[:most]
        ]

    async def remove(self, numbers: Sequence[int]) -> None:
        await self._touch_disk()
        self.removed += numbers
        self.marked = [number for number in self.marked if number not in numbers]

    async def _touch_disk(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.trouble:
            raise StoreError("no disk")


class Inbox:
    """The app, which has what it was given until the test says that it is done."""

    def __init__(self) -> None:
        self.given: dict[int, Then] = {}
        self.record: list[Incoming] = []

    def give(self, channel: str, message: Incoming, then: Then, *, letter: int) -> None:
        assert channel == "in"
        assert letter not in self.given, "it has that one already"
        self.given[letter] = then
        self.record.append(message)

    def done(self, *numbers: int, is_done: bool = True) -> None:
        for number in numbers:
            self.given.pop(number)(is_done)


async def serve(nursery: trio.Nursery, letters: Letters) -> tuple[SendingAgain, Inbox]:
    inbox = Inbox()
    again = SendingAgain("line", ["in"], cast(Any, inbox), cast(Any, letters))
    nursery.start_soon(again.serve)
    await wait_all_tasks_blocked()
    return again, inbox


async def test_what_was_marked_while_nothing_ran_is_sent_at_the_start(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    letters = Letters(3, 7)
    _, inbox = await serve(nursery, letters)
    assert list(inbox.given) == [3, 7]
    message = inbox.record[0]
    assert (message.topic, message.payload, message.correlation_id) == ("t", b"3", b"id")
    assert message.metadata == Metadata(content_type="a/b")
    assert (message.reliable, message.redelivered, message.delivery_id) == (True, False, 0), "a new one to the app"
    inbox.done(7)
    await wait_all_tasks_blocked()
    assert (letters.removed, letters.marked) == ([7], [3])
    inbox.done(3)
    await wait_all_tasks_blocked()
    assert letters.removed == [7, 3]


async def test_one_that_is_marked_later_is_sent_when_the_gateway_is_told(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    letters = Letters()
    again, inbox = await serve(nursery, letters)
    letters.marked = [5]
    await trio.sleep(1000)
    assert inbox.given == {}
    again.look()
    again.look()
    await wait_all_tasks_blocked()
    assert list(inbox.given) == [5]


async def test_few_are_in_the_app_at_once(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    letters = Letters(*range(1, 41))
    again, inbox = await serve(nursery, letters)
    again.look()
    await wait_all_tasks_blocked()
    assert list(inbox.given) == list(range(1, 17))
    inbox.done(2, 1)
    await wait_all_tasks_blocked()
    assert list(inbox.given) == list(range(3, 19))
    while inbox.given:
        inbox.done(next(iter(inbox.given)))
        await wait_all_tasks_blocked()
    assert sorted(letters.removed) == list(range(1, 41))


async def test_one_that_is_given_up_once_more_stays(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    letters = Letters(1)
    again, inbox = await serve(nursery, letters)
    letters.marked = []  # as the letter is put there anew
    inbox.done(1, is_done=False)
    await wait_all_tasks_blocked()
    assert letters.removed == []
    letters.marked = [1]
    again.look()
    await wait_all_tasks_blocked()
    assert list(inbox.given) == [1], "somebody has asked for it once more"


async def test_trouble_with_the_disk_is_said_once_and_sends_nothing_twice(
    nursery: trio.Nursery, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    letters = Letters(1)
    letters.trouble = True
    again, inbox = await serve(nursery, letters)
    await trio.sleep(30)
    letters.trouble = False
    await trio.sleep(60)
    assert list(inbox.given) == [1]
    letters.trouble = True
    inbox.done(1)
    await trio.sleep(30)
    again.look()
    letters.trouble = False
    await trio.sleep(60)
    assert (letters.removed, inbox.given) == ([1], {})
    troubles = [line for line in caplog.messages if "no dead letter is sent again for now: no disk" in line]
    assert len(troubles) == 2
