"""What an app has sent, beside what it has sent when it was recorded."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from difflib import SequenceMatcher
from typing import Any, Literal

import msgspec

from taktora_trio.errors import CodecError
from taktora_trio.recorder.decoding import Decode
from taktora_trio.replay.plan import Expected

__all__ = ["Comparison", "Difference", "compare"]

_ALIGNED = 2_000  # messages between the first and the last difference, of which the best alignment is looked for


class Difference(msgspec.Struct, frozen=True):
    """One message that was not sent as it was recorded."""

    kind: Literal["other", "missing", "more"]
    at: float
    """Seconds from the first message of the recording."""
    recorded: Any = None
    sent: Any = None
    topic: str = ""
    sent_topic: str = ""


class Comparison(msgspec.Struct, frozen=True):
    """Of one channel."""

    channel: str
    recorded: int
    sent: int
    same: int
    differences: list[Difference]
    more_at_end: int
    """Messages behind the last one that was recorded: the app went on for longer, which is no difference."""


class _One(msgspec.Struct, frozen=True):
    message: Expected
    value: Any
    key: bytes


def compare(
    channel: str, recorded: Sequence[Expected], sent: Sequence[Expected], decode: Decode, ignored: Collection[str] = ()
) -> Comparison:
    """Compare the messages of a channel, in their order: topic and value, without fields of these names."""
    there, here = [[_judged(one, decode, ignored) for one in side] for side in (recorded, sent)]
    differences: list[Difference] = []
    same = more_at_end = 0
    for tag, begin, end, other_begin, other_end in _aligned([one.key for one in there], [one.key for one in here]):
        ours, theirs = there[begin:end], here[other_begin:other_end]
        if tag == "equal":
            same += len(ours)
            continue
        for index in range(max(len(ours), len(theirs))):
            was = ours[index] if index < len(ours) else None
            now = theirs[index] if index < len(theirs) else None
            if was is None and end == len(there):
                more_at_end += 1
            else:
                differences.append(_difference(was, now))
    return Comparison(channel, len(there), len(here), same, differences, more_at_end)


def _difference(was: _One | None, now: _One | None) -> Difference:
    if was is None:
        assert now is not None
        return Difference("more", now.message.at, None, now.value, "", now.message.topic)
    if now is None:
        return Difference("missing", was.message.at, was.value, None, was.message.topic)
    return Difference("other", was.message.at, was.value, now.value, was.message.topic, now.message.topic)


def _judged(message: Expected, decode: Decode, ignored: Collection[str]) -> _One:
    value: Any
    try:
        value = decode(message.payload)
    except CodecError:
        value = message.payload
    compared = value if not ignored else _without(value, frozenset(ignored))
    key = msgspec.json.encode([message.topic, compared], order="deterministic")
    return _One(message, value, key)


def _without(value: Any, names: frozenset[str]) -> Any:
    if isinstance(value, dict):
        return {name: _without(one, names) for name, one in value.items() if name not in names}
    if isinstance(value, list | tuple):
        return [_without(one, names) for one in value]
    return value


def _aligned(was: Sequence[bytes], now: Sequence[bytes]) -> Iterator[tuple[str, int, int, int, int]]:
    """Yield how one turns into the other, as `SequenceMatcher.get_opcodes` does: of what differs, if it is not much."""
    begin = _common(was, now, lambda index: index, min(len(was), len(now)))
    end = _common(was, now, lambda index: -1 - index, min(len(was), len(now)) - begin)
    if begin:
        yield "equal", 0, begin, 0, begin
    middle, others = was[begin : len(was) - end], now[begin : len(now) - end]
    if max(len(middle), len(others)) > _ALIGNED:
        yield "replace", begin, begin + len(middle), begin, begin + len(others)
    elif middle or others:
        for tag, one, two, three, four in SequenceMatcher(None, middle, others, autojunk=False).get_opcodes():
            yield tag, begin + one, begin + two, begin + three, begin + four
    if end:
        yield "equal", len(was) - end, len(was), len(now) - end, len(now)


def _common(was: Sequence[bytes], now: Sequence[bytes], place: Callable[[int], int], most: int) -> int:
    count = 0
    while count < most and was[place(count)] == now[place(count)]:
        count += 1
    return count
