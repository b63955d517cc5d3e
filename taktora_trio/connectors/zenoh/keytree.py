"""KeyTree: values by key expression, of which those that match a key are found quickly."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

from taktora_trio.connectors.zenoh.keys import intersects, is_pattern

__all__ = ["KeyTree", "earlier_overlapping", "minimal_expressions"]

T = TypeVar("T")

_ANY = "**"
_WITHIN = "$*"
_TOKENS = re.compile(r"\$\*|.", re.DOTALL)


class KeyTree(Generic[T]):
    """Values by key expression, in canonical form. What a look-up costs does not depend on how many there are.

    It takes one look for a concrete key. Of the others it looks at no more than have a beginning that matches.
    """

    def __init__(self, entries: Iterable[tuple[str, T]] = ()) -> None:
        self._keys: dict[str, list[T]] = {}
        self._patterns: dict[str, list[T]] = {}
        self._root = _Node[list[T]]()
        for expression, value in entries:
            self.add(expression, value)

    def add(self, expression: str, value: T) -> None:
        if not is_pattern(expression):
            self._keys.setdefault(expression, []).append(value)
            return
        if expression not in self._patterns:
            node = self._root
            for chunk in expression.split("/"):
                node = node.below(chunk)
            self._patterns[expression] = node.value = []
        self._patterns[expression].append(value)

    def match(self, key: str) -> list[T]:
        """Return the values of all expressions that match the key, in no particular order.

        What is published to a key expression matches whatever has a key in common with it, as in Zenoh.
        """
        if "*" in key:
            return self.intersecting(key)
        found = self._keys.get(key, [])
        return [*found, *self._of_patterns(key)] if self._patterns else found[:]

    def including(self, expression: str) -> list[T]:
        """Return the values of all expressions that match every key that this one matches, its own included."""
        return [*self._keys.get(expression, ()), *self._of_patterns(expression)]

    def intersecting(self, expression: str) -> list[T]:
        """Return the values of all expressions that match some key that this one matches. This looks at each."""
        both = (self._keys, self._patterns)
        return [
            value for some in both for own, values in some.items() if intersects(own, expression) for value in values
        ]

    def _of_patterns(self, expression: str) -> list[T]:
        ends = _walk(self._root, expression.split("/"), _steps_of_chunk)
        return [value for node in ends if node.value is not None for value in node.value]


def minimal_expressions(expressions: Iterable[str]) -> list[str]:
    """Return those that no other one includes: who subscribes to them gets what is published to any."""
    wanted = list(dict.fromkeys(expressions))
    tree = KeyTree((expression, expression) for expression in wanted)
    return [expression for expression in wanted if len(tree.including(expression)) == 1]


def earlier_overlapping(expressions: Iterable[str]) -> dict[str, list[str]]:
    """Return for each expression those before it that have a key in common with it.

    Who subscribes to several gets a message once for each that matches. So what matches an earlier one, too, is left to
    that one.
    """
    wanted = list(dict.fromkeys(expressions))
    tree = KeyTree[str]()
    earlier: dict[str, list[str]] = {}
    for expression in wanted:
        earlier[expression] = tree.intersecting(expression)
        tree.add(expression, expression)
    return earlier


V = TypeVar("V")


class _Node(Generic[V]):
    """A place in a tree whose edges are chunks, or in one whose edges are the characters of a chunk."""

    __slots__ = ("below_star", "children", "is_star", "value", "within")

    def __init__(self, *, is_star: bool = False) -> None:
        self.children: dict[str, _Node[V]] = {}
        self.below_star: _Node[V] | None = None
        """What follows after a `**`, or a `$*`."""
        self.is_star = is_star
        """True if it is such a place, where any more chunks, or characters, may be read."""
        self.within: _Node[_Node[V]] | None = None
        """The chunks that have a `$*`: a tree of their characters, at whose ends are the places that they lead to."""
        self.value: V | None = None

    def below(self, chunk: str) -> _Node[V]:
        """Return the place that this chunk leads to, made if need be."""
        if chunk == _ANY:
            return self.star()
        if _WITHIN not in chunk or chunk[0] == "@":
            return self.child(chunk)
        if self.within is None:
            self.within = _Node()
        end = self.within
        for token in _TOKENS.findall(chunk):
            end = end.star() if token == _WITHIN else end.child(token)
        if end.value is None:
            end.value = _Node()
        return end.value

    def star(self) -> _Node[V]:
        if self.below_star is None:
            self.below_star = _Node(is_star=True)
        return self.below_star

    def child(self, edge: str) -> _Node[V]:
        if edge not in self.children:
            self.children[edge] = _Node()
        return self.children[edge]


_Step = Callable[[_Node[V], str], Iterable[_Node[V]]]


def _walk(root: _Node[V], edges: Sequence[str], steps: _Step[V]) -> Iterable[_Node[V]]:
    """Return the places that are reached behind all these edges, each once."""
    nodes = dict.fromkeys(_with_star(root))
    for edge in edges:
        nodes = dict.fromkeys(place for node in nodes for below in steps(node, edge) for place in _with_star(below))
    return nodes


def _with_star(node: _Node[V]) -> tuple[_Node[V], ...]:
    return (node,) if node.below_star is None else (node, node.below_star)


def _steps_of_chunk(node: _Node[V], chunk: str) -> list[_Node[V]]:
    if chunk[:1] == "@":
        return [node.children[chunk]] if chunk in node.children else []
    found = [node] if node.is_star else []
    if chunk == _ANY:  # which only a `**` includes
        return found
    found += [node.children[edge] for edge in {chunk, "*"} if edge in node.children]
    if node.within is not None and chunk != "*":
        ends = _walk(node.within, _TOKENS.findall(chunk), _steps_of_character)
        found += [end.value for end in ends if end.value is not None]
    return found


def _steps_of_character(node: _Node[V], token: str) -> list[_Node[V]]:
    found = [node] if node.is_star else []
    if token in node.children:  # never `$*`
        found.append(node.children[token])
    return found
