"""The schedule of the faults. Pure: the same seed gives the same schedule, and a longer one begins with the shorter."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import TypeAlias

import attrs

__all__ = ["Parameters", "PlannedFault", "Ranges", "plan"]

Parameters: TypeAlias = Mapping[str, float]
Ranges: TypeAlias = Mapping[str, tuple[float, float]]
"""The least and the greatest value of each parameter."""


@attrs.frozen
class PlannedFault:
    """One fault of a schedule."""

    index: int
    """Its place, counted from 1."""
    kind: str
    parameters: Parameters


def plan(seed: int, count: int, kinds: Mapping[str, Ranges]) -> list[PlannedFault]:
    """Plan `count` faults in rounds: each round has every kind once, in an order and with parameters of its own."""
    dice = random.Random(seed)  # noqa: S311 - to be repeated, not to be secret
    planned: list[PlannedFault] = []
    while len(planned) < count and kinds:
        order = sorted(kinds)
        dice.shuffle(order)
        for kind in order:
            drawn = {name: round(dice.uniform(*kinds[kind][name]), 3) for name in sorted(kinds[kind])}
            planned.append(PlannedFault(len(planned) + 1, kind, drawn))
    return planned[:count]
