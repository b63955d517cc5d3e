"""Checks, matches and compares topic names and topic filters (MQTT 3.1.1 and 5, section 4.7).

A shared subscription, `$share/GROUP/FILTER` (MQTT 5, section 4.8.2), is a filter with a group before it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Generic, TypeVar

from taktora_trio.channels.templates import TemplateSyntax
from taktora_trio.errors import ConfigError

__all__ = [
    "TEMPLATES",
    "UNSENDABLE",
    "FilterTree",
    "check_filter",
    "check_shares",
    "check_text",
    "check_topic",
    "covers",
    "is_pattern",
    "minimal_filters",
    "split_share",
]

T = TypeVar("T")

# Characters for which a receiver may, and mosquitto does, close the connection (MQTT 5, section 1.5.4): the null
# character, control characters, what is no character, and surrogates, which have no UTF-8.
UNSENDABLE = (
    "[\\x00-\\x1f\\x7f-\\x9f\\ud800-\\udfff\\ufdd0-\\ufdef\\ufffe\\uffff"
    + "".join(f"\\U{plane:04x}fffe\\U{plane:04x}ffff" for plane in range(1, 17))
    + "]"
)
_UNSENDABLE = re.compile(UNSENDABLE)
TEMPLATES = TemplateSyntax(
    topic="topic",
    level="level",
    one="+",
    several="#",
    bad=re.compile(rf"[/+#]|{UNSENDABLE}"),
    bad_first=re.compile(rf"\A\$|[/+#]|{UNSENDABLE}"),
    rule="at least one character, no '/', '+', '#', no control character, and does not begin with '$' if it is the"
    " first",
)
_SHARE = "$share/"
_WILDCARDS = ("+", "#")


def check_topic(topic: str) -> None:
    """Raise `ConfigError` unless a message can be published to `topic`."""
    _check_string("topic", topic)
    if "+" in topic or "#" in topic:
        raise ConfigError(f"topic {topic!r} has a wildcard: messages can only be published to one concrete topic")


def check_filter(topic_filter: str) -> None:
    """Raise `ConfigError` unless `topic_filter` can be subscribed to, plain (section 4.7.1) or shared (4.8.2)."""
    _check_string("topic filter", topic_filter)
    group, plain = split_share(topic_filter)
    if topic_filter.startswith(_SHARE) and (
        not group or not plain or "+" in group or "#" in group or plain.startswith(_SHARE)
    ):
        raise ConfigError(
            f"topic filter {topic_filter!r}: a shared subscription is $share/GROUP/FILTER; the group has at least one"
            " character and no '+' or '#'"
        )
    levels = plain.split("/")
    for index, level in enumerate(levels):
        if "#" in level and (level != "#" or index != len(levels) - 1):
            raise ConfigError(f"topic filter {topic_filter!r}: '#' must be the whole of the last level")
        if "+" in level and level != "+":
            raise ConfigError(f"topic filter {topic_filter!r}: '+' must be the whole of its level")


def check_text(kind: str, value: str) -> None:
    """Raise `ConfigError` unless `value` can be sent as a UTF-8 string of MQTT (section 1.5.4)."""
    if found := _UNSENDABLE.search(value):
        code = ord(found[0])
        what = "the null character" if code == 0 else f"the character U+{code:04X}"
        raise ConfigError(f"{kind} {value[:80]!r}: it must not contain {what}, for which brokers end a connection")
    length = len(value.encode())
    if length > 65_535:
        raise ConfigError(f"{kind} {value[:40]!r}...: it has {length} bytes; MQTT ends at 65535")


def _check_string(kind: str, value: str) -> None:
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{kind} {value!r}: it must have at least one character")
    check_text(kind, value)


def split_share(topic_filter: str) -> tuple[str, str]:
    """Return the group (empty if the subscription is not shared) and the plain filter."""
    if not topic_filter.startswith(_SHARE):
        return "", topic_filter
    group, _, plain = topic_filter.removeprefix(_SHARE).partition("/")
    return group, plain


def is_pattern(topic_filter: str) -> bool:
    return "+" in topic_filter or "#" in topic_filter


def covers(wide: str, narrow: str) -> bool:
    """Return true if `wide` matches every topic that `narrow` matches. Both are plain filters."""
    # Wildcards in the first level don't match topics that begin with '$' (section 4.7.2).
    if wide[0] in "+#" and narrow[0] == "$":
        return False
    wide_levels, narrow_levels = wide.split("/"), narrow.split("/")
    for index, level in enumerate(wide_levels):
        if level == "#":
            return True  # also the parent level, so `narrow` may end here
        if index >= len(narrow_levels):
            return False
        other = narrow_levels[index]
        if other == "#" or (level != other and level != "+"):
            return False
    return len(wide_levels) == len(narrow_levels)


def minimal_filters(filters: Mapping[str, int]) -> dict[str, int]:
    """Return the filters to subscribe to: those that no other one covers, at the highest QoS that they cover.

    A broker may deliver a message once for each overlapping subscription (section 3.3.5), and nothing in the message
    tells which one it is for. So a filter that another one covers is matched locally, and not subscribed.

    This is for plain filters. A shared subscription is kept as it is and covers nothing: it gets a part of the messages
    only, and without it the client would leave the group. `check_shares` sees to it that none overlaps with another.
    """
    plain = {topic_filter: qos for topic_filter, qos in filters.items() if not split_share(topic_filter)[0]}
    tree = FilterTree((topic_filter, topic_filter) for topic_filter in plain)
    covering = {narrow: tree.covering(narrow) for narrow in plain}
    kept = {topic_filter: qos for topic_filter, qos in filters.items() if len(covering.get(topic_filter, [""])) == 1}
    for narrow, wides in covering.items():
        for wide in wides:
            if wide in kept:
                kept[wide] = max(kept[wide], plain[narrow])
    return kept


def check_shares(filters: Iterable[str]) -> None:
    """Raise `ConfigError` if a shared subscription overlaps with another, shared or plain.

    Both would deliver the same message to one client, and nothing in it tells which of the two it is for: the
    shared one would get more than its part, and the other one some messages twice.
    """
    wanted = list(dict.fromkeys(filters))
    tree = FilterTree((split_share(topic_filter)[1], topic_filter) for topic_filter in wanted)
    for topic_filter in wanted:
        group, plain = split_share(topic_filter)
        others = [other for other in tree.overlapping(plain) if other != topic_filter] if group else []
        if others:
            raise ConfigError(
                f"the shared subscription {topic_filter!r} overlaps with {others[0]!r}, and of a message for both one"
                " can't tell which it came by: give one of them a connector of its own"
            )


class FilterTree(Generic[T]):
    """Values by topic filter. What a look-up costs depends on the topic's depth, not on the number of filters.

    At depth d at most 2^d nodes are looked at (each level by itself or by `+`), and never more than match.
    """

    def __init__(self, entries: Iterable[tuple[str, T]] = ()) -> None:
        self._root = _Node[T]()
        for topic_filter, value in entries:
            self.add(topic_filter, value)

    def add(self, topic_filter: str, value: T) -> None:
        node = self._root
        for level in topic_filter.split("/"):
            node = node.children.setdefault(level, _Node())
        node.values.append(value)

    def remove(self, topic_filter: str, value: T) -> None:
        """Undo one `add`, and leave nothing of it. Raises `KeyError` or `ValueError` if there was none."""
        path = [self._root]
        levels = topic_filter.split("/")
        for level in levels:
            path.append(path[-1].children[level])
        path[-1].values.remove(value)
        for level in reversed(levels):
            node = path.pop()
            if node.values or node.children:
                return
            del path[-1].children[level]

    def match(self, topic: str) -> list[T]:
        """Return the values of all filters that match the topic, in no particular order."""
        return self._find(topic.split("/"), open_ended=False)

    def covering(self, topic_filter: str) -> list[T]:
        """Return the values of all filters that match every topic that this one matches, its own included."""
        levels = topic_filter.split("/")
        if levels[-1] == "#":
            return self._find(levels[:-1], open_ended=True)
        return self._find(levels, open_ended=False)

    def overlapping(self, topic_filter: str) -> list[T]:
        """Return the values of all filters that match some topic that this one matches, its own included."""
        found: list[T] = []
        nodes = [self._root]
        for index, level in enumerate(topic_filter.split("/")):
            below: list[_Node[T]] = []
            for node in nodes:
                children = node.children
                names = list(children) if level in _WILDCARDS else [n for n in (level, *_WILDCARDS) if n in children]
                for name in names:
                    if index == 0 and _is_wild_on_dollar(level, name):
                        continue
                    if level == "#":
                        found += children[name].all_values()
                    elif name == "#":
                        found += children[name].values
                    else:
                        below.append(children[name])
                if level == "#":
                    found += node.values
            nodes = below
        for node in nodes:
            found += node.values
            if "#" in node.children:
                found += node.children["#"].values
        return found

    def _find(self, levels: list[str], *, open_ended: bool) -> list[T]:
        found: list[T] = []
        nodes = [self._root]
        for index, level in enumerate(levels):
            wildcards = index > 0 or not level.startswith("$")
            below: list[_Node[T]] = []
            for node in nodes:
                children = node.children
                if wildcards and "#" in children:
                    found += children["#"].values
                if wildcards and "+" in children:
                    below.append(children["+"])
                # A topic that was received may contain '+' or '#' against the rules: it matches no filter by that.
                if level in children and level not in _WILDCARDS:
                    below.append(children[level])
            nodes = below
        for node in nodes:
            if not open_ended:
                found += node.values
            if "#" in node.children:  # which stands for the parent level too
                found += node.children["#"].values
        return found


class _Node(Generic[T]):
    __slots__ = ("children", "values")

    def __init__(self) -> None:
        self.children: dict[str, _Node[T]] = {}
        self.values: list[T] = []

    def all_values(self) -> list[T]:
        found, nodes = [], [self]
        for node in nodes:
            found += node.values
            nodes += node.children.values()
        return found


def _is_wild_on_dollar(one: str, other: str) -> bool:
    """Return true if one is a wildcard and the other begins with '$': in the first level they don't match (4.7.2)."""
    return (one in _WILDCARDS and other.startswith("$")) or (other in _WILDCARDS and one.startswith("$"))
