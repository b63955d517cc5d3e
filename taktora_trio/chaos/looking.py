"""Waits for what announces nothing: a file, a lock's holder, the end of somebody else's child."""

from __future__ import annotations

from collections.abc import Callable

import trio

__all__ = ["look_until"]


async def look_until(condition: Callable[[], bool], pause: float = 0.01) -> None:
    """Look every `pause` seconds, until it is so. Bound it by a cancel scope."""
    while not condition():  # noqa: ASYNC110 - nobody would set an event
        await trio.sleep(pause)
    await trio.lowlevel.checkpoint_if_cancelled()
