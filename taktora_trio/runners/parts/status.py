"""The status of a process, for people: `STATUS=` (sd_notify(3)), which `systemctl status` shows.

The present status is sent; one that lasted only for a moment may be left out.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING

import trio

from taktora_trio.escaping import escaped
from taktora_trio.health import ConnectorHealth, HealthEvents
from taktora_trio.processes.child.life_signs import LifeSigns

if TYPE_CHECKING:  # a supervisor imports this module too, and is to be small
    from taktora_trio.host.host import ConnectorHost

__all__ = ["StatusLine", "open_life", "tell_health"]

_PAUSE = 0.2  # seconds between two of them at least
_LENGTH = 400  # characters


@contextlib.asynccontextmanager
async def open_life(
    life: LifeSigns | None, stop: trio.Event, beat: Callable[[], None], status: str, host: ConnectorHost | None = None
) -> AsyncIterator[trio.Nursery]:
    """Say that this process is ready, that it lives, and that it ends: when `stop` is set, or at the end of the block.

    With a `host`, the health of its connectors follows the status. The nursery is for what tells more; it is cancelled
    at the end. Without `life` there is no supervisor to tell, and `beat` alone gives signs of life.
    """
    with contextlib.nullcontext(life) if life else contextlib.closing(LifeSigns(None, None)) as life:
        await life.ready(status)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(life.serve, lambda: None, beat)
            nursery.start_soon(life.stopping_when, stop)
            if host is not None:
                nursery.start_soon(tell_health, life, host.states, host.health_events(), f"{status}; ")
            yield nursery
            life.stopping()
            nursery.cancel_scope.cancel()


class StatusLine:
    """A status that others set by `say`; `tell` sends the newest."""

    def __init__(self) -> None:
        self._text = ""
        self._changed = trio.Event()

    def say(self, text: str) -> None:
        self._text = text
        self._changed.set()

    async def tell(self, life: LifeSigns) -> None:
        """Serve: send each change. Runs until cancelled."""
        while True:
            await self._changed.wait()
            self._changed = trio.Event()
            await life.status(escaped(self._text, _LENGTH))
            await trio.sleep(_PAUSE)


async def tell_health(
    life: LifeSigns, states: Callable[[], Mapping[str, ConnectorHealth]], events: HealthEvents, prefix: str = ""
) -> None:
    """Serve: send the health of each connector, with `prefix` before it. Returns when there are no more events."""
    sent = ""
    while True:
        text = escaped(prefix + "; ".join(f"{name}: {state}" for name, state in states().items()), _LENGTH)
        if text != sent:
            await life.status(text)
            sent = text
        await trio.sleep(_PAUSE)
        try:
            await events.receive()
        except trio.EndOfChannel:
            return
        # Only the newest counts, and there may be more of them than are sent: each would keep what it was caused by.
        with contextlib.suppress(trio.WouldBlock, trio.EndOfChannel):
            while True:
                events.receive_nowait()
