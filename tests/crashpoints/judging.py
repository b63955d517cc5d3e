"""What the journal and the others say, against what is promised."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import attrs

from tests.crashpoints.case import Case

__all__ = ["Fault", "Judgement", "judge"]

_FIELDS = 5  # of a line of the journal: time, word, QoS, and two that depend on the word
Number = tuple[str, int]
"""Outbound: a life of the app, and a number of it."""


@attrs.frozen
class Fault:
    """Something that is not as promised."""

    what: str
    numbers: tuple[str, ...]
    points: tuple[str, ...]
    """The points at which the victim had ended around the time of the first of them."""

    def __str__(self) -> str:
        return f"{self.what}: {', '.join(self.numbers[:6])} ({len(self.numbers)}); near {', '.join(self.points) or '-'}"


@attrs.define
class Judgement:
    """The result of one attack."""

    sent: int = 0
    promised: int = 0
    came: int = 0
    came_again: int = 0
    published: int = 0
    heard: int = 0
    heard_again: int = 0
    missing: int = 0
    """What is promised and has not come yet."""
    faults: list[Fault] = attrs.field(factory=list)


class _Journal:
    def __init__(self, folder: Path) -> None:
        lines = (line.split() for line in _lines(folder / "journal"))
        self.lines = [line for line in lines if len(line) >= _FIELDS]  # else its writer was killed within it
        self.reached = [
            (float(time), point) for time, _, point in (line.split() for line in _lines(folder / "reached"))
        ]

    def numbers(self, word: str, qos: int) -> dict[Number, float]:
        """Return the numbers of an app's life, with the time at which it said so first."""
        found: dict[Number, float] = {}
        for time, what, *rest in self.lines:
            if what == word and rest[0] == str(qos):
                found.setdefault((rest[1], int(rest[2])), float(time))
        return found

    def near(self, time: float) -> tuple[str, ...]:
        before = [point for at, point in self.reached if at <= time][-2:]
        after = [point for at, point in self.reached if at > time][:2]
        return (*before, *after)


def judge(case: Case, folder: Path, came: Mapping[int, list[bytes]], published: int) -> Judgement:
    """Judge what there is so far: `came` is what a listener got at each QoS, numbers below `published` were taken."""
    journal, result = _Journal(folder), Judgement()
    for qos in case.qos:
        _judge_out(case, qos, journal, [_number(each) for each in came.get(qos, ())], result)
        _judge_in(case, qos, journal, published, result)
    return result


def _judge_out(case: Case, qos: int, journal: _Journal, came: list[Number], result: Judgement) -> None:
    sending, sent = journal.numbers("sending", qos), journal.numbers("sent", qos)
    first, there = list(dict.fromkeys(came)), set(came)
    promised = sent
    if case.victim == "process":  # the memory goes with it: what a receipt has said is left
        promised = {}
        for word in ("stored", "acknowledged"):
            for (life, last), time in journal.numbers(word, qos).items():
                for number in range(last + 1):
                    promised.setdefault((life, number), time)
    result.sent += len(sent)
    result.promised += len(promised)
    result.came += len(there)
    result.came_again += len(came) - len(first)
    lost = {number: time for number, time in promised.items() if number not in there}
    result.missing += len(lost)
    _add(result, journal, f"out, QoS {qos}, lost", lost)
    _add(result, journal, f"out, QoS {qos}, never sent", dict.fromkeys(there - set(sending), 0.0))
    highest: defaultdict[str, int] = defaultdict(lambda: -1)
    late = {}
    for life, number in first:
        # What the broker holds half done when everything is killed, the next run has it finish: without a store, which
        # would know the numbers, in no certain order.
        if number < highest[life] and (case.victim != "process" or case.store != "none" or (life, number) in promised):
            late[life, number] = sending.get((life, number), 0.0)
        highest[life] = max(highest[life], number)
    _add(result, journal, f"out, QoS {qos}, behind a newer one", late)
    if qos == 2 and case.victim == "plugin":
        again = [number for number in first if came.count(number) > 1] if len(came) > len(first) else []
        _add(result, journal, "out, QoS 2, came again", {number: sending[number] for number in again})


def _judge_in(case: Case, qos: int, journal: _Journal, published: int, result: Judgement) -> None:
    heard = [
        (int(rest[1]), rest[2] == "1", float(time))
        for time, what, *rest in journal.lines
        if what == "heard" and rest[0] == str(qos)
    ]
    first: dict[int, float] = {}
    unmarked: dict[Number, float] = {}
    for number, marked, time in heard:
        if number not in first:
            first[number] = time
        elif not marked:
            unmarked.setdefault(("", number), time)
    result.published += published
    result.heard += len(first)
    result.heard_again += len(heard) - len(first)
    end = max(first.values(), default=0.0)
    lost = {number for number in range(published) if number not in first}
    result.missing += len(lost)
    after = {number: min((time for other, time in first.items() if other > number), default=end) for number in lost}
    _add(result, journal, f"in, QoS {qos}, lost", {("", number): time for number, time in after.items()})
    highest, late = -1, {}
    for number, time in first.items():
        if number < highest:
            late["", number] = time
        highest = max(highest, number)
    _add(result, journal, f"in, QoS {qos}, behind a newer one", late)
    if case.broker != "is away":  # mosquitto 2.0.11 forgets over a restart that it has sent a message
        _add(result, journal, f"in, QoS {qos}, came again and does not say so", unmarked)


def _add(result: Judgement, journal: _Journal, what: str, numbers: Mapping[Number, float]) -> None:
    if numbers:
        earliest = min(numbers.values())
        shown = tuple(f"{life}:{number}" if life else str(number) for life, number in sorted(numbers))
        result.faults.append(Fault(what, shown, journal.near(earliest)))


def _number(payload: bytes) -> Number:
    life, _, number = payload.decode().partition(":")
    return life, int(number)


def _lines(path: Path) -> Iterable[str]:
    """Return the whole lines: who writes one may be within it."""
    return path.read_text().split("\n")[:-1] if path.exists() else ()
