"""Topic names and topic filters (MQTT 3.1.1, section 4.7): whether they are valid, match, or cover one another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Generic, TypeVar

from taktora_trio.errors import ConfigError

__all__ = ["FilterTree", "check_filter", "check_topic", "covers", "minimal_filters"]

T = TypeVar("T")


def check_topic(topic: str) -> None:
    """Raise `ConfigError` unless one can publish to `topic`."""
    _check_string("topic", topic)
    if "+" in topic or "#" in topic:
        raise ConfigError(f"topic {topic!r} has a wildcard: messages can only be published to one concrete topic")


def check_filter(topic_filter: str) -> None:
    """Raise `ConfigError` unless one can subscribe to `topic_filter` (section 4.7.1)."""
    _check_string("topic filter", topic_filter)
    levels = topic_filter.split("/")
    for index, level in enumerate(levels):
        if "#" in level and (level != "#" or index != len(levels) - 1):
            raise ConfigError(f"topic filter {topic_filter!r}: '#' must be the whole of the last level")
        if "+" in level and level != "+":
            raise ConfigError(f"topic filter {topic_filter!r}: '+' must be the whole of its level")


def _check_string(kind: str, value: str) -> None:
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{kind} {value!r}: it must have at least one character")
    if "\0" in value:
        raise ConfigError(f"{kind} {value!r}: it must not contain the null character")
    try:
        length = len(value.encode())
    except UnicodeEncodeError:
        raise ConfigError(f"{kind} {value!r}: it can't be written as UTF-8") from None
    if length > 65_535:
        raise ConfigError(f"{kind} {value[:40]!r}...: it has {length} bytes; MQTT ends at 65535")


def is_pattern(topic_filter: str) -> bool:
    return "+" in topic_filter or "#" in topic_filter


def covers(wide: str, narrow: str) -> bool:
    """Whether every topic that `narrow` matches is matched by `wide` too (both are filters)."""
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
    """The filters to subscribe to, with their QoS: those that no other one covers, at the highest QoS they cover.

    A broker may deliver a message once for each overlapping subscription (section 3.3.5), and nothing in such a
    message tells which one it is for. What one filter covers is therefore matched locally and not subscribed again.
    """
    kept = {
        narrow: qos
        for narrow, qos in filters.items()
        if not any(wide != narrow and covers(wide, narrow) for wide in filters)
    }
    return {
        wide: max([qos, *(other for narrow, other in filters.items() if covers(wide, narrow))])
        for wide, qos in kept.items()
    }


class FilterTree(Generic[T]):
    """Values by topic filter; finding those of a topic costs by the topic's depth, not by the number of filters."""

    def __init__(self, entries: Iterable[tuple[str, T]] = ()) -> None:
        self._root = _Node[T]()
        for topic_filter, value in entries:
            self.add(topic_filter, value)

    def add(self, topic_filter: str, value: T) -> None:
        node = self._root
        for level in topic_filter.split("/"):
            node = node.children.setdefault(level, _Node())
        node.values.append(value)

    def match(self, topic: str) -> list[T]:
        """The values of every filter that matches, in no particular order."""
        found: list[T] = []
        levels = topic.split("/")
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
                if level in children and level not in ("+", "#"):
                    below.append(children[level])
            nodes = below
        for node in nodes:
            found += node.values
            if "#" in node.children:
                found += node.children["#"].values
        return found


class _Node(Generic[T]):
    __slots__ = ("children", "values")

    def __init__(self) -> None:
        self.children: dict[str, _Node[T]] = {}
        self.values: list[T] = []
