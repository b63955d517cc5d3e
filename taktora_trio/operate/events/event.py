"""What is known of the lines that have one event code."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

__all__ = ["NOTHING", "Event", "Level"]

Level: TypeAlias = Literal["debug", "info", "warning", "error", "critical"]
NOTHING = "Nothing."


class Event(NamedTuple):
    """What its lines mean, and what to do about them."""

    level: Level
    meaning: str
    remedy: str = NOTHING
