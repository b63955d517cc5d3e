"""Latched values: for whoever comes later, also after a gateway was killed, and once each."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from typing import Any

import attrs
import trio
from msgspec.structs import replace

from taktora_trio import (
    Client,
    Connection,
    GatewayChannels,
    Inbound,
    Metadata,
    Outbound,
    RawCodec,
    ZenohConnector,
    ZenohOptions,
    ZenohRouting,
)
from taktora_trio.connectors.zenoh.nodes import open_node
from taktora_trio.connectors.zenoh.session import Quality, Question, Sample, Session
from taktora_trio.executor import Executor
from taktora_trio.health import Degraded, HealthBoard, Up
from taktora_trio.testing.driver import Driver
from tests.zenoh.hearing import Heard
from tests.zenoh.knowing import session_of, until_known

STATE = "plant/7/state"
OUT = Outbound("out", bytes, ZenohRouting("plant/*/state", latched=True))
IN = Inbound("in", bytes, ZenohRouting("plant/**", latched=True))


def driver(network: ZenohOptions, *channels: Any) -> Driver:
    return Driver(ZenohConnector(channels, options=network, codec=RawCodec()), "gateway")


def put(driver: Driver, connection: Connection, payload: bytes, key: str = STATE, **metadata: Any) -> None:
    (envelope,) = driver.envelopes("out", payload)
    envelope = replace(envelope, topic=key, metadata=Metadata(**metadata) if metadata else None)
    driver.publish(connection, "out", [envelope])


@asynccontextmanager
async def plain(network: ZenohOptions) -> AsyncIterator[Session]:
    """A client that knows nothing of this package."""
    async with open_node(network) as node:
        await node.wait_until_linked()
        async with node.open_session() as session:
            yield session


async def get(session: Session, key: str) -> list[Sample]:
    replies, ended = Heard[Sample](), Heard[None]()
    session.ask(key, b"", Quality(), "", b"", 10.0, replies, lambda failure: None, on_end=lambda: ended(None))
    await ended.next()
    return replies.all


async def receive(driver: Driver, count: int = 1) -> list[tuple[str, bytes, bool]]:
    return [(message.topic, message.payload, message.retained) for message in await driver.take(count)]


async def settled(session: Session, driver: Driver, connection: Connection) -> None:
    """Wait until all has come to the driver that others have put and told so far."""
    await until_known(session, session_of(connection))
    session.put("plant/end", b"", Quality())
    while (await driver.take(1))[0].topic != "plant/end":
        raise AssertionError("something came that is no news")


async def test_whoever_comes_later_gets_the_last_value_of_each_key(network: ZenohOptions) -> None:
    sends, receives = driver(network, OUT), driver(network, IN)
    async with sends.connected() as sending, plain(network) as outside:
        await until_known(outside, session_of(sending))
        put(sends, sending, b"1")
        put(sends, sending, b"2", content_type="text/plain", user_properties=(("unit", "bar"),))
        put(sends, sending, b"3", "plant/8/state")
        await sends.until_done(3)
        assert sorted(reply.payload for reply in await get(outside, "plant/*/state")) == [b"2", b"3"]
        assert [reply.payload for reply in await get(outside, "plant/8/state")] == [b"3"]
        assert await get(outside, "plant/9/state") == []
        async with receives.connected():
            messages = {message.topic: message for message in await receives.take(2)}
    assert {key: message.payload for key, message in messages.items()} == {STATE: b"2", "plant/8/state": b"3"}
    assert all(message.retained and message.reliable for message in messages.values())
    assert messages[STATE].metadata == Metadata("text/plain", user_properties=(("unit", "bar"),))


async def test_a_new_connection_brings_what_has_changed_and_nothing_else(network: ZenohOptions) -> None:
    sends, receives = driver(network, OUT), driver(network, IN)
    async with sends.connected() as sending, plain(network) as outside:
        put(sends, sending, b"same")
        put(sends, sending, b"before", "plant/8/state")
        async with receives.connected() as receiving:
            await receive(receives, 2)
            await until_known(session_of(sending), session_of(receiving))
            put(sends, sending, b"live", "plant/9/state")
            (live,) = await receives.take(1)  # as it is put, or as the answer to what was asked at the beginning
            assert (live.topic, live.payload) == ("plant/9/state", b"live")
        put(sends, sending, b"after", "plant/8/state")
        async with receives.connected() as receiving:
            assert await receive(receives) == [("plant/8/state", b"after", True)]
            await settled(outside, receives, receiving)


async def test_who_is_there_gets_what_was_put_before_the_publisher_was_reachable(network: ZenohOptions) -> None:
    """As after a cut of the publisher's line, or the start of a gateway after one that was killed."""
    memory = bytearray(3_000_000)
    sends, receives = driver(network, OUT), driver(network, IN)

    def of_gateway(name: str, size: int) -> memoryview:
        return memoryview(memory)[:size]

    def client() -> Client:
        channels = GatewayChannels({}, {}, Executor(), HealthBoard(["zenoh"]), "gateway", of_gateway)
        return sends.connector.client(channels, lambda message: None)

    sends.client = client()
    async with sends.connected() as sending:
        put(sends, sending, b"the last")
        await sends.until_done(1)
    async with receives.connected() as receiving, plain(network) as outside:
        await settled(outside, receives, receiving)
        sends.client = client()  # of another process, which has the memory alone
        async with sends.connected():
            assert await receive(receives) == [(STATE, b"the last", True)]


async def test_without_a_payload_the_value_is_deleted(network: ZenohOptions) -> None:
    sends, receives = driver(network, OUT), driver(network, IN)
    async with sends.connected() as sending, plain(network) as outside, receives.connected() as receiving:
        await until_known(session_of(sending), session_of(receiving))
        put(sends, sending, b"1")
        put(sends, sending, b"")
        assert await receive(receives, 2) == [(STATE, b"1", False), (STATE, b"", False)]
        assert await get(outside, "plant/**") == []


async def test_others_may_delete_a_value(network: ZenohOptions) -> None:
    sends = driver(network, OUT)
    async with sends.connected() as sending, plain(network) as outside:
        await until_known(outside, session_of(sending))
        put(sends, sending, b"1")
        put(sends, sending, b"2", "plant/8/state")
        await sends.until_done(2)
        await until_known(outside, session_of(sending))  # and of what it keeps: else the delete would not be sent
        outside.delete(STATE, Quality())
        with trio.fail_after(10):
            while len(left := await get(outside, "plant/**")) == 2:
                pass  # it has not heard of the delete yet
        assert [reply.payload for reply in left] == [b"2"]


async def test_a_value_that_has_expired_is_not_told(network: ZenohOptions) -> None:
    sends = driver(network, OUT)
    async with sends.connected() as sending, plain(network) as outside:
        await until_known(outside, session_of(sending))
        put(sends, sending, b"over", message_expiry=0)
        put(sends, sending, b"not over", "plant/8/state", message_expiry=1000)
        await sends.until_done(2)
        assert [reply.payload for reply in await get(outside, "plant/**")] == [b"not over"]


async def test_what_plain_clients_and_storages_keep_comes_as_well(network: ZenohOptions) -> None:
    """Of two that have a value of one key, the newer counts."""
    receives = driver(network, IN)
    async with AsyncExitStack() as stack:
        one, other = [await stack.enter_async_context(plain(network)) for _ in range(2)]
        old, new = one.timestamp(), one.timestamp()
        asked = count(1)

        def answer(question: Question) -> None:
            question.reply(STATE, b"old", timestamp=old)
            question.reply("plant/unknown", b"of no known time")
            question.reply("plant/end/one", b"%d" % next(asked))
            question.close()

        def answer_newer(question: Question) -> None:
            question.reply(STATE, b"new", timestamp=new)
            question.reply("plant/end/other", b"%d" % next(asked))
            question.close()

        await one.answer("plant/**", answer, complete=False)
        await other.answer("plant/**", answer_newer)
        await until_known(one, other)
        await until_known(other, one)
        for expected in [{("plant/unknown", b"of no known time"), (STATE, b"new")}, set()]:
            async with receives.connected():
                came = list[tuple[str, bytes]]()
                for _ in range(2):
                    while not (message := (await receives.take(1))[0]).topic.startswith("plant/end"):
                        assert message.retained
                        came.append((message.topic, message.payload))
            if came and came[0] == (STATE, b"old"):  # it has answered first
                del came[0]
            assert set(came) == expected


async def test_an_acknowledged_channel_may_be_latched(network: ZenohOptions) -> None:
    """The value may come as an answer, too, before the message or behind it."""
    sends = driver(network, attrs.evolve(OUT, routing=ZenohRouting("plant/*/state", acknowledged=True, latched=True)))
    receives = driver(network, attrs.evolve(IN, routing=ZenohRouting("plant/**", acknowledged=True, latched=True)))

    async def receive_message(connection: Connection, payload: bytes) -> None:
        while True:
            (message,) = await receives.take(1)
            assert message.payload == payload
            connection.acknowledge(message)
            if not message.retained:
                return

    async with sends.connected() as sending:
        async with receives.connected() as receiving:
            await until_known(session_of(sending), session_of(receiving))
            put(sends, sending, b"1")
            await receive_message(receiving, b"1")
            await sends.until_done(1)
        await receives.take(receives.waiting)
        put(sends, sending, b"2", "plant/8/state")
        async with receives.connected() as receiving:
            await receive_message(receiving, b"2")  # and not the other one, which is known
            await sends.until_done(2)


async def test_what_a_connector_keeps_for_others_does_not_come_to_itself(network: ZenohOptions) -> None:
    for others_only in (False, True):
        back = attrs.evolve(IN, routing=ZenohRouting("plant/**", latched=True, others_only=others_only))
        bridge = driver(network, OUT, back)
        async with bridge.connected() as connection, plain(network) as outside:
            put(bridge, connection, b"own")
            await bridge.until_done(1)
            await until_known(outside, session_of(connection))
            outside.put("plant/end", b"", Quality())
            came = [(await bridge.take(1))[0].topic]
            while came[-1] != "plant/end":
                came.append((await bridge.take(1))[0].topic)
            assert came[:-1] == ([] if others_only else [STATE])


async def test_the_oldest_values_are_forgotten_where_they_take_too_much(network: ZenohOptions) -> None:
    small = attrs.evolve(network, latched_space=1000)
    board = HealthBoard(["zenoh"])
    board.report("zenoh", Up())
    sends = driver(small, OUT)
    sends.client = sends.connector.client(GatewayChannels({}, {}, Executor(), board, "g"), lambda message: None)
    async with sends.connected() as sending, plain(network) as outside:
        await until_known(outside, session_of(sending))
        for number in range(30):
            put(sends, sending, bytes(100), f"plant/{number}/state")
        await sends.until_done(30)
        kept = {reply.key for reply in await get(outside, "plant/**")}
    assert "plant/29/state" in kept
    assert "plant/0/state" not in kept
    assert isinstance(state := board.state("zenoh"), Degraded)
    assert "latched_space" in str(state)
