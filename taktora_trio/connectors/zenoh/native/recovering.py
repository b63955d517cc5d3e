"""Publishers that keep and number what they put, and subscribers that ask them for what they have missed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import zenoh
from zenoh import ext

from taktora_trio.connectors.zenoh.native.values import ORIGIN

__all__ = ["recovering_publisher", "recovering_subscriber", "undeclare"]

_HEARTBEAT = 0.5  # seconds, after the last sample: so that its loss is noticed, too


def recovering_publisher(most: int) -> Callable[..., Any]:
    """Return what declares a publisher that keeps so many samples."""
    return partial(
        ext.declare_advanced_publisher,
        cache=ext.CacheConfig(most),
        sample_miss_detection=ext.MissDetectionConfig(heartbeat=None, sporadic_heartbeat=_HEARTBEAT),
        publisher_detection=True,  # so that a subscriber knows whom to ask
    )


def recovering_subscriber(
    library: zenoh.Session, key: str, came: Callable[[zenoh.Sample], None], most: int, others_only: bool
) -> Any:
    """Declare a subscriber that asks for so many samples of each key."""
    return ext.declare_advanced_subscriber(
        library,
        key,
        came,
        allowed_origin=ORIGIN[others_only],
        history=ext.HistoryConfig(detect_late_publishers=True, max_samples=most),
        recovery=ext.RecoveryConfig(heartbeat=True, periodic_queries=None),
    )


def undeclare(declared: Any) -> None:
    """Undeclare this, or leave it to who drops its last reference, which is to happen next.

    The library's `undeclare` of the kinds that recover lets go of their parts, and waits for their tasks, while it has
    the GIL. A thread of the library that waits for the GIL may be what such a task needs. Where the last reference goes
    it lets go of the GIL first.
    """
    if not isinstance(declared, ext.AdvancedPublisher | ext.AdvancedSubscriber):
        declared.undeclare()
