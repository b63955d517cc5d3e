"""Connecting two halves again that could not be connected when the later one came.

iceoryx2 tries only once to connect two ports, when it first sees both, and says nothing if it can't: as a rule for want
of a descriptor. So each half looks whether what should be connected is, and opens its own end again where it is not.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import trio

from taktora_trio.errors import ConfigError, TransportError
from taktora_trio.supervision.backoff import Backoff
from taktora_trio.transport.cleaning import clean_up_dead_nodes
from taktora_trio.transport.descriptors import shortage
from taktora_trio.transport.pauses import sleep
from taktora_trio.transport.trunk import Trunk

__all__ = ["Reconnection"]

log = logging.getLogger(__name__)

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
        self._asked = trio.Event()

    def look(self) -> None:
        """Give our memory to another half that has come, and take its; look whether that worked."""
        self._trunk.update_connections()
        if self._trunk.lacking:
            if (short := shortage(self._trunk.spec.name)) is not None:
                self._tell(f"{self._trunk.lacking}: {short}")
            self._asked.set()

    async def serve(self) -> None:
        """Serve: connect what could not be connected. Runs until cancelled."""
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
            await clean_up_dead_nodes(trunk.node)  # one that was killed is not there
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
            log.error("%s: not connected with the other half: %s; trying again", self._trunk.spec.name, lacking)
        else:
            log.info("%s: connected with the other half", self._trunk.spec.name)
        self._on_change(lacking)
