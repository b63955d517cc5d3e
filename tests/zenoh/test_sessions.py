"""The session in memory does what the library's does: the same tests with either."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import attrs
import pytest
import trio
import trio.testing
from msgspec.structs import replace

from taktora_trio import ConnectFailed, ConnectionLost, ConnectRefused, ZenohOptions
from taktora_trio.connectors.zenoh.memory.network import MemoryNetwork
from taktora_trio.connectors.zenoh.nodes import open_node
from taktora_trio.connectors.zenoh.session import Quality, Question, Sample, Session
from taktora_trio.testing.zenoh.router import ZenohRouter, open_router
from tests.zenoh.hearing import Heard
from tests.zenoh.knowing import until_known

USUAL = Quality()
PATIENCE = 10.0  # seconds for what comes at once


@attrs.frozen
class Pair:
    """Two sessions of nodes that are linked."""

    one: Session
    other: Session
    options: ZenohOptions
    """By which more may join them."""


@pytest.fixture(params=["memory", pytest.param("native", marks=pytest.mark.zenoh)])
async def pair(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Pair]:
    async with AsyncExitStack() as stack:
        if request.param == "memory":
            options = ZenohOptions(session="memory", connect=f"tcp/{uuid.uuid4().hex}:7447")
            stack.callback(MemoryNetwork.forget, options.places)
        else:
            options = ZenohOptions(connect=(await stack.enter_async_context(open_router(tmp_path))).endpoint)
        opened = []
        for _ in range(2):
            node = await stack.enter_async_context(open_node(options))
            with trio.fail_after(PATIENCE):
                await node.wait_until_linked()
            opened.append(await stack.enter_async_context(node.open_session()))
        yield Pair(opened[0], opened[1], options)


async def test_what_is_put_comes_to_each_subscriber_whose_expression_meets_the_key(pair: Pair) -> None:
    one, other = pair.one, pair.other
    exact, wide, foreign = Heard[Sample](), Heard[Sample](), Heard[Sample]()
    await other.subscribe("plant/7/temperature", exact)
    await other.subscribe("plant/**", wide)
    await other.subscribe("plant/8/*", foreign)
    await until_known(one, other)
    written = Heard[None]()
    for number in range(3):
        one.put("plant/7/temperature", b"%d" % number, USUAL, "text/plain", b"more", on_written=lambda: written(None))
        assert written.count == number  # not in this step
        await written.next()
    for heard in (exact, wide):
        assert [await heard.next() for _ in range(3)] == [
            Sample("plant/7/temperature", b"%d" % number, "text/plain", b"more") for number in range(3)
        ]
    assert foreign.count == 0


async def test_a_question_goes_to_each_that_answers_it_and_has_an_end(pair: Pair) -> None:
    one, other = pair.one, pair.other

    def answer(question: Question) -> None:
        assert (question.payload, question.encoding, question.attachment) == (b"?", "text/plain", b"more")
        for payload in (b"1", b"2"):
            question.reply(question.key, payload, "text/html", b"back")
        question.close()
        question.close()  # it is

    def fail(question: Question) -> None:
        question.fail(b"I can't")
        question.close()

    await other.answer("calc/*", answer)
    await one.answer("calc/sum", fail)
    await until_known(one, other)
    replies, failures, ended = Heard[Sample](), Heard[bytes](), Heard[None]()
    one.ask("calc/sum", b"?", USUAL, "text/plain", b"more", PATIENCE, replies, failures, on_end=lambda: ended(None))
    assert replies.count == failures.count == ended.count == 0  # not in this step
    await ended.next()
    assert replies.all == [Sample("calc/sum", payload, "text/html", b"back") for payload in (b"1", b"2")]
    assert failures.all == [b"I can't"]


async def test_when_the_time_of_a_question_is_over_nobody_has_failed(pair: Pair) -> None:
    held = Heard[Question]()
    await pair.other.answer("calc/*", held)
    await until_known(pair.one, pair.other)
    replies, failures, ended = Heard[Sample](), Heard[bytes](), Heard[None]()
    for _ in range(30):
        pair.one.ask("calc/sum", b"?", USUAL, "", b"", 0.02, replies, failures, on_end=lambda: ended(None))
    for _ in range(30):
        await ended.next()
    assert replies.count == failures.count == 0


async def ask(
    session: Session, key: str, seconds: float, payload: bytes = b"", *, complete: bool = False
) -> list[bytes]:
    """Ask, and return the replies when it has ended."""
    replies, ended = Heard[Sample](), Heard[None]()
    session.ask(
        key,
        payload,
        USUAL,
        "",
        b"",
        seconds,
        replies,
        lambda failure: None,
        on_end=lambda: ended(None),
        complete=complete,
    )
    await ended.next()
    return [reply.payload for reply in replies.all]


async def test_a_question_that_nobody_answers_ends(pair: Pair) -> None:
    one, other = pair.one, pair.other
    assert await ask(one, "nobody/there", 600.0) == []
    questions = Heard[Question]()
    await other.answer("slow", questions)
    await until_known(one, other)
    assert await ask(one, "slow", 0.05) == []
    assert questions.count == 1


async def test_while_reading_pauses_samples_and_questions_wait_and_replies_come(pair: Pair) -> None:
    one, other = pair.one, pair.other
    samples, questions = Heard[Sample](), Heard[Question]()

    def yes(question: Question) -> None:
        question.reply("c", b"yes")
        question.close()

    await one.subscribe("a", samples)
    await one.answer("b", questions)
    await other.answer("c", yes)
    await until_known(other, one)
    await until_known(one, other)
    one.pause()
    other.put("a", b"1", USUAL)
    other.ask("b", b"2", USUAL, "", b"", PATIENCE, lambda reply: None, lambda failure: None, lambda: None)
    assert await ask(one, "c", PATIENCE) == [b"yes"]
    assert await ask(one, "c", PATIENCE) == [b"yes"]
    assert samples.count == questions.count == 0
    one.resume()
    assert (await samples.next()).payload == b"1"
    assert (await questions.next()).payload == b"2"


async def test_tokens_are_seen_while_they_are_there(pair: Pair) -> None:
    one, other = pair.one, pair.other
    await one.token("here/one")
    await until_known(other, one)
    heard = Heard[Sample]()
    await other.watch_tokens("here/*", heard)
    assert await heard.next() == Sample("here/one", b"")
    await one.token("here/two")
    assert await heard.next() == Sample("here/two", b"")
    for is_there in (True, False):
        for _ in range(2):
            one.put_token("here/three", is_there=is_there)
        assert await heard.next() == Sample("here/three", b"", is_delete=not is_there)
    one.put_token("here/four", is_there=True)
    assert await heard.next() == Sample("here/four", b"")


async def test_it_is_known_whether_somebody_subscribes(pair: Pair) -> None:
    one, other = pair.one, pair.other
    matching = Heard[bool]()
    await one.watch_subscribers("a/b", matching)
    assert await matching.next() is False
    await other.subscribe("c", lambda sample: None)
    await other.subscribe("a/*", lambda sample: None)
    assert await matching.next() is True
    assert matching.all == [False, True]


async def test_what_has_left_is_gone(pair: Pair) -> None:
    """Its tokens, its queryables, and the questions that it had not answered."""
    staying = pair.one
    tokens, matching = Heard[Sample](), Heard[bool]()
    await staying.watch_tokens("here/*", tokens)
    await staying.watch_matching("asked", matching)
    assert await matching.next() is False
    questions, late = Heard[Question](), Heard[Sample]()
    async with trio.open_nursery() as nursery:
        async with open_node(pair.options) as node:
            await node.wait_until_linked()
            async with node.open_session() as leaving:
                await leaving.token("here/leaving")
                await leaving.subscribe("late", late)
                await leaving.answer("asked", questions)
                assert await tokens.next() == Sample("here/leaving", b"")
                assert await matching.next() is True
                nursery.start_soon(ask, staying, "asked", 600.0)
                await questions.next()
        assert await tokens.next() == Sample("here/leaving", b"", is_delete=True)
        assert await matching.next() is False
    leaving.put("late", b"", USUAL)  # does nothing, and does not raise
    questions.all[0].reply("asked", b"")
    staying.put("late", b"", USUAL)
    await staying.flush()
    assert late.count == 0


@pytest.fixture
def options() -> Iterator[ZenohOptions]:
    options = ZenohOptions(session="memory", connect=f"tcp/{uuid.uuid4().hex}:7447")
    yield options
    MemoryNetwork.forget(options.places)


async def test_in_memory_a_line_is_cut_and_a_client_can_be_refused(options: ZenohOptions) -> None:
    line = MemoryNetwork.line_at(options.places)
    ended = Heard[None]()
    async with open_node(options) as node, node.open_session() as session:
        await session.answer("a", lambda question: None)
        session.ask("a", b"", USUAL, "", b"", 600.0, lambda _: None, lambda _: None, on_end=lambda: ended(None))
        line.cut()
        assert str(await session.wait_until_lost()) == "the connection was reset"
        with pytest.raises(ConnectionLost, match="reset"):
            await session.subscribe("a", lambda sample: None)
        assert line.network.sessions == []
        line.set(refuses=True)
        with pytest.raises(ConnectRefused, match="refuses this node: its login"):
            await enter(options)
        line.set(unreachable=True)
        with pytest.raises(ConnectFailed, match="unreachable"):
            await enter(options)
    assert ended.count == 0  # the loss has told already


async def enter(options: ZenohOptions) -> None:
    async with open_node(options):
        pass


async def test_in_memory_a_peer_waits_for_its_line(options: ZenohOptions) -> None:
    line = MemoryNetwork.line_at(options.places)
    for fault in ("unreachable", "refuses"):
        line.set(**{fault: True})
        async with open_node(attrs.evolve(options, mode="peer")) as node, trio.open_nursery() as nursery:
            nursery.start_soon(node.wait_until_linked)
            await trio.testing.wait_all_tasks_blocked()
            assert len(nursery.child_tasks) == 1
            line.set(**{fault: False})


async def test_in_memory_what_finds_no_room_is_discarded_or_closed(options: ZenohOptions) -> None:
    small = attrs.evolve(options, inbound_backlog=10_000)
    samples, questions, discarded = Heard[Sample](), Heard[Question](), Heard[int]()
    async with AsyncExitStack() as stack:
        one, other = [
            await stack.enter_async_context((await stack.enter_async_context(open_node(each))).open_session())
            for each in (options, small)
        ]
        await other.subscribe("a", samples)
        await other.answer("b", questions)
        other.watch_discarded(discarded)
        other.pause()
        for _ in range(30):
            one.put("a", bytes(1000), USUAL)
        assert await ask(one, "b", 600.0, bytes(2000)) == []
        other.resume()
        await samples.next()
        assert 0 < samples.count < 30
        assert discarded.all == [30 - samples.count]
        assert questions.count == 0


async def test_whoever_has_values_takes_no_messages(pair: Pair) -> None:
    """A queryable that is not complete is asked for values, and does not match for what wants a taker."""
    one, other = pair.one, pair.other
    takers, values = Heard[bool](), Heard[bool]()
    await one.watch_matching("plant/7", takers, complete=True)
    await one.watch_matching("plant/7", values)
    assert await takers.next() is False
    assert await values.next() is False

    def answer(payload: bytes, question: Question) -> None:
        question.reply("plant/7", payload)
        question.close()

    await other.answer("plant/*", partial(answer, b"a value"), complete=False)
    assert await values.next() is True
    assert await ask(one, "plant/7", PATIENCE, complete=True) == []
    assert await ask(one, "plant/**", PATIENCE) == [b"a value"]
    assert takers.count == 1
    await other.answer("plant/**", partial(answer, b"taken"))
    assert await takers.next() is True
    assert await ask(one, "plant/7", PATIENCE, complete=True) == [b"taken"]
    assert sorted(await ask(one, "plant/7", PATIENCE)) == [b"a value", b"taken"]


async def test_timestamps_come_with_samples_and_replies_where_they_are_wanted(pair: Pair) -> None:
    one, other = pair.one, pair.other
    stamped, plain, others_only = Heard[Sample](), Heard[Sample](), Heard[Sample]()
    await other.subscribe("a", stamped, stamped=True)
    await other.subscribe("a", plain)
    await other.subscribe("a", others_only, others_only=True)
    first, second = one.timestamp(), one.timestamp()
    assert first < second
    assert first.partition("/")[2] == second.partition("/")[2] != other.timestamp().partition("/")[2]

    def answer(question: Question) -> None:
        question.reply("a", b"kept", timestamp=second)
        question.close()

    await other.answer("a", answer)
    await until_known(one, other)
    other.put("a", b"its own", USUAL)
    assert [(await heard.next()).payload for heard in (stamped, plain)] == [b"its own"] * 2
    one.put("a", b"1", USUAL, timestamp=first)
    one.delete("a", USUAL, timestamp=second)
    both = [Sample("a", b"1", timestamp=first), Sample("a", b"", is_delete=True, timestamp=second)]
    for heard in (stamped, plain, others_only):
        came = [await heard.next(), await heard.next()]
        assert came == (both if heard is stamped else [replace(sample, timestamp="") for sample in both])
    replies, ended = Heard[Sample](), Heard[None]()
    one.ask("a", b"", USUAL, "", b"", PATIENCE, replies, lambda failure: None, on_end=lambda: ended(None))
    await ended.next()
    assert replies.all == [Sample("a", b"kept", timestamp=second)]


async def test_a_queryable_for_others_is_not_asked_by_its_own_node(pair: Pair) -> None:
    one, other = pair.one, pair.other
    asked = Heard[str]()

    def answer(question: Question) -> None:
        question.reply("a", b"yes")
        question.close()
        asked(question.payload.decode())

    matching = Heard[bool]()
    await one.watch_matching("a", matching, complete=True)
    await one.answer("a", answer, others_only=True)
    await until_known(one, other)
    for session, count in ((other, 1), (one, 0)):
        replied, ended = Heard[Sample](), Heard[None]()
        session.ask("a", b"?", USUAL, "", b"", PATIENCE, replied, lambda failure: None, partial(ended, None))
        await ended.next()
        assert replied.count == count
    assert asked.count == 1
    while not await matching.next():  # it counts here, which the library does, too
        pass


async def test_a_publisher_keeps_samples_for_who_asks_for_them(pair: Pair) -> None:
    one, other = pair.one, pair.other
    keeps, plain = Quality(recover=3), Heard[Sample]()
    await other.subscribe("a/*", plain)
    await until_known(one, other)
    for number in range(5):
        one.put("a/b", b"%d" % number, keeps)
    for number in range(5):
        assert await plain.next() == Sample("a/b", b"%d" % number)
    late, fewer = Heard[Sample](), Heard[Sample]()
    await other.subscribe("a/b", late, recover=10)
    await other.subscribe("a/**", fewer, recover=2)
    came = [await late.next() for _ in range(3)]
    assert [(sample.payload, sample.number) for sample in came] == [(b"%d" % number, number) for number in (2, 3, 4)]
    assert len({sample.source for sample in came}) == 1
    assert came[0].source
    assert [(await fewer.next()).number for _ in range(2)] == [3, 4]
    one.put("a/b", b"5", keeps)
    assert (await late.next()).number == (await fewer.next()).number == 5


@pytest.mark.zenoh
async def test_what_a_publisher_keeps_goes_with_the_oldest_of_many(
    router: ZenohRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taktora_trio.connectors.zenoh.native.session._MOST_PUBLISHERS", 2)
    came = Heard[Sample]()
    async with AsyncExitStack() as stack:
        node = await stack.enter_async_context(open_node(ZenohOptions(connect=router.endpoint)))
        session = await stack.enter_async_context(node.open_session())
        for key in ("a/1", "a/2", "a/3"):
            session.put(key, b"", Quality(recover=1))
        await session.flush()
        await session.subscribe("a/*", came, recover=1)
        assert {(await came.next()).key, (await came.next()).key} == {"a/2", "a/3"}
    assert came.count == 2
