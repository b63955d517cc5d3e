"""What `tests/testing/test_contract.py` asks of an app under test, of one on Zenoh: the same calls, in every shape."""

from __future__ import annotations

import pytest

from taktora_trio import Connecting, Degraded, Down, Metadata, Up
from taktora_trio.testing import NothingCame, OpenApp
from tests.zenoh.contract_app import (
    ANSWER,
    ASK,
    FORWARDED,
    SQUARE,
    TOLD,
    Job,
    Report,
    answering,
    asking,
    calculating,
    forwarding,
)

pytestmark = pytest.mark.taktora_shape(
    "memory", pytest.param("in-process", marks=pytest.mark.zenoh), pytest.param("split", marks=pytest.mark.zenoh)
)


async def test_messages_of_each_guarantee_with_all_that_comes_with_them(open_app: OpenApp) -> None:
    async with open_app(answering) as app:
        for index, guarantee in enumerate(("at most once", "at least once")):
            for number in (10, 20, 30):
                await app.publish(f"asked/{index}", Job(number))
            told = [await app.expect(f"told{index}") for _ in range(3)]
            assert [(sent.topic, sent.value, sent.guarantee, sent.retained, sent.channel) for sent in told] == [
                (f"told/{index}", Job(number), guarantee, False, f"told{index}") for number in (11, 21, 31)
            ]
        metadata = Metadata(content_type="text/x", response_topic="to/me", user_properties=(("a", "1"), ("a", "2")))
        for index in (0, 1):
            topic = f"asked/{index}"
            await app.publish(topic, b'{"number": 1}', metadata=metadata, correlation_id=b"\0\1")
            sent = await app.expect(TOLD[index])
            assert (sent.payload, sent.metadata, sent.correlation_id) == (b'{"number":2}', metadata, b"\0\1")
        await app.publish("time", Job(5))
        assert (await app.expect("state")).value == Job(5)
        assert (await app.expect("report")).value.count == 1
        # A payload that can't be read ends no app.
        await app.publish("asked/0", b"no JSON")
        assert isinstance(await app.wait_for_health(Degraded), Degraded)
        for number in (40, 50):
            await app.publish("asked/1", Job(number))
        assert (await app.expect("told/**", where=lambda sent: sent.value.number > 41)).value == Job(51)
        assert (await app.expect("told/**")).value == Job(41)
        with pytest.raises(NothingCame, match=r"nothing came on 'told0' within 0\.2 s; health: zenoh"):
            await app.expect("told0", timeout=0.2)
        assert [sent.value.number for sent in app.sent("told1")] == [11, 21, 31, 2, 41, 51]


async def test_what_goes_wrong_passes_and_nothing_is_lost(open_app: OpenApp) -> None:
    def told(number: int) -> Job:
        return Job(number + 1)

    async with open_app(answering) as app:
        await app.publish("asked/1", Job(0))
        await app.expect("told1")

        app.cut()
        assert isinstance(await app.wait_for_health(Connecting), Connecting)
        await app.publish("asked/1", Job(10))
        assert (await app.expect("told1", where=lambda sent: sent.value.number > 1)).value == told(10)

        await app.wait_for_health(Up)
        async with app.unreachable():
            await app.wait_for_health(Connecting)
            await app.publish("asked/1", Job(20))
            assert told(20) not in [sent.value for sent in app.sent("told1")]
        assert (await app.expect("told1", where=lambda sent: sent.value.number > 11)).value == told(20)

        await app.wait_for_health(Up)
        async with app.refused():
            down = await app.wait_for_health(Down)
            assert isinstance(down, Down)
            assert "refuses this node: its login" in down.reason
            await app.publish("asked/1", Job(30))
        await app.revive()
        assert (await app.expect("told1", where=lambda sent: sent.value.number > 21)).value == told(30)

        await app.wait_for_health(Up)
        app.kill_gateway()
        down = await app.wait_for_health(Down)
        assert isinstance(down, Down)
        # The supervisor says "incarnation 1 ended"; the kernel alone tells of a process, where that is known first.
        assert " ended" in down.reason
        await app.publish("asked/1", Job(40))
        assert (await app.expect("told1", where=lambda sent: sent.value.number > 31)).value == told(40)
        numbers = [sent.value.number for sent in app.sent("told1")]
        assert list(dict.fromkeys(numbers)) == [1, 11, 21, 31, 41]  # some may come twice


async def test_a_slow_acknowledgement_and_a_full_channel(open_app: OpenApp) -> None:
    async with open_app(answering) as app:
        async with app.slow(0.3):
            await app.publish("time", Job(1))
            assert (await app.expect("state")).value == Job(1)
            slow = (await app.expect("report")).value
            assert slow.seconds >= 0.3
        async with app.full():
            await app.publish("fill", Job(2))
            assert (await app.expect("report")).value == Report(4, text="Degraded")
            assert isinstance(await app.wait_for_health(Degraded), Degraded)
            assert [(await app.expect("state")).value for _ in range(4)] == [Job(2)] * 4
            await app.publish("asked/0", Job(3))  # at most once nobody waits
            assert (await app.expect("told0")).value == Job(4)
        await app.publish("time", Job(5))
        assert (await app.expect("state")).value == Job(5)
        await app.wait_for_health(Up)


async def test_each_connector_fails_alone(open_app: OpenApp) -> None:
    async with open_app(forwarding) as app:
        await app.wait_for_health(Up, connector="cloud")
        await app.publish("plant/press/measured", Job(1))
        assert (await app.expect(FORWARDED)).value == Report(1, text="plant/press/measured")
        async with app.unreachable("plant"):
            await app.wait_for_health(Connecting, connector="plant")
            assert isinstance(app.health("cloud"), Up)
            # At most once nobody keeps it for whoever is away, but what is latched.
            await app.publish("plant/press/measured", Job(2))
            await app.publish("plant/oven/measured", Job(3), retain=True)
        assert (await app.expect("cloud/**")).value == Report(3, text="plant/oven/measured retained")
        async with app.unreachable("cloud"):
            await app.wait_for_health(Connecting, connector="cloud")
            await app.publish("plant/saw/measured", Job(4))
            assert [sent.value.count for sent in app.sent(FORWARDED)] == [1, 3]
        assert (await app.expect(FORWARDED)).value == Report(4, text="plant/saw/measured")
        assert {sent.connector for sent in app.sent()} == {"cloud"}


async def test_the_test_asks_an_app_and_answers_one(open_app: OpenApp) -> None:
    async with open_app(calculating) as app:
        await app.publish("calculator/square", 3, correlation_id=b"one")
        sent = await app.expect("calculator/square/replies/*")
        assert (sent.value, sent.correlation_id, sent.guarantee) == (9, b"one", "at least once")
        to_me = Metadata(response_topic="calculator/square/replies/me")
        await app.publish(SQUARE.for_responder[0], -1, metadata=to_me, correlation_id=b"two")
        sent = await app.expect(SQUARE.for_responder[1])
        assert (sent.topic, sent.correlation_id) == ("calculator/square/replies/me", b"two")
        assert sent.metadata is not None
        assert "no roots here" in str(sent.metadata.user_properties)
    async with open_app(asking) as app:
        await app.publish(ASK, 4)
        request = await app.expect("calculator/square")
        assert request.value == 4
        assert request.metadata is not None
        await app.publish(request.metadata.response_topic, 16, correlation_id=request.correlation_id)
        assert (await app.expect(ANSWER)).value == 16
