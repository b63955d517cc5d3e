"""Requester: who asks gets one reply, or an error at the deadline; by a virtual clock and without shared memory."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from taktora_trio import CodecError, ConfigError, MessageError, Metadata, RequestFailed, RequestTimeout
from taktora_trio.channels.signs import failure, interim
from taktora_trio.host.asking.requester import Requester, check_exchange, open_requester
from tests.host.asking.ends import ADD, REPLIES, Reader, Writer, as_reader, as_writer


@attrs.frozen
class Rig:
    requester: Requester[list[int], int]
    writer: Writer
    reader: Reader
    results: list[Any] = attrs.field(factory=list)

    async def ask(self, number: int, timeout: float = 5) -> None:
        """Ask, and note what comes of it, and when."""
        result: object
        try:
            result = await self.requester.request([number], timeout=timeout)
        except MessageError as exc:
            result = type(exc)
        self.results.append((number, result, trio.current_time()))

    def counts(self) -> dict[str, int]:
        return {name: value for name, value in attrs.asdict(self.requester.statistics()).items() if value}


@contextlib.asynccontextmanager
async def open_rig(limit: int = 100) -> AsyncIterator[Rig]:
    writer, reader = Writer(), Reader(int)
    async with open_requester(ADD, as_writer(writer), as_reader(reader), limit) as requester:
        yield Rig(requester, writer, reader)


async def test_each_caller_gets_the_reply_to_its_own_request(autojump_clock: MockClock) -> None:
    async with open_rig() as rig, trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(rig.ask, number)
        for sent in reversed(await rig.writer.until_sent(20)):
            assert sent.metadata == Metadata(response_topic=REPLIES, message_expiry=5)
            rig.reader.put(b"%d" % (100 + sent.payload[0]), sent.id)
    assert sorted((number, result) for number, result, _ in rig.results) == [(n, 100 + n) for n in range(20)]
    assert len({sent.id for sent in rig.writer.sent}) == 20
    assert rig.counts() == {"requests": 20, "answered": 20}
    assert len(rig.reader.record) == 20


async def test_ids_are_others_in_each_process(autojump_clock: MockClock) -> None:
    async with open_rig() as one, open_rig() as two, trio.open_nursery() as nursery:
        for rig in (one, two):
            nursery.start_soon(rig.ask, 1)
            [sent] = await rig.writer.until_sent(1)
            assert len(sent.id) == 16
        two.reader.put(b"1", one.writer.sent[0].id)
        two.reader.put(b"2", two.writer.sent[0].id)
        one.reader.put(b"3", one.writer.sent[0].id)
    assert [rig.results[0][1] for rig in (one, two)] == [3, 2]
    assert two.counts() == {"requests": 1, "answered": 1, "late": 1}


async def test_what_the_app_says_about_a_request_goes_with_it(autojump_clock: MockClock) -> None:
    async with open_rig() as rig, trio.open_nursery() as nursery:
        said = Metadata("text/plain", "not this one", 1, (("trace", "7"),))
        nursery.start_soon(lambda: rig.requester.request([1], timeout=2.5, topic="t", metadata=said))
        [sent] = await rig.writer.until_sent(1)
        assert (sent.topic, sent.metadata) == ("t", Metadata("text/plain", REPLIES, 3, (("trace", "7"),)))
        rig.reader.put(b"1", sent.id)


async def test_without_a_reply_it_raises_at_the_deadline_and_what_comes_then_is_late(autojump_clock: MockClock) -> None:
    async with open_rig() as rig:
        start = trio.current_time()
        with pytest.raises(RequestTimeout, match=r"exchange 'add': no reply within 2\.5 s; is a responder") as caught:
            await rig.requester.request([1], timeout=2.5)
        assert trio.current_time() - start == 2.5
        assert isinstance(caught.value, trio.TooSlowError)
        rig.reader.put(b"1", rig.writer.sent[0].id)
        await trio.sleep(1)
        assert rig.counts() == {"requests": 1, "timed_out": 1, "late": 1}
        assert rig.requester._waiting == {}


async def test_a_cancelled_call_is_forgotten(autojump_clock: MockClock) -> None:
    async with open_rig() as rig:
        with trio.move_on_after(1) as scope:
            await rig.requester.request([1], timeout=5)
        assert scope.cancelled_caught
        assert rig.requester._waiting == {}
        rig.reader.put(b"1", rig.writer.sent[0].id)
        await trio.sleep(1)
        assert rig.counts() == {"requests": 1, "abandoned": 1, "late": 1}


async def test_a_reply_that_comes_twice_is_counted(autojump_clock: MockClock) -> None:
    async with open_rig() as rig, trio.open_nursery() as nursery:
        nursery.start_soon(rig.ask, 1)
        [sent] = await rig.writer.until_sent(1)
        for payload in (b"1", b"2"):
            rig.reader.put(payload, sent.id)
        await trio.sleep(1)
        assert rig.results[0][:2] == (1, 1)
        assert rig.counts() == {"requests": 1, "answered": 1, "late": 1}


async def test_a_failure_and_a_reply_that_can_not_be_read_reach_the_caller(autojump_clock: MockClock) -> None:
    async with open_rig() as rig, trio.open_nursery() as nursery:
        for number in range(2):
            nursery.start_soon(rig.ask, number)
        for sent in await rig.writer.until_sent(2):
            said = Metadata(user_properties=failure("no such unit", 256)) if sent.payload == [0] else None
            rig.reader.put(b"" if said else b"not JSON", sent.id, said)
        await trio.sleep(1)
        assert sorted(rig.results)[0][1] is RequestFailed
        assert issubclass(sorted(rig.results)[1][1], CodecError)
        assert rig.counts() == {"requests": 2, "failed": 2}


async def test_more_than_the_limit_wait_and_their_deadlines_hold(autojump_clock: MockClock) -> None:
    async with open_rig(limit=2) as rig, trio.open_nursery() as nursery:
        start = trio.current_time()
        for number, timeout in enumerate((5, 1, 4, 0.5)):
            nursery.start_soon(rig.ask, number, timeout)
            await trio.testing.wait_all_tasks_blocked()
        assert len(rig.writer.sent) == 2
        third = (await rig.writer.until_sent(3))[2]
        assert third.at - start == pytest.approx(1, abs=0.01)
        assert third.metadata.message_expiry == 3, "what is left of it"
        for sent in rig.writer.sent:
            rig.reader.put(b"7", sent.id)
    times = {number: (result, at - start) for number, result, at in rig.results}
    assert times[3] == (RequestTimeout, 0.5)
    assert times[1] == (RequestTimeout, 1)
    assert (times[0][0], times[2][0]) == (7, 7)


async def test_a_request_that_waits_for_room_says_what_is_left_when_it_is_sent(autojump_clock: MockClock) -> None:
    async with open_rig() as rig, trio.open_nursery() as nursery:
        rig.writer.room = 0
        for number, timeout in enumerate((10, 2, 10)):
            nursery.start_soon(rig.ask, number, timeout)
            await trio.testing.wait_all_tasks_blocked()
        await trio.sleep(6.5)
        assert rig.results == [(1, RequestTimeout, pytest.approx(trio.current_time() - 4.5))]
        rig.writer.add_room(10)
        sent = await rig.writer.until_sent(2)
        assert [(each.payload, each.metadata.message_expiry) for each in sent] == [([0], 4), ([2], 4)]
        for each in sent:
            rig.reader.put(b"1", each.id)
    assert rig.counts() == {"requests": 3, "answered": 2, "timed_out": 1}


async def test_why_it_was_not_sent_is_said(autojump_clock: MockClock) -> None:
    async with open_rig(limit=1) as rig, trio.open_nursery() as nursery:
        rig.writer.room = 0
        with pytest.raises(
            RequestTimeout, match="the request was not sent, for its channel is full: is the gateway Up"
        ):
            await rig.requester.request([1], timeout=1)
        rig.writer.room = 1
        nursery.start_soon(rig.ask, 1)
        await rig.writer.until_sent(1)
        with pytest.raises(RequestTimeout, match="the request was not sent, for 1 others wait for their replies"):
            await rig.requester.request([2], timeout=1)


async def test_interim_replies_come_in_order_each_once(autojump_clock: MockClock) -> None:
    async with open_rig() as rig, trio.open_nursery() as nursery:
        got = []

        async def call() -> None:
            async with rig.requester.call([1], timeout=5) as call:
                got.extend([reply async for reply in call])
                assert call.deadline > trio.current_time()

        nursery.start_soon(call)
        nursery.start_soon(rig.ask, 1)
        for sent in await rig.writer.until_sent(2):
            for number in (1, 2, 1, 2, 3):
                rig.reader.put(b"%d" % number, sent.id, Metadata(user_properties=interim(number)))
            rig.reader.put(b"99", sent.id)
    assert got == [1, 2, 3, 99]
    assert rig.results[0][1] == 99
    assert rig.counts() == {"requests": 2, "answered": 2, "late": 4}


async def test_the_result_alone_behind_an_interim_reply(autojump_clock: MockClock) -> None:
    async with open_rig() as rig, rig.requester.call([1], timeout=5) as call:
        rig.reader.put(b"1", call.id, Metadata(user_properties=interim(1)))
        assert await call.__anext__() == 1
        rig.reader.put(b"2", call.id, Metadata(user_properties=interim(2)))
        rig.reader.put(b"9", call.id)
        assert await call.result() == 9
        with pytest.raises(trio.EndOfChannel):
            await call.result()


async def test_a_failure_behind_interim_replies(autojump_clock: MockClock) -> None:
    async with open_rig() as rig, rig.requester.call([1], timeout=5) as call:
        rig.reader.put(b"1", call.id, Metadata(user_properties=interim(1)))
        rig.reader.put(b"", call.id, Metadata(user_properties=failure("broken", 256)))
        assert await call.__anext__() == 1
        with pytest.raises(RequestFailed, match="broken"):
            await call.__anext__()


async def test_a_responder_that_never_ends_fills_no_memory(autojump_clock: MockClock) -> None:
    async with open_rig() as rig, rig.requester.call([1], timeout=5) as call:
        for number in range(1, 1000):
            rig.reader.put(b"1", call.id, Metadata(user_properties=interim(number)))
        await trio.sleep(1)
        for _ in range(256):
            assert await call.__anext__() == 1
        with pytest.raises(RequestFailed, match="wait to be taken"):
            await call.__anext__()


async def test_a_block_that_is_left_early_is_abandoned_and_a_call_is_made_once(autojump_clock: MockClock) -> None:
    async with open_rig() as rig:
        async with rig.requester.call([1], timeout=5) as call:
            pass
        assert rig.counts() == {"requests": 1, "abandoned": 1}
        with pytest.raises(trio.BusyResourceError, match="a call is made once"):
            async with call:
                pass


async def test_who_waits_when_it_is_closed_is_told(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        async with open_rig(limit=1) as rig:
            for _ in range(2):

                async def ask() -> None:
                    with pytest.raises(trio.ClosedResourceError):
                        await rig.requester.request([1], timeout=5)

                nursery.start_soon(ask)
            await rig.writer.until_sent(1)
        with pytest.raises(trio.ClosedResourceError):
            await rig.requester.request([1], timeout=5)
    assert rig.counts() == {"requests": 3, "abandoned": 3}


async def test_an_error_of_the_app_comes_out_as_it_is(autojump_clock: MockClock) -> None:
    with pytest.raises(KeyError, match="mine"):
        async with open_rig():
            raise KeyError("mine")
    with trio.move_on_after(1) as scope:
        async with open_rig():
            await trio.sleep_forever()
    assert scope.cancelled_caught


@pytest.mark.parametrize("timeout", [0, -1, True, "5", float("nan"), float("inf")])
async def test_a_timeout_that_is_none_is_refused(autojump_clock: MockClock, timeout: Any) -> None:
    async with open_rig() as rig:
        with pytest.raises(ConfigError, match=r"exchange 'add': timeout is .* give seconds, more than 0"):
            await rig.requester.request([1], timeout=timeout)


def test_what_can_not_be_opened_is_said() -> None:
    with pytest.raises(ConfigError, match=r"7 is no exchange: write host.open_requester\(EXCHANGE\)"):
        check_exchange(7, 1)
    with pytest.raises(ConfigError, match="exchange 'add': limit is 0; it must be a whole number above 0"):
        check_exchange(ADD, 0)


async def test_what_the_app_raises_while_it_is_cancelled_comes_out(autojump_clock: MockClock) -> None:
    async def ask() -> None:
        with trio.move_on_after(1):
            async with open_rig():
                try:
                    await trio.sleep_forever()
                finally:
                    raise KeyError("unit 7")

    with pytest.raises(KeyError, match="unit 7"):
        await ask()
