"""The bridge of the examples, in memory: what it carries, what it leaves, and that nothing goes in circles."""

from __future__ import annotations

import attrs
import pytest
import trio
import zenoh
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from examples.bridge import BRIDGED_AS, BRIDGED_FROM, Tree, bridge, key_of, topic_of
from taktora_trio import ConnectorHost, Deployment, Metadata, Up
from taktora_trio.connectors.mqtt.topics import check_topic
from taktora_trio.testing import open_app

QUIET = 5.0  # seconds of the virtual clock in which nothing more came

_text = st.text(alphabet="*$?#@/%2A43F50B+\0aü", max_size=14)


@given(_text)
def test_each_topic_has_a_key_of_its_own(text: str) -> None:
    topic = text.replace("+", "").replace("#", "").replace("\0", "") or "/"
    check_topic(topic)
    key = key_of(topic)
    assert zenoh.KeyExpr("**").includes(zenoh.KeyExpr(key))
    assert topic_of(key) == topic


@given(_text)
def test_each_key_has_a_topic_of_its_own(text: str) -> None:
    chunks = [chunk.translate(dict.fromkeys(map(ord, "*$?#@"))) for chunk in text.split("/")]
    key = "/".join(filter(None, chunks)) or "a"
    if key == "%2F":  # which is the topic of no characters, and MQTT has none
        return
    zenoh.KeyExpr(key)
    topic = topic_of(key)
    check_topic(topic)
    assert key_of(topic) == key


def test_what_one_side_does_not_have_is_written() -> None:
    for topic, key in {
        "plant/hall/temperature": "plant/hall/temperature",
        "/plant//hall/": "%2F/plant/%2F/hall/%2F",
        "plant/50%/a*?$": "plant/50%/a%2A%3F%24",
        "plant/@hall/a@b": "plant/%40hall/a@b",
        "plant/%2A": "plant/%252A",
        "plant/%2Bpump": "plant/+pump",
    }.items():
        assert (key_of(topic), topic_of(key)) == (key, topic)


@pytest.fixture
def deployment() -> Deployment:
    trees = [Tree("plant"), Tree("orders", acknowledged=True), Tree("state", lasting=True)]
    return bridge("bridge", trees, mqtt="hall", zenoh="site")


async def test_a_message_keeps_what_it_has_in_both_directions(
    autojump_clock: MockClock, deployment: Deployment
) -> None:
    properties = (("unit", "°C"), ("unit", "K"))
    for source, target, tree, was, becomes in (
        ("mqtt", "zenoh", "plant", "plant/a*", "plant/a%2A"),
        ("zenoh", "mqtt", "plant", "plant/%40b", "plant/@b"),
        ("mqtt", "zenoh", "orders", "orders//1", "orders/%2F/1"),
        ("zenoh", "mqtt", "orders", "orders/%2F/1", "orders//1"),
    ):
        translate = key_of if source == "mqtt" else topic_of
        async with open_app(deployment) as app:
            given = Metadata("text/plain", "plant/answers/1", 60, properties)
            await app.publish(was, b"\0\xff", connector=source, metadata=given, correlation_id=b"7" * 50)
            sent = await app.expect(f"{tree}-to-{target}")
            assert (sent.connector, sent.topic, sent.payload) == (target, becomes, b"\0\xff")
            assert sent.correlation_id == b"7" * 50
            assert sent.guarantee == ("at least once" if target == "mqtt" or tree == "orders" else "at most once")
            assert sent.metadata is not None
            assert sent.metadata.content_type == "text/plain"
            assert sent.metadata.response_topic == translate("plant/answers/1")
            assert sent.metadata.message_expiry in (59, 60)
            names = {"mqtt": "hall", "zenoh": "site"}
            assert sent.metadata.user_properties == (
                *properties,
                (BRIDGED_FROM, names[source]),
                (BRIDGED_AS, becomes),
            )


async def test_values_that_last_are_retained_there_and_latched_here(
    autojump_clock: MockClock, deployment: Deployment
) -> None:
    async with open_app(deployment) as app:
        await app.publish("state/mode", b"auto", connector="mqtt-values", retain=True)
        sent = await app.expect("state-to-zenoh")
        assert (sent.topic, sent.payload, sent.retained) == ("state/mode", b"auto", True)
        await app.publish("state/mode", b"manual", connector="zenoh", retain=True)
        sent = await app.expect("state-to-mqtt")
        assert (sent.topic, sent.payload, sent.retained) == ("state/mode", b"manual", True)


async def test_what_was_on_the_other_side_does_not_go_back_there(
    autojump_clock: MockClock, deployment: Deployment
) -> None:
    async with open_app(deployment) as app:
        for source, other in (("mqtt", "site"), ("zenoh", "hall")):
            came = (BRIDGED_FROM, "elsewhere"), (BRIDGED_FROM, other), (BRIDGED_AS, "plant/1")
            await app.publish("plant/1", b"stays", connector=source, metadata=Metadata(user_properties=came))
            await app.publish("plant/2", b"goes on", connector=source, metadata=Metadata(user_properties=came))
        answers = [await app.expect("plant/2") for _ in range(2)]  # of one who has copied the question's properties
        assert {sent.payload for sent in app.sent()} == {b"goes on"}
        for sent in answers:
            assert sent.metadata is not None
            assert len(sent.metadata.user_properties) == 2


@pytest.fixture(params=[False, True], ids=["plain", "acknowledged"])
def ring(request: pytest.FixtureRequest) -> Deployment:
    """Two bridges over the same two networks: whatever one carries, the other gets."""
    bridges = [
        bridge(name, [Tree("plant", acknowledged=request.param, max_payload=size)])
        for name, size in (("a", 1000), ("b", 1001))
    ]
    connectors = [
        attrs.evolve(connector, name=f"{connector.name}-{one.name}") for one in bridges for connector in one.connectors
    ]

    async def both(host: ConnectorHost) -> None:
        async with trio.open_nursery() as nursery:
            for one in bridges:
                assert callable(one.app)
                nursery.start_soon(one.app, host)

    return Deployment("ring", both, connectors)


async def test_a_ring_of_two_bridges_carries_each_message_once_through_each(
    autojump_clock: MockClock, ring: Deployment
) -> None:
    async with open_app(ring) as app:
        for connector in ("mqtt-a", "mqtt-b", "zenoh-a", "zenoh-b"):
            await app.wait_for_health(Up, connector=connector)
        for source, target in (("mqtt-a", "zenoh"), ("zenoh-a", "mqtt")):
            before = len(app.sent())
            await app.publish("plant/1", b"round", connector=source)
            await trio.sleep(QUIET)
            sent = [one for one in app.sent()[before:] if one.metadata is not None]  # not what the test has published
            assert {one.connector for one in sent} == {f"{target}-a", f"{target}-b"}
            assert len(sent) <= 4  # where it is acknowledged, each of the two is taken by the peers of both connectors


async def test_while_one_side_takes_nothing_the_other_is_held_up(
    autojump_clock: MockClock, deployment: Deployment
) -> None:
    async with open_app(deployment) as app:
        await app.wait_for_health(Up, connector="zenoh")
        async with app.full("zenoh"):
            for number in range(200):
                await app.publish("orders/1", b"%d" % number, connector="mqtt")
            await trio.sleep(QUIET)
            assert len(app.sent("orders-to-zenoh")) < 150
        for number in range(200):
            assert (await app.expect("orders-to-zenoh")).payload == b"%d" % number
