"""A client of a real router: what is put arrives, and what others put comes."""

from __future__ import annotations

import pytest
import trio

from taktora_trio import Inbound, Outbound, RawCodec, ZenohConnector, ZenohOptions, ZenohRouting
from taktora_trio.testing.driver import Driver
from taktora_trio.testing.zenoh.router import ZenohRouter

pytestmark = pytest.mark.zenoh

OUT = Outbound("out", bytes, ZenohRouting("topic/out"))
IN = Inbound("in", bytes, ZenohRouting("topic/in"))


def connector(router: ZenohRouter) -> ZenohConnector:
    return ZenohConnector([OUT, IN], options=ZenohOptions(connect=router.endpoint), codec=RawCodec())


async def test_messages_travel_from_one_client_to_another(router: ZenohRouter) -> None:
    first, there = Driver(connector(router), "first"), Inbound("in", bytes, OUT.routing)
    second = Driver(ZenohConnector([there], options=connector(router).options, codec=RawCodec()), "second")
    async with first.connected() as one, second.connected():
        payloads = [b"%d" % number for number in range(20)]
        first.publish(one, "out", first.envelopes("out", *payloads))
        assert [message.payload for message in await second.take(20)] == payloads
        await first.until_done(20)


async def test_a_message_for_several_channels_comes_once(router: ZenohRouter) -> None:
    """Zenoh hands a message to each subscriber of a session that matches."""
    routes = {"all": "topic/**", "one": "topic/*/7", "other": "topic/x/*", "within": "topic/x/7", "text": "*/x/$*7"}
    inbound = [Inbound(name, bytes, ZenohRouting(key)) for name, key in routes.items()]
    for several in (inbound, inbound[1:], inbound[:0:-1]):
        out = Outbound("out", bytes, ZenohRouting("topic/x/7"))
        first = Driver(ZenohConnector([out], options=connector(router).options, codec=RawCodec()), "first")
        second = Driver(ZenohConnector(several, options=connector(router).options, codec=RawCodec()), "second")
        async with second.connected(), first.connected() as one:
            first.publish(one, "out", first.envelopes("out", b"1", b"2"))
            assert [message.payload for message in await second.take(2)] == [b"1", b"2"]
        assert set(second.client.channels_of("topic/x/7")) == {channel.name for channel in several}


async def test_a_router_that_is_killed_ends_the_connection(router: ZenohRouter) -> None:
    driver = Driver(connector(router), "client")
    async with driver.connected() as connection:
        await router.stop()
        with trio.fail_after(5):
            lost = await driver.lost(connection)
        assert str(lost).isprintable()
