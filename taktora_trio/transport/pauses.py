"""Pauses between tries, where nothing announces that another try would succeed."""

from __future__ import annotations

import trio

from taktora_trio.supervision.backoff import Backoff

__all__ = ["PAUSES", "sleep"]

PAUSES = Backoff(initial=0.001, maximum=0.01, jitter=0)
"""Between looks at a lock or at free memory: as a rule the other process is done after 1 to 3 ms."""


async def sleep(seconds: float) -> None:
    """Sleep as `trio.sleep` does, in a task of its own.

    `trio.sleep` ends by an exception, whose traceback keeps every frame that waits alive until garbage is collected
    (since Python 3.12, by `f_back`). With our frames it would keep a node alive, whose files would stay.
    """
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep, seconds)
