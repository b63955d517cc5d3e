"""Connecting two halves again that could not be connected when the later one came, or that lost each other's count.

iceoryx2 tries only once to connect two ports, when it first sees both, and says nothing if it can't: as a rule for want
of a descriptor. So each half looks whether what should be connected is, and opens its own end again where it is not.

Both halves store counts in memory that the other one has, too. A broken one may write over what is not its own, so that
the other waits for what has come long ago. So who waits for long has the other half look, and store its counts again.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Awaitable, Callable

import trio

from taktora_trio.errors import ConfigError, TransportError
from taktora_trio.supervision.backoff import Backoff
from taktora_trio.transport.descriptors import shortage
from taktora_trio.transport.pauses import sleep
from taktora_trio.transport.trunk import Trunk

__all__ = ["Reconnection"]

log = logging.getLogger(__name__)

_WAITS = Backoff(initial=0.1, maximum=2.0, jitter=0)
_DISPUTES = 3  # after so many requests a count is believed that goes with no envelope
_NOT_OURS = "the other half may have too few descriptors, or stand still: see its log"
_PAUSES = Backoff(initial=0.2, maximum=1.0, jitter=0)  # the first: another half that has just come does its part


class Reconnection:
    """Keeps one half of a connector connected with the other one."""

    def __init__(
        self,
        trunk: Trunk,
        announce: Callable[[], Awaitable[None]],
        is_there: Callable[[], bool] = lambda: True,
        on_change: Callable[[str], None] = lambda lacking: None,
    ) -> None:
        """`announce` has the other half look, too, though it may wait for nothing in its trunk. `is_there` returns
        false if the other half is known to be gone. `on_change` is called with what is lacking, and with an empty text
        when all is connected again."""
        self.lacking = ""
        """What is lacking, and why, as far as that is known; empty if all is connected."""
        self._trunk = trunk
        self._announce = announce
        self._is_there = is_there
        self._on_change = on_change
        self._asked, self._waited = trio.Event(), trio.Event()
        self._is_doubtful = False
        trunk.tell(self._doubt, lambda: self._waited.set())

    def look(self) -> None:
        """Give our memory to another half that has come, and take its; look whether that worked."""
        self._trunk.update_connections()
        if self._trunk.lacking:
            if (short := shortage(self._trunk.spec.name)) is not None:
                self._tell(f"{self._trunk.lacking}: {short}")
            self._asked.set()

    async def serve(self) -> None:
        """Serve: connect what could not be connected, and have counts stored again. Runs until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._serve_those_who_wait)
            await self._serve_connections()

    async def _serve_those_who_wait(self) -> None:
        while True:
            await self._waited.wait()
            waited_for = self._trunk.waited_for
            disputes = 0
            for pause in _WAITS.delays():
                await sleep(pause)
                disputes = disputes + 1 if self._trunk.is_disputed else 0
                if disputes > _DISPUTES:
                    self._trunk.confirm()
                before, waited_for = waited_for, self._trunk.waited_for
                stands = any(before.get(name) == done for name, done in waited_for.items())
                if stands or self._is_doubtful or disputes:
                    self._is_doubtful = False
                    self._trunk.update_connections()
                    with contextlib.suppress(ConfigError, TransportError):
                        await self._announce()
                elif not waited_for:
                    break
            self._waited = trio.Event()

    def _doubt(self) -> None:
        self._is_doubtful = True
        self._waited.set()
        self._asked.set()

    async def _serve_connections(self) -> None:
        while True:
            await self._asked.wait()
            self._asked = trio.Event()
            for attempt, pause in enumerate(_PAUSES.delays()):
                await sleep(pause)
                if not self._is_there() or not (lacking := self._trunk.lacking):
                    break
                because = await self._try_again()
                if because or attempt > 0:  # the other half may not have had its turn yet
                    self._tell(f"{lacking}: {because or _NOT_OURS}")
            self._tell("")

    async def _try_again(self) -> str:
        """Do our part once, and return why it can't be done; an empty text if it is the other half's turn."""
        trunk = self._trunk
        try:
            if (short := shortage(trunk.spec.name)) is not None:
                return str(short)
            await trunk.node.clean_up()  # one that was killed is not there
            trunk.update_connections()
            await trunk.connect_again()
            await self._announce()
        except (ConfigError, TransportError) as exc:
            return str(exc)
        return ""

    def _tell(self, lacking: str) -> None:
        if lacking.partition(":")[0] == self.lacking.partition(":")[0]:  # the figures change
            return
        self.lacking = lacking
        if lacking:
            log.error(
                "%s: not connected with the other half: %s; trying again",
                self._trunk.spec.name,
                lacking,
                extra={"event": "halves-unconnected", "service": self._trunk.spec.name},
            )
        else:
            log.info(
                "%s: connected with the other half",
                self._trunk.spec.name,
                extra={"event": "halves-connected", "service": self._trunk.spec.name},
            )
        self._on_change(lacking)
