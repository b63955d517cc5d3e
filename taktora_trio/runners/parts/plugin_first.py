"""The order of a stop where both halves are told to stop at once, as those of a pod are: the plugin goes first."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator

import trio
from trio_util import move_on_when

from taktora_trio.processes.patience import sleep_running
from taktora_trio.processes.pidfd import wait_for_exit
from taktora_trio.transport.domain import Domain

__all__ = ["open_later_stop"]

log = logging.getLogger(__name__)


@contextlib.asynccontextmanager
async def open_later_stop(domain: Domain, stop: trio.Event, seconds: float) -> AsyncIterator[trio.Event]:
    """Yield an event that is set after `stop`: as soon as the domain's plugin has ended, or after `seconds`.

    So a gateway that waits for it carries what the app sends last. Where there is no plugin it is set at once.
    """
    later = trio.Event()

    async def set_later() -> None:
        await stop.wait()
        if seconds and (pid := domain.holder("plugin")) is not None:
            log.info(
                "the plugin (pid %d) stops first; this goes on until it has, for %g s at most",
                pid,
                seconds,
                extra={"event": "plugin-goes-first"},
            )
            async with move_on_when(sleep_running, seconds):
                await wait_for_exit(pid)
        later.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(set_later)
        yield later
        nursery.cancel_scope.cancel()
