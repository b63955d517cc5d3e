"""Questions that take one answer each, in memory and by the library."""

from __future__ import annotations

import trio

from taktora_trio.connectors.zenoh.nodes import open_node
from taktora_trio.connectors.zenoh.session import Question, Session
from tests.zenoh.hearing import Heard
from tests.zenoh.knowing import until_known
from tests.zenoh.test_sessions import PATIENCE, USUAL, Pair, pair

__all__ = ["pair"]


def ask(session: Session, payload: bytes, key: str = "orders/7", timeout: float = PATIENCE) -> Heard[bytes | None]:
    heard = Heard[bytes | None]()
    session.ask_in_turn("lane", key, payload, USUAL, "text/plain", b"more", timeout, heard)
    return heard


async def test_a_question_has_one_answer(pair: Pair) -> None:
    def answer(question: Question) -> None:
        assert (question.encoding, question.attachment) == ("text/plain", b"more")
        match question.payload:
            case b"yes":
                question.reply(question.key, b"")
                question.reply(question.key, b"again")
            case b"no":
                question.fail(b"I won't")
            case b"why":
                question.fail(b"")
            case b"both":
                question.fail(b"I won't")
                question.reply(question.key, b"")
        question.close()

    await pair.other.answer("orders/*", answer)
    await pair.other.answer("orders/values", lambda question: question.close(), complete=False)
    await until_known(pair.one, pair.other)
    heard = {payload: ask(pair.one, payload) for payload in (b"yes", b"no", b"why", b"both", b"nothing")}
    heard[b"nobody"] = ask(pair.one, b"nobody", "nobody/7")
    answers = {payload: await one.next() for payload, one in heard.items()}
    assert answers == {
        b"yes": b"",
        b"no": b"I won't",
        b"why": b"it gave no reason",
        b"both": b"",
        b"nothing": None,
        b"nobody": None,
    }
    assert ask(pair.one, b"yes").count == 0  # not in this step
    assert all(one.count == 1 for one in heard.values())


async def test_the_first_reply_counts_though_another_takes_long(pair: Pair) -> None:
    held = Heard[Question]()
    await pair.other.answer("orders/*", held)

    def answer(question: Question) -> None:
        question.reply(question.key, b"")
        question.close()

    async with open_node(pair.options) as node:
        await node.wait_until_linked()
        async with node.open_session() as third:
            await third.answer("orders/7", answer)
            await until_known(pair.one, pair.other)
            await until_known(pair.one, third)
            for _ in range(3):
                assert await ask(pair.one, b"?").next() == b""
            assert (await held.next()).payload == b"?"


async def test_a_question_whose_time_is_over_has_no_answer(pair: Pair) -> None:
    held = Heard[Question]()
    await pair.other.answer("orders/*", held)
    await until_known(pair.one, pair.other)
    heard = [ask(pair.one, b"?", timeout=0.02) for _ in range(30)]  # it ends here, or at the router, which says so
    assert [await one.next() for one in heard] == [None] * 30


async def test_a_session_ends_though_its_questions_are_open(pair: Pair) -> None:
    held = Heard[Question]()
    await pair.other.answer("orders/*", held)
    async with open_node(pair.options) as node:
        await node.wait_until_linked()
        with trio.fail_after(PATIENCE / 2):
            async with node.open_session() as third:
                await until_known(third, pair.other)
                heard = [ask(third, b"?") for _ in range(3)]
                await held.next()
    assert [one.count for one in heard] == [0, 0, 0]
