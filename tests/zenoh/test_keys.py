"""Key expressions: the library itself is the oracle."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any, Generic, TypeVar

import pytest
import zenoh
from hypothesis import given, settings
from hypothesis import strategies as st
from zenoh import KeyExpr

from taktora_trio import ConfigError
from taktora_trio.connectors.zenoh import keytree
from taktora_trio.connectors.zenoh.keys import (
    LONGEST,
    canonical,
    check_expression,
    check_key,
    includes,
    intersects,
    is_pattern,
)
from taktora_trio.connectors.zenoh.keytree import KeyTree, earlier_overlapping, minimal_expressions

T = TypeVar("T")

pieces = ["a", "b", "*", "$*", "**", "@", "/", "/", "/**/", "/*", "$", "#", "?", "é", "\n", "+"]
texts = st.lists(st.sampled_from(pieces), max_size=8).map("".join)
chunks = st.sampled_from(["a", "b", "ab", "@a", "@b", "@a$*", "*", "**", "a$*", "$*b", "a$*b", "$*a$*", "$*@$*"])
expressions = st.lists(chunks, min_size=1, max_size=5).map(lambda some: canonical("/".join(some)))
keys = st.lists(st.sampled_from(["a", "b", "ab", "ba", "@a", "@b", "a@"]), min_size=1, max_size=5).map("/".join)


def is_valid(text: str) -> bool:
    try:
        KeyExpr(text)
    except zenoh.ZError:
        return False
    return True


@settings(deadline=None, max_examples=150)
@given(texts)
def test_what_zenoh_takes_is_taken_and_nothing_else(text: str) -> None:
    if is_valid(text):
        check_expression(text)
        assert canonical(text) == text
        return
    with pytest.raises(ConfigError) as refused:
        check_expression(text)
    assert "\n" not in str(refused.value)
    if "canonical form" in str(refused.value):
        form = canonical(text)
        assert is_valid(form)
        assert repr(form) in str(refused.value)


@settings(deadline=None, max_examples=60)
@given(st.lists(chunks, min_size=1, max_size=5).map("/".join))
def test_the_canonical_form_is_zenohs(text: str) -> None:
    assert canonical(text) == str(KeyExpr.autocanonize(text))


@settings(deadline=None, max_examples=200)
@given(expressions, expressions)
def test_to_intersect_and_to_include_mean_what_they_mean_in_zenoh(one: str, other: str) -> None:
    assert intersects(one, other) == KeyExpr(one).intersects(KeyExpr(other))
    assert includes(one, other) == KeyExpr(one).includes(KeyExpr(other))
    assert is_pattern(one) == ("*" in one)


@settings(deadline=None, max_examples=60)
@given(st.lists(expressions, max_size=12), keys, expressions)
def test_the_tree_finds_what_zenoh_would(entries: list[str], key: str, other: str) -> None:
    tree = KeyTree(enumerate_pairs(entries))
    assert sorted(tree.match(key)) == [n for n, own in enumerate(entries) if KeyExpr(own).intersects(KeyExpr(key))]
    assert sorted(tree.match(other)) == [n for n, own in enumerate(entries) if KeyExpr(own).intersects(KeyExpr(other))]
    assert sorted(tree.including(other)) == [
        n for n, own in enumerate(entries) if KeyExpr(own).includes(KeyExpr(other))
    ]


def enumerate_pairs(entries: list[str]) -> Iterator[tuple[str, int]]:
    return ((expression, number) for number, expression in enumerate(entries))


@settings(deadline=None, max_examples=60)
@given(st.lists(expressions, max_size=12), keys)
def test_minimal_expressions_get_the_same_messages(entries: list[str], key: str) -> None:
    kept = minimal_expressions(entries)
    assert any(intersects(one, key) for one in kept) == any(intersects(one, key) for one in entries)
    assert not any(includes(one, other) for one, other in product(kept, repeat=2) if one != other)


@settings(deadline=None, max_examples=60)
@given(st.lists(expressions, max_size=12), keys)
def test_of_overlapping_expressions_one_takes_a_message(entries: list[str], key: str) -> None:
    took = [
        one
        for one, earlier in earlier_overlapping(entries).items()
        if intersects(one, key) and not any(intersects(other, key) for other in earlier)
    ]
    assert len(took) == any(intersects(one, key) for one in entries)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "at least one character"),
        (7, "at least one character"),
        ("/plant//7/", "write 'plant/7'"),
        ("//", "a chunk is empty"),
        ("plant/#", "any chunks are written '**'"),
        ("a?b", "no key has a '?'"),
        ("price$", "no key has a '$'"),
        ("unit*", "written 'unit$*'"),
        ("a/***", "written '$*'"),
        ("a/b**c", "written 'b$*c'"),
        ("a/**/*", "canonical form is 'a/*/**'"),
        ("a/**/**/b", "canonical form is 'a/**/b'"),
        ("a/$*/b$*$*", "canonical form is 'a/*/b$*'"),
        ("\ud800", "surrogate"),
        ("a" * (LONGEST + 1), "65536 bytes; Zenoh ends at 65535"),
    ],
)
def test_what_is_no_key_expression_is_refused_and_says_what_to_write(text: Any, says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check_expression(text)
    assert says in str(refused.value)
    assert len(str(refused.value)) < 250


def test_a_key_has_no_wildcard() -> None:
    check_key("plant/@unit/7")
    for wild in ("plant/*", "**", "a$*"):
        with pytest.raises(ConfigError, match="must be one concrete key"):
            check_key(wild)


class Looks(dict[str, Any]):
    """A node's children that count how often somebody looks."""

    count = 0

    def __contains__(self, edge: object) -> bool:
        Looks.count += 1
        return super().__contains__(edge)

    def __iter__(self) -> Iterator[str]:
        raise AssertionError("looks at all of them")

    items = values = keys = __iter__  # type: ignore[assignment]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    class Node(keytree._Node[T], Generic[T]):
        __slots__ = ()

        def __init__(self, *, is_star: bool = False) -> None:
            super().__init__(is_star=is_star)
            self.children = Looks()

    monkeypatch.setattr(keytree, "_Node", Node)


def many(count: int) -> list[str]:
    """So many expressions of a plant: each kind of them in equal numbers."""
    kinds = ["plant/{}/*", "plant/*/sensor/{}/**", "**/{}/x", "plant/{}$*/y", "plant/$*{}", "{}/**", "plant/{}/heat"]
    return [kinds[number % len(kinds)].format(f"u{number}") for number in range(count)]


def test_to_match_costs_the_same_however_many_expressions_there_are(counted: None) -> None:
    looks = []
    for count in (100, 1_000, 10_000):
        tree = KeyTree((expression, expression) for expression in many(count))
        Looks.count = 0
        assert tree.match("plant/u0/temperature") == ["plant/u0/*"]
        assert tree.match("plant/u6/heat") == ["plant/u6/heat"]
        assert tree.match("plant/x/sensor/u1/a/b/c/d") == ["plant/*/sensor/u1/**"]
        assert tree.match("plant/a/b/c/u2/x") == ["**/u2/x"]
        looks.append(Looks.count)
    assert looks[0] == looks[1] == looks[2] < 300
