"""Exchanges as an app's author tests them: in memory, on a virtual clock."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from taktora_trio import (
    CodecError,
    ConfigError,
    ConnectorHost,
    Deployment,
    Exchange,
    Inbound,
    Metadata,
    MqttConnector,
    MqttOptions,
    MqttRouting,
    Request,
    Requester,
    RequestFailed,
    RequestTimeout,
    Up,
)
from taktora_trio.testing import open_app

SQUARE = Exchange("square", int, int, MqttRouting("square", qos=1), window=4)
OTHER = Exchange("other", int, int, MqttRouting("other"))
MQTT_5 = MqttOptions(protocol="5")


async def ask(host: ConnectorHost) -> None:
    """An app that asks: each number that it asks for is the last reply and one more."""
    number = 1
    async with host.open_requester(SQUARE) as requester:
        while True:
            with contextlib.suppress(RequestTimeout):
                number = 1 + await requester.request(number, timeout=5)


async def test_an_app_that_asks_is_answered_by_its_test(autojump_clock: MockClock) -> None:
    deployment = Deployment("asks", ask, [MqttConnector(SQUARE.for_requester, options=MQTT_5)])
    async with open_app(deployment) as app:
        for number in (1, 11, 111):
            asked = await app.expect("square")
            assert asked.value == number
            assert asked.metadata is not None
            assert asked.metadata.message_expiry == 5
            reply_to = asked.metadata.response_topic
            assert reply_to.startswith("square/replies/")
            assert "{" not in reply_to
            await app.publish(reply_to, 10 * number, correlation_id=asked.correlation_id)
        await app.expect("square")
        assert (await app.expect("square", timeout=10)).value == 1111, "asked again behind its deadline"


@contextlib.asynccontextmanager
async def open_both(
    *channels: Inbound[Any],
) -> AsyncIterator[tuple[Any, Requester[int, int], list[int]]]:
    """A requester and a responder in one deployment, whose handler takes a second; and what it was called for."""
    handled = []

    async def square(request: Request[int]) -> int:
        handled.append(request.value)
        await trio.sleep(1)
        if request.value < 0:
            raise RequestFailed("below 0")
        return request.value**2

    connector = MqttConnector([*SQUARE.for_requester, *SQUARE.for_responder, *channels], options=MQTT_5)
    async with open_app(Deployment("both", None, [connector])) as app, trio.open_nursery() as nursery:
        await app.wait_for_health(Up)
        await nursery.start(app.host.serve, SQUARE, square)
        async with app.host.open_requester(SQUARE) as requester:
            yield app, requester, handled
        nursery.cancel_scope.cancel()


async def test_what_is_asked_while_the_gateway_is_killed_is_answered_once(autojump_clock: MockClock) -> None:
    async with open_both() as (app, requester, handled):
        results: list[int] = []

        async def one(number: int) -> None:
            results.append(await requester.request(number, timeout=60))

        async with trio.open_nursery() as nursery:
            for number in range(30):
                nursery.start_soon(one, number)
            for _ in range(3):
                await trio.sleep(0.5)
                app.kill_gateway()
                await app.wait_for_health(Up)
                app.cut()
        assert sorted(results) == [number**2 for number in range(30)]
        assert sorted(handled) == list(range(30))


async def test_a_deadline_holds_while_the_broker_is_out_of_reach_and_nothing_is_begun_behind_it(
    autojump_clock: MockClock,
) -> None:
    async with open_both() as (app, requester, handled):
        async with app.unreachable():
            start = trio.current_time()
            with pytest.raises(RequestTimeout):
                await requester.request(7, timeout=3)
            assert trio.current_time() - start == pytest.approx(3)
        with pytest.raises(RequestFailed, match="below 0"):
            await requester.request(-1, timeout=60)
        assert handled in ([-1], [7, -1]), "the expiry is by the machine's clock, which did not jump"


async def test_an_exchange_that_is_not_declared_and_what_is_no_request(autojump_clock: MockClock) -> None:
    async with open_both() as (app, requester, handled):
        said = r"channel 'other-request' belongs to no connector .* it is one of exchange 'other': list its for_request"
        with pytest.raises(ConfigError, match=said):
            async with app.host.open_requester(OTHER):
                pass
        with pytest.raises(trio.BusyResourceError):
            async with app.host.open_requester(SQUARE):
                pass
        with pytest.raises(CodecError):
            await requester.request("seven", timeout=5)  # type: ignore[arg-type]
        assert requester.statistics().failed == 1
        assert handled == []


async def test_a_reply_on_a_topic_of_its_own_reaches_no_other_channel(autojump_clock: MockClock) -> None:
    """An app may look at all replies, too."""
    watched = Inbound("watched", int, MqttRouting("square/#", qos=1), max_metadata=1024)
    async with open_both(watched) as (app, requester, _):
        async with app.host.open_reader(watched) as reader:
            assert await requester.request(3, timeout=60) == 9
            with trio.fail_after(5):
                request, reply = await reader.receive(), await reader.receive()
        assert request.metadata == Metadata(response_topic=reply.topic, message_expiry=60)
        assert reply.header.correlation_id == request.header.correlation_id
        assert (request.value, reply.value) == (3, 9)
