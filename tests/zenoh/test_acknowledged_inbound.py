"""Acknowledged channels of whole connectors: in memory, and by a real router."""

from __future__ import annotations

import uuid

import pytest
import trio
import trio.testing

from taktora_trio import Inbound, Outbound, RawCodec, ZenohConnector, ZenohOptions, ZenohRouting
from taktora_trio.connectors.zenoh.memory.network import MemoryNetwork
from taktora_trio.health import Connecting, Degraded, Up
from taktora_trio.testing.driver import Driver
from taktora_trio.testing.zenoh.router import ZenohRouter
from tests.zenoh.knowing import session_of, until_known
from tests.zenoh.outsider import open_outsider

OUT = Outbound("out", bytes, ZenohRouting("topic/out", acknowledged=True))
IN = Inbound("in", bytes, ZenohRouting("topic/*", acknowledged=True))


def driver(name: str, options: ZenohOptions, *channels: Inbound[bytes] | Outbound[bytes]) -> Driver:
    return Driver(ZenohConnector(channels, options=options, codec=RawCodec()), name)


async def test_a_message_is_done_when_the_app_of_its_receiver_is(network: ZenohOptions) -> None:
    first, second = driver("first", network, OUT), driver("second", network, IN)
    async with first.connected() as one:
        first.publish(one, "out", first.envelopes("out", *[b"%d" % number for number in range(20)]))  # nobody is there
        async with second.connected() as other:
            came = await second.take(20)
            assert [message.payload for message in came] == [b"%d" % number for number in range(20)]
            assert not any(message.redelivered for message in came)
            assert not first.done
            for message in came:
                other.acknowledge(message)
            await first.until_done(20)
        assert first.done == [("out", number, "") for number in range(1, 21)]


async def test_what_a_receiver_leaves_comes_to_the_next_one(network: ZenohOptions) -> None:
    first, second, third = driver("first", network, OUT), driver("second", network, IN), driver("third", network, IN)
    async with first.connected() as one:
        async with second.connected() as other:
            await until_known(session_of(one), session_of(other))
            first.publish(one, "out", first.envelopes("out", b"1", b"2", b"3"))
            came = await second.take(3)
            assert not any(message.redelivered for message in came)
            other.acknowledge(came[0])
            await first.until_done(1)
        async with third.connected() as other:
            again = await third.take(2)
            assert [(message.payload, message.redelivered) for message in again] == [(b"2", True), (b"3", True)]
            assert [message.delivery_id for message in again] == [message.delivery_id for message in came[1:]]
            for message in again:
                other.acknowledge(message)
            await first.until_done(3)


async def test_a_receiver_that_was_away_does_not_take_a_message_twice(network: ZenohOptions) -> None:
    """Neither one that its app has in hand, nor one that it was done with meanwhile."""
    first, second = driver("first", network, OUT), driver("second", network, IN)
    async with first.connected() as one:
        async with second.connected() as other:
            first.publish(one, "out", first.envelopes("out", b"1", b"2", b"3"))
            came = await second.take(3)
        other.acknowledge(came[0])  # nobody hears it
        async with second.connected() as other:
            other.acknowledge(came[1])
            await first.until_done(2)
            first.publish(one, "out", first.envelopes("out", b"4"))
            assert [message.payload for message in await second.take(1)] == [b"4"]
            other.acknowledge(came[2])
            await first.until_done(3)
    assert second.waiting == 0


async def test_one_receiver_of_several_is_enough(network: ZenohOptions) -> None:
    first, second, third = driver("first", network, OUT), driver("second", network, IN), driver("third", network, IN)
    async with first.connected() as one, second.connected() as other, third.connected():
        first.publish(one, "out", first.envelopes("out", b"0"))
        other.acknowledge((await second.take(1))[0])
        await first.until_done(1)
        first.publish(one, "out", first.envelopes("out", b"1"))
        assert (await third.take(1))[0].payload in (b"0", b"1")  # it may have come later than the other
        other.acknowledge((await second.take(1))[0])
        await first.until_done(2)


async def test_nobody_is_there_and_that_is_said(autojump_clock: trio.testing.MockClock) -> None:
    options = ZenohOptions(session="memory", connect=f"tcp/{uuid.uuid4().hex}:7447")
    first = driver("first", options, OUT)
    async with first.connected() as one:
        for state in (Connecting(), Up()):
            first.health.report("zenoh", state)
        first.publish(one, "out", first.envelopes("out", b"0", b"1"))
        with trio.fail_after(5):
            degraded = await first.health.wait_for("zenoh", Degraded)
        assert degraded == Degraded("channel out: nobody is there for its messages: 2 wait")
        events = first.health.events()
        first.publish(one, "out", first.envelopes("out", b"2"))
        with trio.fail_after(20):
            event = await anext(aiter(events))
        assert event.after == Degraded("channel out: nobody is there for its messages: 3 wait")
    MemoryNetwork.forget(options.places)


@pytest.mark.zenoh
async def test_others_that_know_nothing_of_us_acknowledge_and_send_what_is_acknowledged(router: ZenohRouter) -> None:
    options = ZenohOptions(connect=router.endpoint)
    ours = driver("ours", options, OUT, Inbound("in", bytes, ZenohRouting("topic/in", acknowledged=True)))
    async with ours.connected() as one, open_outsider(router.endpoint) as outsider:
        ours.publish(one, "out", ours.envelopes("out", b"1", b"2"))
        heard = outsider.answer("topic/**")
        assert [await heard.receive() for _ in range(2)] == [("topic/out", b"1"), ("topic/out", b"2")]
        await ours.until_done(2)
        replies: list[bytes] = []
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                replies.extend(await outsider.ask("topic/in", b"payload"))

            nursery.start_soon(ask)
            (came,) = await ours.take(1)
            assert came.payload == b"payload"
            assert not replies
            one.acknowledge(came)
        assert replies == [b""]
