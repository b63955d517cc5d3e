"""What an operator is told at a glance: is the run well, impaired or broken, and why?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, TypeAlias

import msgspec

from taktora_trio.vitals import ChannelVitals, ConnectorVitals, DomainVitals

__all__ = ["Level", "Verdict", "verdict_of"]

Level: TypeAlias = Literal["well", "impaired", "broken"]
LEVELS: tuple[Level, ...] = ("well", "impaired", "broken")

_STUCK = 5.0  # seconds that the oldest message of a full window may wait
_SOON = 3600.0  # seconds to a full store that are few
_LAG = 1.0  # seconds by which a loop may be late


class Verdict(msgspec.Struct, frozen=True):
    """The worst of all that was seen, and its reasons, the worst first."""

    level: Level
    reasons: list[str]


def verdict_of(vitals: DomainVitals) -> Verdict:
    """Judge a run."""
    found = [*_halves(vitals), *_connectors(vitals), *(one for channel in vitals.channels for one in _channel(channel))]
    found.sort(key=lambda one: -LEVELS.index(one[0]))  # a stable sort: in each level as they were found
    return Verdict(found[0][0] if found else "well", [reason for _, reason in found])


def _halves(vitals: DomainVitals) -> Iterator[tuple[Level, str]]:
    for name, half in vitals.halves.items():
        if half is None:
            yield "broken", f"there is no {name}"
        elif not half.is_well:
            yield "broken", f"the {name} {half.summary}"
        elif half.state != "runs":
            yield "impaired", f"the {name} {half.summary}"
        elif half.loop_lag is not None and half.loop_lag > _LAG:
            yield "impaired", f"the {name} is slow: its loop was {half.loop_lag:.1f} s late"


def _connectors(vitals: DomainVitals) -> Iterator[tuple[Level, str]]:
    for one in vitals.connectors.values():
        if one.health != "Up":
            yield _level_of(one), _with(f"connector {one.name} is {one.health}", one.reason)


def _level_of(one: ConnectorVitals) -> Level:
    return "broken" if one.health == "Down" else "impaired"


def _channel(channel: ChannelVitals) -> Iterator[tuple[Level, str]]:
    where = f"channel {channel.name}"
    if channel.in_use is not None and channel.in_use >= channel.window and (channel.oldest or 0.0) > _STUCK:
        yield "impaired", f"{where} stands still: its window is full for {channel.oldest:.0f} s"
    if channel.store_full_in is not None and channel.store_full_in < _SOON:
        yield "impaired", f"{where}: its store is full in {channel.store_full_in / 60:.0f} min"
    if channel.dead_letters:
        yield "impaired", f"{where}: {channel.dead_letters} dead letters wait to be looked after"


def _with(what: str, why: str) -> str:
    return f"{what}: {why}" if why else what
