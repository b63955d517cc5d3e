"""Responder: a handler is called once for each request, and answers in time; by a virtual clock alone."""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from taktora_trio import ConfigError, JsonCodec, Metadata, PayloadOverflow, Request, RequestFailed, Responder
from taktora_trio.channels.signs import FAILURE, INTERIM
from taktora_trio.host.asking.responder import check_serving, serve
from tests.host.asking.ends import ADD, Reader, Sent, Writer, as_reader, as_writer

REPLY_TO = "calculator/add/replies/me"
SECOND = 10**9


def asked(expiry: int | None = 10, topic: str = REPLY_TO) -> Metadata:
    return Metadata(response_topic=topic, message_expiry=expiry)


class Rig:
    """`handled` has each call of the handler; `handler` may be replaced."""

    responder: Responder[list[int], int]

    def __init__(self) -> None:
        self.writer, self.reader = Writer(), Reader(list[int])
        self.handled: list[list[int]] = []
        self.handler: Callable[[Request[list[int]]], Awaitable[Any]] = self._add

    async def handle(self, request: Request[list[int]]) -> Any:
        self.handled.append(request.value)
        return await self.handler(request)

    async def _add(self, request: Request[list[int]]) -> int:
        await trio.sleep(1)
        return sum(request.value)

    def now_ns(self) -> int:
        return int(trio.current_time() * SECOND)

    def put(self, payload: bytes, which: bytes, metadata: Metadata | None, **more: Any) -> None:
        self.reader.put(payload, which, metadata, boottime_ns=self.now_ns(), **more)

    async def sent(self, count: int) -> list[tuple[bytes, bytes]]:
        return [(sent.id, sent.payload) for sent in await self.writer.until_sent(count)]

    async def last(self, count: int) -> Sent:
        return (await self.writer.until_sent(count))[-1]

    def counts(self) -> dict[str, int]:
        return {name: value for name, value in attrs.asdict(self.responder.statistics()).items() if value}


@contextlib.asynccontextmanager
async def open_rig(concurrency: int = 10, max_kept: int = 100, max_kept_bytes: int = 10_000) -> AsyncIterator[Rig]:
    rig = Rig()

    async def run(task_status: trio.TaskStatus[Responder[list[int], int]]) -> None:
        await serve(
            ADD,
            rig.handle,
            as_reader(rig.reader),
            as_writer(rig.writer),
            JsonCodec(),
            concurrency=concurrency,
            max_kept=max_kept,
            max_kept_bytes=max_kept_bytes,
            task_status=task_status,
            boottime_ns=rig.now_ns,
        )

    async with trio.open_nursery() as nursery:
        rig.responder = await nursery.start(run)
        yield rig
        nursery.cancel_scope.cancel()


async def test_each_request_is_answered_where_it_says_with_what_is_left_of_its_life(autojump_clock: MockClock) -> None:
    async with open_rig() as rig:
        rig.put(b"[1, 2]", b"one", asked(10))
        rig.put(b"[3]", b"two", asked(None, "calculator/add/replies/other"))
        one, two = sorted(await rig.writer.until_sent(2), key=lambda sent: sent.id)
        assert (one.payload, one.id, one.topic, one.metadata) == (b"3", b"one", REPLY_TO, Metadata(message_expiry=9))
        assert (two.payload, two.id, two.topic) == (b"3", b"two", "calculator/add/replies/other")
        assert two.metadata == Metadata()
        await trio.sleep(1)
        assert sorted(rig.reader.record) == [("done", b"one"), ("done", b"two")]
        assert rig.counts() == {"requests": 2, "answered": 2}


async def test_a_request_is_done_only_when_it_is_answered(autojump_clock: MockClock) -> None:
    async with open_rig() as rig:
        rig.put(b"[1]", b"one", asked())
        await trio.sleep(0.5)
        assert rig.handled == [[1]]
        assert rig.reader.record == []


async def test_a_request_whose_deadline_has_passed_is_not_begun(autojump_clock: MockClock) -> None:
    async with open_rig() as rig:
        await trio.sleep(100)
        rig.reader.put(b"[1]", b"late", asked(10), boottime_ns=rig.now_ns() - 10 * SECOND)
        rig.reader.put(b"[2]", b"in time", asked(10), boottime_ns=rig.now_ns() - 8 * SECOND)
        last = await rig.last(1)
        assert (last.id, last.metadata.message_expiry) == (b"in time", 1)
        assert rig.handled == [[2]]
        await trio.sleep(1)
        assert rig.reader.record == [("done", b"late"), ("done", b"in time")]
        assert rig.counts() == {"requests": 1, "answered": 1, "expired": 1}


async def test_one_that_waits_for_a_handler_until_its_deadline_is_not_begun(autojump_clock: MockClock) -> None:
    async with open_rig(concurrency=1) as rig:

        async def slow(request: Request[list[int]]) -> int:
            await trio.sleep(5)
            return 0

        rig.handler = slow
        rig.put(b"[1]", b"one", asked(10))
        rig.put(b"[2]", b"two", asked(5))
        await trio.sleep(20)
        assert rig.handled == [[1]]
        assert rig.counts() == {"requests": 1, "answered": 1, "expired": 1}


async def test_a_handler_is_cancelled_at_the_deadline(autojump_clock: MockClock) -> None:
    ended = []

    async def endless(request: Request[list[int]]) -> int:
        try:
            await trio.sleep_forever()
        finally:
            ended.append((trio.current_time() - start, request.deadline - start))
        return 0

    async with open_rig() as rig:
        rig.handler, start = endless, trio.current_time()
        rig.put(b"[1]", b"one", asked(3))
        await trio.sleep(10)
        [(at, deadline)] = ended
        assert at == pytest.approx(3)
        assert deadline == pytest.approx(3)
        assert rig.writer.sent == []
        assert rig.reader.record == [("done", b"one")]
        assert rig.counts() == {"requests": 1, "expired": 1}


async def test_no_more_handlers_run_at_once_than_may(autojump_clock: MockClock) -> None:
    running, most = 0, 0

    async def count(request: Request[list[int]]) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await trio.sleep(1)
        running -= 1
        return 0

    async with open_rig(concurrency=3) as rig:
        rig.handler = count
        for number in range(10):
            rig.put(b"[1]", b"%d" % number, asked(100))
        await rig.sent(10)
        assert most == 3


async def test_a_request_that_comes_again_is_answered_again_and_carried_out_once(autojump_clock: MockClock) -> None:
    async with open_rig() as rig:
        rig.put(b"[1, 2]", b"one", asked())
        rig.put(b"[1, 2]", b"one", asked())  # while the first is at work
        assert await rig.sent(1) == [(b"one", b"3")]
        rig.put(b"[1, 2]", b"one", asked())
        assert await rig.sent(2) == [(b"one", b"3")] * 2
        rig.put(b"[1, 2]", b"one", asked(topic="calculator/add/replies/other"))  # somebody else's
        assert (await rig.last(3)).topic == "calculator/add/replies/other"
        assert rig.handled == [[1, 2], [1, 2]]
        await trio.sleep(1)
        assert rig.reader.record == [("done", b"one")] * 4
        assert rig.counts() == {"requests": 2, "answered": 2, "repeated": 2}


async def test_a_repeat_that_outlives_the_first_is_known_too(autojump_clock: MockClock) -> None:
    """Its requester's gateway was killed and its successor has asked again, with what is left rounded up; twice."""

    async def work(request: Request[list[int]]) -> int:
        await trio.sleep(sum(request.value) / 4)
        return 0

    async with open_rig(concurrency=1) as rig:
        rig.handler = work
        rig.put(b"[1]", b"one", asked(1))
        await trio.sleep(0.6)
        rig.put(b"[4]", b"other", asked(10))
        await trio.sleep(0.3)
        rig.put(b"[1]", b"one", asked(1))  # waits behind the other, until the deadline of the first has passed
        await trio.sleep(0.9)
        rig.put(b"[1]", b"one", asked(1))
        assert [which for which, _ in await rig.sent(4)] == [b"one", b"other", b"one", b"one"]
        assert rig.handled == [[1], [4]]
        assert rig.counts() == {"requests": 2, "answered": 2, "repeated": 2}


async def test_long_behind_its_deadline_it_is_not_known_and_its_memory_is_free(autojump_clock: MockClock) -> None:
    async with open_rig() as rig:
        rig.put(b"[1]", b"one", asked(10))
        rig.put(b"[1]", b"two", asked(None))
        await rig.sent(2)
        await trio.sleep(100)
        rig.put(b"[1]", b"three", asked(10))
        await rig.sent(3)
        assert len(rig.responder._workshop.answered_before) == 1


async def test_what_is_kept_is_bounded_and_what_was_forgotten_is_counted(autojump_clock: MockClock) -> None:
    async with open_rig(max_kept=3) as rig:
        for number in range(5):
            rig.put(b"[1]", b"%d" % number, asked(100))
            await rig.sent(number + 1)
        for number in range(5):
            rig.put(b"[1]", b"%d" % number, asked(100))
            await rig.sent(number + 6)
        assert rig.counts()["forgotten"] >= 2
        assert len(rig.handled) > 5


async def test_one_without_a_deadline_is_known_for_as_long_as_there_is_work_at_it(autojump_clock: MockClock) -> None:
    async def long(request: Request[list[int]]) -> int:
        await trio.sleep(500)
        return 1

    async with open_rig() as rig:
        rig.handler = long
        replies = []
        for seconds in (200, 250, 100, 1):
            rig.put(b"[1]", b"one", asked(None))
            await trio.sleep(seconds)
            replies.append(len(rig.writer.sent))
        assert replies == [0, 0, 1, 2]
        assert rig.handled == [[1]]


async def test_a_handler_that_fails_while_it_is_cancelled_at_its_deadline_fails_alone(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail_at_the_end() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise KeyError("unit 7")

    async def handle(request: Request[list[int]]) -> int:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail_at_the_end)
            await trio.sleep_forever()
        return 0

    async with open_rig() as rig:
        rig.handler = handle
        rig.put(b"[1]", b"one", asked(3))
        await trio.sleep(10)
        assert rig.counts() == {"requests": 1, "expired": 1}
        assert rig.reader.record == [("done", b"one")]
    assert "KeyError: 'unit 7'" in caplog.text


async def test_what_can_not_be_answered_takes_no_more_memory_than_the_rest(autojump_clock: MockClock) -> None:
    """Whoever asks says how long it waits, up to 136 years, and may leave no room for a reply."""
    async with open_rig(max_kept=3) as rig:

        def refuse(length: int, **more: Any) -> Any:
            raise PayloadOverflow("no room")

        rig.writer.loan = refuse  # type: ignore[method-assign]
        for number in range(10):
            rig.put(b"[1]", b"%d" % number, asked(2**32 - 1))
        await trio.sleep(10)
        assert len(rig.responder._workshop.answered_before) == 3


async def test_failures_are_answered_and_kept_as_replies_are(autojump_clock: MockClock) -> None:
    async def fail(request: Request[list[int]]) -> int:
        if request.value == [1]:
            async with trio.open_nursery():
                raise RequestFailed("not\nthat")
        raise KeyError("unit 7")

    async with open_rig() as rig:
        rig.handler = fail
        rig.put(b"[1]", b"one", asked())
        last = await rig.last(1)
        assert (last.payload, last.properties) == (b"", {FAILURE: "not\\nthat"})
        rig.put(b"[2]", b"two", asked())
        assert (await rig.last(2)).properties == {FAILURE: "KeyError: 'unit 7'"}
        rig.put(b"[2]", b"two", asked())
        assert (await rig.last(3)).properties == {FAILURE: "KeyError: 'unit 7'"}
        assert rig.handled == [[1], [2]]
        await trio.sleep(1)
        assert [what for what, _ in rig.reader.record] == ["done"] * 3, "no dead letter"
        assert rig.counts() == {"requests": 2, "failed": 2, "repeated": 1}


async def test_a_reply_that_can_not_be_sent_is_a_failure(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def wrong(request: Request[list[int]]) -> Any:
        return "text" if request.value == [1] else 10**200

    async with open_rig() as rig:
        rig.handler = wrong
        for number in (1, 2):
            rig.put(b"[%d]" % number, b"%d" % number, asked())
        one, two = sorted(await rig.writer.until_sent(2), key=lambda sent: sent.id)
        assert one.properties[FAILURE].startswith("CodecError: ")
        assert two.properties[FAILURE] == "PayloadOverflow: 201 bytes are too many"
        assert rig.counts() == {"requests": 2, "failed": 2}
    assert "exchange add: a request has failed" in caplog.text


async def test_a_request_that_can_not_be_read_is_answered_so(autojump_clock: MockClock) -> None:
    async with open_rig() as rig:
        rig.put(b"not JSON", b"one", asked())
        assert (await rig.last(1)).properties[FAILURE].startswith("the request can't be read: ")
        assert rig.handled == []


async def test_requests_that_nobody_can_be_answered_to_are_not_begun(autojump_clock: MockClock) -> None:
    async with open_rig() as rig:
        too_long = asked(topic=f"calculator/add/replies/{'ä' * 245}")  # in characters it is not
        for metadata in (None, Metadata(), asked(topic="elsewhere"), asked(topic="calculator/add/replies/#"), too_long):
            rig.put(b"[1]", b"one", metadata)
        rig.put(b"[1]", b"", asked())
        assert await rig.sent(1) == [(b"", b"1")]
        assert rig.handled == [[1]]
        assert rig.counts() == {"requests": 1, "answered": 1, "unanswerable": 5}


async def test_one_without_an_id_is_answered_each_time(autojump_clock: MockClock) -> None:
    async with open_rig() as rig:
        for _ in range(2):
            rig.put(b"[1]", b"", asked())
        assert await rig.sent(2) == [(b"", b"1")] * 2
        assert len(rig.responder._workshop.answered_before) == 0


async def test_interim_replies_are_numbered_and_kept(autojump_clock: MockClock) -> None:
    async def steps(request: Request[list[int]]) -> int:
        for number in request.value:
            await request.report(number)
        return 9

    def shown() -> list[tuple[bytes, str]]:
        return [(sent.payload, sent.properties.get(INTERIM, "")) for sent in rig.writer.sent]

    async with open_rig() as rig:
        rig.handler = steps
        rig.put(b"[5, 6]", b"one", asked())
        await rig.writer.until_sent(3)
        assert shown() == [(b"5", "1"), (b"6", "2"), (b"9", "")]
        rig.put(b"[5, 6]", b"one", asked())
        await rig.writer.until_sent(6)
        assert shown() == [(b"5", "1"), (b"6", "2"), (b"9", "")] * 2


async def test_a_stop_gives_back_what_is_at_work(autojump_clock: MockClock) -> None:
    async with open_rig() as rig:
        rig.put(b"[1]", b"one", asked())
        await trio.sleep(0.5)
    assert rig.handled == [[1]]
    assert rig.reader.record == [("back", b"one")]


async def test_a_handler_knows_whether_another_process_may_have_begun(autojump_clock: MockClock) -> None:
    known = []

    async def look(request: Request[list[int]]) -> int:
        known.append((request.redelivered, request.deadline == math.inf, request.topic))
        return 0

    async with open_rig() as rig:
        rig.handler = look
        rig.put(b"[1]", b"one", asked())
        rig.put(b"[1]", b"two", asked(None), count=2)
        await rig.sent(2)
        assert sorted(known) == [(False, False, "calculator/add"), (True, True, "calculator/add")]


async def test_replies_wait_for_room_in_their_order(autojump_clock: MockClock) -> None:
    async with open_rig() as rig:
        rig.writer.room = 0
        for number in range(3):
            rig.put(b"[1]", b"%d" % number, asked())
            await trio.sleep(0.1)
        await trio.sleep(2)
        rig.writer.add_room(100)
        assert await rig.sent(3) == [(b"%d" % number, b"1") for number in range(3)]


def test_what_can_not_serve_is_said() -> None:
    async def good(request: Request[Any]) -> int:
        return 0

    def plain(request: Request[Any]) -> int:
        return 0

    check_serving(ADD, good, concurrency=1)
    with pytest.raises(ConfigError, match=r"7 is no exchange: write host.serve\(EXCHANGE, handler\)"):
        check_serving(7, good)
    for handler in (plain, 7):
        with pytest.raises(ConfigError, match=r"exchange 'add': its handler .* is no async function of one request"):
            check_serving(ADD, handler)
    with pytest.raises(ConfigError, match="exchange 'add': max_kept is 0; it must be a whole number above 0"):
        check_serving(ADD, good, max_kept=0)
