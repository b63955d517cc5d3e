"""Requests and replies over queries: between our apps, and with programs that know nothing of us."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from taktora_trio import (
    ConfigError,
    ConnectorHost,
    Deployment,
    Exchange,
    Inbound,
    Request,
    Requester,
    RequestFailed,
    RequestTimeout,
    Up,
    ZenohConnector,
    ZenohOptions,
    ZenohRouting,
    open_deployment,
)
from taktora_trio.channels import ChannelDescriptor
from taktora_trio.testing import open_app
from taktora_trio.testing.zenoh.router import ZenohRouter
from tests.patience import PATIENCE
from tests.zenoh.outsider import open_outsider

SQUARE = Exchange("square", int, int, ZenohRouting("calculator/square"))


async def square(request: Request[int]) -> int:
    if request.value < 0:
        await request.report(0)
        await request.report(1)
    if request.value > 1000:
        raise RequestFailed("that is too\nlarge")
    return request.value**2


def both() -> Deployment:
    connector = ZenohConnector([*SQUARE.for_requester, *SQUARE.for_responder])
    return Deployment(f"both-{uuid.uuid4().hex[:8]}", None, [connector])


@asynccontextmanager
async def open_both() -> AsyncIterator[ConnectorHost]:
    async with open_app(both()) as app, trio.open_nursery() as nursery:
        await nursery.start(app.host.serve, SQUARE, square)
        yield app.host
        nursery.cancel_scope.cancel()


async def test_each_call_gets_its_reply(autojump_clock: trio.testing.MockClock) -> None:
    async with open_both() as host, host.open_requester(SQUARE) as calculator:

        async def ask(number: int) -> None:
            assert await calculator.request(number, timeout=5) == number**2

        async with trio.open_nursery() as nursery:
            for number in range(200):
                nursery.start_soon(ask, number)


async def test_failures_and_interim_replies_reach_whoever_asked(autojump_clock: trio.testing.MockClock) -> None:
    async with open_both() as host, host.open_requester(SQUARE) as calculator:
        with pytest.raises(RequestFailed, match=r"^that is too\\nlarge$"):
            await calculator.request(1001, timeout=5)
        async with calculator.call(-3, timeout=5) as call:
            assert [reply async for reply in call] == [0, 1, 9]
        assert await calculator.request(-3, timeout=5) == 9


async def test_a_request_that_nobody_answers_ends_at_its_deadline(autojump_clock: trio.testing.MockClock) -> None:
    async with open_app(both()) as app, app.host.open_requester(SQUARE) as calculator:
        began = trio.current_time()
        with pytest.raises(RequestTimeout):
            await calculator.request(3, timeout=2)
        assert trio.current_time() - began == pytest.approx(2, abs=0.1)
        assert await call_later(app.host, calculator) == 16


async def call_later(host: ConnectorHost, calculator: Requester[int, int]) -> int:
    """Ask before anybody is there to answer."""
    answers: list[int] = []
    async with trio.open_nursery() as nursery:

        async def ask() -> None:
            answers.append(await calculator.request(4, timeout=10))
            nursery.cancel_scope.cancel()

        nursery.start_soon(ask)
        await trio.sleep(3)
        await nursery.start(host.serve, SQUARE, square)
    return answers[0]


async def test_a_reply_is_for_whoever_has_asked_and_comes_to_no_other_channel(
    autojump_clock: trio.testing.MockClock,
) -> None:
    every = Inbound("every", int, ZenohRouting("**"))
    connector = ZenohConnector([*SQUARE.for_requester, *SQUARE.for_responder, every])
    async with open_app(Deployment("both", None, [connector])) as app, trio.open_nursery() as nursery:
        await nursery.start(app.host.serve, SQUARE, square)
        async with app.host.open_reader(every) as reader, app.host.open_requester(SQUARE) as calculator:
            assert await calculator.request(3, timeout=5) == 9
            assert (await reader.receive()).topic == SQUARE.routing.address  # the request, which is for both
            with trio.move_on_after(1) as scope:
                await reader.receive()
            assert scope.cancelled_caught
        nursery.cancel_scope.cancel()


def test_what_can_not_be_an_exchange_says_what_to_do() -> None:
    def exchange(routing: ZenohRouting, **options: Any) -> Exchange[int, int]:
        return Exchange("name", int, int, routing, **options)

    with pytest.raises(ConfigError, match="has its reply: leave acknowledged out"):
        exchange(ZenohRouting("key", acknowledged=True))
    with pytest.raises(ConfigError, match="has its reply: leave latched out"):
        exchange(ZenohRouting("key", latched=True))
    with pytest.raises(ConfigError, match="give one, by replies=ZenohRouting"):
        exchange(ZenohRouting("key/*"))
    with pytest.raises(ConfigError, match="several deployments"):
        exchange(ZenohRouting("key"), share="group")
    assert exchange(ZenohRouting("key/*"), replies=ZenohRouting("replies")).for_responder


@asynccontextmanager
async def open_client(router: ZenohRouter, *channels: ChannelDescriptor[Any]) -> AsyncIterator[ConnectorHost]:
    connector = ZenohConnector(channels, options=ZenohOptions(connect=router.endpoint))
    name = f"client-{uuid.uuid4().hex[:8]}"
    async with open_deployment(Deployment(name, None, [connector]), domain=name) as host:
        with trio.fail_after(PATIENCE):
            await host.wait_for_health(Up)
        yield host


@pytest.mark.zenoh
async def test_whoever_knows_nothing_of_us_asks_by_a_plain_get(router: ZenohRouter) -> None:
    async with (
        open_client(router, *SQUARE.for_responder) as host,
        open_outsider(router.endpoint) as outsider,
        trio.open_nursery() as nursery,
    ):
        await nursery.start(host.serve, SQUARE, square)
        assert await outsider.ask("calculator/square", b"12") == [b"144"]
        assert await outsider.ask("calculator/square", b"-3") == [b"9"]  # a get waits for the last reply
        assert await outsider.ask("calculator/*", b"5") == [b"25"]
        assert await outsider.ask_failing("calculator/square", b"2000") == [b"that is too\\nlarge"]
        assert await outsider.ask_failing("calculator/square", b"two") != []
        assert await outsider.ask("calculator/*", b"") == []  # what is kept there: nothing
        nursery.cancel_scope.cancel()


@pytest.mark.zenoh
async def test_a_plain_queryable_answers_our_requests(router: ZenohRouter) -> None:
    answers = {b"3": [b"9"], b"4": [], b"5": [b"-1", b"-2"]}
    async with (
        open_client(router, *SQUARE.for_requester) as host,
        open_outsider(router.endpoint) as outsider,
        host.open_requester(SQUARE) as calculator,
    ):
        outsider.reply_with("calculator/square", lambda payload: answers[payload], b"I can't")
        assert await calculator.request(3, timeout=PATIENCE) == 9
        with pytest.raises(RequestFailed, match="I can't"):
            await calculator.request(4, timeout=PATIENCE)
        assert await calculator.request(5, timeout=PATIENCE) == -1  # the first


@pytest.mark.zenoh
async def test_a_request_outlives_a_router_that_is_killed(router: ZenohRouter) -> None:
    """Whoever asks does it again, and the responder knows the request: it is carried out once."""
    begun: list[int] = []

    async def slowly(request: Request[int]) -> int:
        begun.append(request.value)
        await trio.sleep(0.3)
        return request.value**2

    async with (
        open_client(router, *SQUARE.for_responder) as there,
        open_client(router, *SQUARE.for_requester) as host,
        trio.open_nursery() as nursery,
        host.open_requester(SQUARE) as calculator,
    ):
        await nursery.start(there.serve, SQUARE, slowly)
        assert await calculator.request(1, timeout=PATIENCE) == 1
        async with trio.open_nursery() as asking:

            async def ask() -> None:
                assert await calculator.request(2, timeout=PATIENCE) == 4

            asking.start_soon(ask)
            with trio.fail_after(PATIENCE):
                while len(begun) < 2:  # noqa: ASYNC110 - a list of the handler
                    await trio.sleep(0.01)
            await router.stop()
            await router.start()
        assert begun == [1, 2]
        nursery.cancel_scope.cancel()
