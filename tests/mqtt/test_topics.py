from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any, Generic, TypeVar

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from taktora_trio import ConfigError, Inbound, MqttConnector, MqttRouting
from taktora_trio.connectors.mqtt import topics as topics_module
from taktora_trio.connectors.mqtt.topics import (
    FilterTree,
    check_filter,
    check_shares,
    check_topic,
    covers,
    is_pattern,
    minimal_filters,
    split_share,
)
from tests.mosquitto import Mosquitto

T = TypeVar("T")


def matches(topic_filter: str, topic: str) -> bool:
    """Section 4.7 word for word, as slow as it likes."""
    if topic.startswith("$") and topic_filter[0] in "+#":
        return False
    return levels_match(topic_filter.split("/"), topic.split("/"))


def levels_match(wanted: list[str], levels: list[str]) -> bool:
    if wanted == ["#"]:
        return True  # "the parent and any number of child levels"
    if not wanted or not levels:
        return wanted == levels
    return wanted[0] in ("+", levels[0]) and levels_match(wanted[1:], levels[1:])


# The examples of MQTT 3.1.1, sections 4.7.1.2 to 4.7.3.
EXAMPLES = [
    ("sport/tennis/player1/#", "sport/tennis/player1", True),
    ("sport/tennis/player1/#", "sport/tennis/player1/ranking", True),
    ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", True),
    ("sport/tennis/player1/#", "sport/tennis/player10", False),
    ("sport/#", "sport", True),
    ("sport/#", "sports", False),
    ("#", "sport", True),
    ("#", "/", True),
    ("sport/tennis/+", "sport/tennis/player1", True),
    ("sport/tennis/+", "sport/tennis/player2", True),
    ("sport/tennis/+", "sport/tennis/player1/ranking", False),
    ("sport/+", "sport", False),
    ("sport/+", "sport/", True),
    ("+/+", "/finance", True),
    ("/+", "/finance", True),
    ("+", "/finance", False),
    ("+/tennis/#", "sport/tennis", True),
    ("#", "$SYS/broker", False),
    ("+/monitor/Clients", "$SYS/monitor/Clients", False),
    ("$SYS/#", "$SYS", True),
    ("$SYS/#", "$SYS/broker/load", True),
    ("$SYS/monitor/+", "$SYS/monitor/Clients", True),
    ("sport/+/x", "sport/$y/x", True),
    ("ACCOUNTS", "Accounts", False),
    ("Accounts payable", "Accounts payable", True),
    ("/finance", "finance", False),
]


@pytest.mark.parametrize(("topic_filter", "topic", "expected"), EXAMPLES)
def test_the_examples_of_the_specification(topic_filter: str, topic: str, expected: bool) -> None:
    check_filter(topic_filter)
    check_topic(topic)
    assert FilterTree([(topic_filter, "value")]).match(topic) == (["value"] if expected else [])
    assert matches(topic_filter, topic) is expected
    assert covers(topic_filter, topic) is expected  # a topic is a filter that matches itself only


LEVELS = ["a", "b", "", "$SYS"]
levels = st.lists(st.sampled_from(LEVELS), min_size=1, max_size=4)
topics = levels.map("/".join).filter(bool)
filters = st.builds(
    lambda body, tail: "/".join([*body, *tail]),
    st.lists(st.sampled_from([*LEVELS, "+"]), max_size=3),
    st.sampled_from([["#"], ["+"], ["a"], [""]]),
).filter(bool)


@settings(deadline=None, max_examples=300)
@given(st.lists(filters, max_size=12), topics)
def test_the_tree_finds_what_the_specification_says(entries: list[str], topic: str) -> None:
    tree = FilterTree((topic_filter, number) for number, topic_filter in enumerate(entries))
    assert sorted(tree.match(topic)) == [n for n, topic_filter in enumerate(entries) if matches(topic_filter, topic)]


@settings(deadline=None, max_examples=300)
@given(st.lists(filters, max_size=12), filters)
def test_the_tree_finds_what_covers(entries: list[str], narrow: str) -> None:
    tree = FilterTree((topic_filter, topic_filter) for topic_filter in entries)
    assert sorted(tree.covering(narrow)) == sorted(wide for wide in entries if covers(wide, narrow))


def shape(node: Any) -> Any:
    return node.values, {level: shape(child) for level, child in node.children.items()}


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(filters, st.integers(0, 2)), max_size=12), st.data())
def test_what_is_removed_leaves_nothing_and_takes_nothing_with_it(
    entries: list[tuple[str, int]], data: st.DataObject
) -> None:
    gone = data.draw(st.lists(st.sampled_from(entries), max_size=len(entries)) if entries else st.just([]))
    tree, left = FilterTree(entries), list(entries)
    for entry in gone:
        if entry in left:
            tree.remove(*entry)
            left.remove(entry)
        else:
            before = shape(tree._root)
            with pytest.raises((KeyError, ValueError)):
                tree.remove(*entry)
            assert shape(tree._root) == before

    def sizes(node: Any) -> Any:
        return sorted(node.values), {level: sizes(child) for level, child in node.children.items()}

    assert sizes(tree._root) == sizes(FilterTree(left)._root)


class Looks(dict[str, Any]):
    """A node's children that count how often somebody looks."""

    count = 0

    def __contains__(self, level: object) -> bool:
        Looks.count += 1
        return super().__contains__(level)

    def __iter__(self) -> Iterator[str]:
        Looks.count += len(self)
        return super().__iter__()

    def items(self) -> Any:
        raise AssertionError("not counted")

    def setdefault(self, level: str, default: Any = None) -> Any:
        Looks.count += 1
        return super().setdefault(level, default)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    class Node(topics_module._Node[T], Generic[T]):
        def __init__(self) -> None:
            super().__init__()
            self.children = Looks()

    monkeypatch.setattr(topics_module, "_Node", Node)
    Looks.count = 0


def many(count: int) -> list[str]:
    """So many filters of a plant: each kind of them in equal numbers."""
    kinds = ["plant/{}/temperature", "plant/{}/+", "plant/+/sensor/{}/#", "+/{}/x", "{}/#"]
    return [kinds[number % len(kinds)].format(number) for number in range(count)]


@pytest.mark.parametrize("count", [100, 1_000, 10_000])
def test_to_match_costs_the_same_however_many_filters_there_are(counted: None, count: int) -> None:
    tree = FilterTree((topic_filter, topic_filter) for topic_filter in many(count))
    Looks.count = 0
    assert sorted(tree.match("plant/0/temperature")) == ["plant/0/temperature"]
    # Three looks (at '#', '+' and the level) at each node that a part of the topic leads to, and one at each it ends
    # in: the root; 'plant', '+'; 'plant/0', 'plant/+'; 'plant/0/temperature'.
    assert Looks.count == 3 * (1 + 2 + 2) + 1
    Looks.count = 0
    deep = "/".join(["plant", "0", "sensor", "2", *"abcdefgh"])
    assert tree.match(deep) == ["plant/+/sensor/2/#"]
    assert Looks.count <= 3 * (1 + 2 + 2 + 1 + 1)


def test_what_is_to_be_looked_at_grows_with_the_depth_alone_at_the_worst(counted: None) -> None:
    for depth in range(1, 9):
        # Every way to write a filter that matches, and as many again that do not.
        every = ["/".join(levels) for levels in product("a+", repeat=depth)]
        tree = FilterTree((topic_filter, topic_filter) for topic_filter in every)
        Looks.count = 0
        assert len(tree.match("/".join("a" * depth))) == 2**depth
        assert Looks.count == 3 * (2**depth - 1) + 2**depth


def test_ten_thousand_filters_are_reduced_in_proportion(counted: None) -> None:
    looks = []
    for count in (1_000, 10_000):
        wanted = {topic_filter: number % 3 for number, topic_filter in enumerate(many(count))}
        wanted |= {"plant/+/sensor/#": 0, "plant/0/#": 0}
        Looks.count = 0
        kept = minimal_filters(wanted)
        looks.append(Looks.count)
        assert len(kept) == count * 4 // 5 - 1 + 2
        assert kept["plant/+/sensor/#"] == 2
    assert looks[1] <= 11 * looks[0]


@pytest.mark.parametrize("topic", ["+", "#", "a/+", "a/#", "+/b"])
def test_a_topic_that_breaks_the_rules_matches_no_filter_by_that(topic: str) -> None:
    tree = FilterTree([("a/+", "any"), ("a/b", "one")])
    assert tree.match(topic) == (["any"] if topic.startswith("a/") else [])


def universe() -> tuple[list[str], list[str]]:
    """Every topic of up to four levels, and every filter of up to three, over a small alphabet."""
    bodies = [body for length in range(3) for body in product([*LEVELS[1:], "+"], repeat=length)]
    some_filters = ["/".join([*body, last]) for body in bodies for last in [*LEVELS[1:], "+", "#"]]
    some_topics = ["/".join(body) for length in range(1, 5) for body in product(LEVELS, repeat=length)]
    return [topic for topic in some_topics if topic], [topic_filter for topic_filter in some_filters if topic_filter]


def test_covers_means_every_topic_of_the_narrow_one() -> None:
    some_topics, some_filters = universe()
    matched = {f: frozenset(topic for topic in some_topics if matches(f, topic)) for f in some_filters}
    wrong = [
        (wide, narrow)
        for wide, narrow in product(some_filters, repeat=2)
        if covers(wide, narrow) and not matched[narrow] <= matched[wide]
    ]
    assert wrong == []
    missed = {
        (wide, narrow)
        for wide, narrow in product(some_filters, repeat=2)
        if matched[narrow] <= matched[wide] and not covers(wide, narrow)
    }
    # Of two ways to write the same filter it is enough that one covers the other. Not seen, and too rare to matter:
    # since no topic is empty, "/#" has two levels at least.
    assert {(wide, narrow) for wide, narrow in missed if not covers(narrow, wide)} == {("+/+/#", "/#")}


def test_overlapping_means_a_topic_of_both() -> None:
    some_topics, some_filters = universe()
    some_filters = [*some_filters[::2], "#", "+", "+/#", "$SYS/#", "$SYS"]  # all of them would take too long
    matched = {f: frozenset(topic for topic in some_topics if matches(f, topic)) for f in some_filters}
    tree = FilterTree((topic_filter, topic_filter) for topic_filter in matched)
    for one in matched:
        assert sorted(tree.overlapping(one)) == sorted(other for other in matched if matched[one] & matched[other]), one


@settings(deadline=None, max_examples=300)
@given(st.dictionaries(filters, st.integers(0, 2), max_size=8), st.lists(topics, min_size=1, max_size=8))
def test_minimal_filters_keep_the_union_and_the_highest_qos(wanted: dict[str, int], some_topics: list[str]) -> None:
    kept = minimal_filters(wanted)
    assert kept.keys() <= wanted.keys()
    assert [(wide, narrow) for wide in kept for narrow in kept if wide != narrow and covers(wide, narrow)] == []
    for topic in some_topics:
        asked = [qos for topic_filter, qos in wanted.items() if matches(topic_filter, topic)]
        subscribed = [qos for topic_filter, qos in kept.items() if matches(topic_filter, topic)]
        assert bool(subscribed) == bool(asked)
        assert max(subscribed, default=0) >= max(asked, default=0)
    for topic_filter, qos in kept.items():
        assert qos == max(other for narrow, other in wanted.items() if covers(topic_filter, narrow))


@pytest.mark.parametrize(
    ("wanted", "kept"),
    [
        ({}, {}),
        ({"a": 0, "b": 1}, {"a": 0, "b": 1}),
        ({"a/#": 0, "a/b": 2, "a": 1}, {"a/#": 2}),
        ({"#": 1, "+/b": 0, "$SYS/#": 0}, {"#": 1, "$SYS/#": 0}),
        ({"a/+": 1, "+/b": 2, "a/b": 0}, {"a/+": 1, "+/b": 2}),
        ({"a/#": 0, "#": 0, "a/+/c": 2}, {"#": 2}),
        ({"#": 0, "$share/g/a": 1, "a": 2}, {"#": 2, "$share/g/a": 1}),
        ({"$share/g/#": 2, "a": 0, "$share/h/a": 1}, {"$share/g/#": 2, "a": 0, "$share/h/a": 1}),
    ],
)
def test_minimal_filters(wanted: dict[str, int], kept: dict[str, int]) -> None:
    assert minimal_filters(wanted) == kept


@pytest.mark.parametrize("topic", ["a", "/", "a//b", "$SYS/x", "ü b", "x" * 65_535])
def test_good_topics(topic: str) -> None:
    check_topic(topic)
    check_filter(topic)
    assert not is_pattern(topic)


@pytest.mark.parametrize("topic_filter", ["#", "+", "a/#", "+/a/#", "/+", "+/+", "$SYS/#"])
def test_patterns_are_good_filters_and_no_topics(topic_filter: str) -> None:
    check_filter(topic_filter)
    assert is_pattern(topic_filter)
    with pytest.raises(ConfigError, match="has a wildcard"):
        check_topic(topic_filter)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", "at least one character"),
        (None, "at least one character"),
        ("a\0b", "null character"),
        ("a\ud800", "U+D800"),
        ("a\x1f", "U+001F"),
        ("a\U0001fffe", "U+1FFFE"),
        ("x" * 65_536, "65536 bytes; MQTT ends at 65535"),
        ("ü" * 32_768, "65536 bytes; MQTT ends at 65535"),
    ],
)
def test_strings_that_are_neither(value: Any, message: str) -> None:
    for check in (check_topic, check_filter):
        with pytest.raises(ConfigError) as caught:
            check(value)
        assert message in str(caught.value)
        assert len(str(caught.value)) < 200


CONNECT = b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x00"
PING, PONG = b"\xc0\x00", b"\xd0\x00"


def publish(topic: str, user_property: str) -> bytes:
    """A PUBLISH at QoS 0 (MQTT 5, section 3.3)."""
    encoded, value = topic.encode(), user_property.encode()
    properties = b"\x26\x00\x01k" + len(value).to_bytes(2, "big") + value
    body = len(encoded).to_bytes(2, "big") + encoded + bytes([len(properties)]) + properties
    return bytes([0x30, len(body)]) + body


@pytest.mark.parametrize("text", ["ü b", "a\0", "a\x01", "a\n", "a\x7f", "a\x85", "a\ufdd0", "a\uffff", "a\U0001fffe"])
async def test_what_is_refused_is_what_a_broker_ends_the_connection_for(text: str, broker: Mosquitto) -> None:
    try:
        check_topic(text)
        refused = False
    except ConfigError:
        refused = True
    for topic, user_property in ((text, "fine"), ("fine", text)):
        stream = await trio.open_tcp_stream("127.0.0.1", broker.port)
        async with stream:
            with trio.fail_after(10):
                await stream.send_all(CONNECT)
                assert (await stream.receive_some())[:1] == b"\x20", "CONNACK"
                await stream.send_all(publish(topic, user_property) + PING)
                received = b""
                while received != PONG and (more := await receive_or_end(stream)):
                    received += more
        assert (received != PONG) == refused


async def receive_or_end(stream: trio.SocketStream) -> bytes:
    try:
        return bytes(await stream.receive_some())
    except trio.BrokenResourceError:
        return b""


@pytest.mark.parametrize(
    "topic_filter", ["sport/tennis#", "sport/tennis/#/ranking", "#/", "##", "sport+", "+a/b", "a/++"]
)
def test_wildcards_are_whole_levels(topic_filter: str) -> None:
    with pytest.raises(ConfigError, match="must be the whole of"):
        check_filter(topic_filter)


# MQTT 5, section 4.8.2.
@pytest.mark.parametrize(
    ("topic_filter", "group", "plain"),
    [
        ("$share/consumer1/sport/tennis/+", "consumer1", "sport/tennis/+"),
        ("$share/consumer2/sport/tennis/+", "consumer2", "sport/tennis/+"),
        ("$share/consumer1//finance", "consumer1", "/finance"),
        ("$share/consumer1/#", "consumer1", "#"),
        ("$share/a/$SYS/x", "a", "$SYS/x"),
        ("$shared/a/b", "", "$shared/a/b"),
        ("$share", "", "$share"),
        ("share/a/b", "", "share/a/b"),
    ],
)
def test_shared_subscriptions(topic_filter: str, group: str, plain: str) -> None:
    check_filter(topic_filter)
    assert split_share(topic_filter) == (group, plain)


@pytest.mark.parametrize(
    "topic_filter",
    ["$share/", "$share/g", "$share/g/", "$share//a", "$share/+/a", "$share/g#/a", "$share/#", "$share/g/$share/h/a"],
)
def test_what_is_no_shared_subscription(topic_filter: str) -> None:
    with pytest.raises(ConfigError, match=r"a shared subscription is \$share/GROUP/FILTER"):
        check_filter(topic_filter)


@pytest.mark.parametrize("topic_filter", ["$share/g/a#", "$share/g/a/#/b", "$share/g/+a"])
def test_what_is_behind_the_group_is_a_filter(topic_filter: str) -> None:
    with pytest.raises(ConfigError, match="must be the whole of"):
        check_filter(topic_filter)


@pytest.mark.parametrize(
    "wanted",
    [
        [],
        ["a/#", "a/b", "#"],
        ["$share/g/a/+", "$share/g/a/+", "b", "$share/g/c"],
        ["$share/g/a", "$share/h/b", "a/b"],
        ["$share/g/+/x", "$SYS/#"],
    ],
)
def test_shares_that_meet_nobody(wanted: list[str]) -> None:
    check_shares(wanted)


@pytest.mark.parametrize(
    ("share", "other"),
    [
        ("$share/g/a/b", "a/#"),
        ("$share/g/a/#", "a"),
        ("$share/g/a", "$share/h/a"),
        ("$share/g/a/+", "$share/g/+/b"),
        ("$share/g/#", "b/c"),
    ],
)
def test_a_share_that_overlaps_is_refused_because_nothing_tells_the_messages_apart(share: str, other: str) -> None:
    for wanted in ([share, other], [other, "unconcerned", share]):
        with pytest.raises(ConfigError, match="give one of them a connector of its own") as caught:
            check_shares(wanted)
        assert share in str(caught.value)
        assert other in str(caught.value)
    channels = [Inbound("one", int, MqttRouting(share)), Inbound("other", int, MqttRouting(other))]
    with pytest.raises(ConfigError, match="overlaps with"):
        MqttConnector(channels)


@settings(max_examples=500)
@given(st.text("ab/+#$ \0{}", max_size=10) | st.text("ab/+#", max_size=8).map("$share/".__add__))
def test_any_text_is_a_filter_or_a_config_error(text: str) -> None:
    try:
        check_filter(text)
    except ConfigError:
        return
    _, plain = split_share(text)
    assert covers(plain, plain)
    assert FilterTree([(plain, 1)]).covering(plain) == [1]
    routing = MqttRouting(text)
    if "{" not in text and "}" not in text:
        routing.check("in")
        assert (routing.address, routing.subscription) == (plain, text)
