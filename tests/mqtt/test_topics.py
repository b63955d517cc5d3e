from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taktora_trio import ConfigError
from taktora_trio.mqtt.topics import FilterTree, check_filter, check_topic, covers, is_pattern, minimal_filters


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


LEVELS = ["a", "b", "", "$s"]
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
        ("a\ud800", "UTF-8"),
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


@pytest.mark.parametrize(
    "topic_filter", ["sport/tennis#", "sport/tennis/#/ranking", "#/", "##", "sport+", "+a/b", "a/++"]
)
def test_wildcards_are_whole_levels(topic_filter: str) -> None:
    with pytest.raises(ConfigError, match="must be the whole of"):
        check_filter(topic_filter)
