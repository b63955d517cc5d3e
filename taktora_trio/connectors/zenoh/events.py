"""What is logged of Zenoh alone: the codes of its events, each with its level, what it means, and what to do.

Nothing that runs imports it; docs/events.md is made from it, as from the others (`operate/events/`).
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["EVENTS"]

EVENTS: Mapping[str, tuple[str, str, str]] = {
    "inbound-missed": (
        "error",
        "Inbound messages are lost for good: a publisher that numbers them (`recover`) keeps them no more, or they came"
        " while reading paused, and there was no room for them.",
        "Let the publisher keep more, by its `recover`; raise `inbound_backlog`; or use `acknowledged`, where nothing"
        " is lost.",
    ),
    "latched-forgotten": (
        "warning",
        "The last values of latched channels take more room than they have, so whoever comes later does not get the"
        " oldest ones.",
        "Raise `latched_space`, or latch fewer keys.",
    ),
}
