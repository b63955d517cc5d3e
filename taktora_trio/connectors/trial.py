"""Carries out what `poison.py` decides: publishes one by one, and sets the guilty message aside."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import trio

from taktora_trio.connectors import poison
from taktora_trio.connectors.connection import Client, Connection, ConnectionLost
from taktora_trio.connectors.outbox import Outbox
from taktora_trio.connectors.poison import Alone, Suspicion

__all__ = ["Trials"]

log = logging.getLogger(__name__)


class Trials:
    """Watches over the ends of a gateway's connections, and decides when one is a trial."""

    def __init__(self, connector: str, client: Client, outboxes: Iterable[Outbox]) -> None:
        self._connector = connector
        self._client = client
        self._outboxes = {outbox.channel: outbox for outbox in outboxes}
        self._suspicion = Suspicion()
        self._alone: tuple[str, int, float, bool] | None = None  # as in `Alone`, with the time of its publishing

    @property
    def is_due(self) -> bool:
        """True if a connection that has just begun is to publish one by one first."""
        return self._suspicion.trial

    async def publish_one_by_one(self, connection: Connection) -> None:
        """Publish what is not acknowledged with nothing else in flight, so that a loss is certain to be behind it."""
        log.warning(
            "%s: connections end right behind a message: publishing one by one, to find which",
            self._connector,
            extra={"event": "trial-begun", "connector": self._connector},
        )
        await trio.sleep(poison.QUIET)
        others_pass = connection.is_answered
        unfinished = [(name, number) for name, outbox in self._outboxes.items() for number in outbox.unfinished]
        for channel, number in poison.in_order(unfinished, self._suspicion.suspect, others_pass=others_pass):
            self._alone = (channel, number, trio.current_time(), others_pass)
            with trio.move_on_after(poison.SOON) as patience:
                await self._outboxes[channel].publish_alone(connection, number)
            self._alone = None
            if patience.cancelled_caught:
                break
            others_pass = others_pass or self._outboxes[channel].is_acknowledged
        self._suspicion = Suspicion()

    def ended(self, failure: Exception, uptime: float | None) -> None:
        """A connection ended after so many seconds; `None` if it never was up. Suspect a message, or set it aside."""
        alone, self._alone = self._alone, None
        silent = isinstance(failure, ConnectionLost) and failure.silent
        if uptime is None:
            self._suspicion = Suspicion()
        elif not self._suspicion.trial:
            heads = {name: outbox.unfinished[0] for name, outbox in self._outboxes.items() if outbox.unfinished}
            self._suspicion = poison.after_loss(self._suspicion, heads, uptime, silent=silent)
        elif alone is None:
            self._suspicion = Suspicion()
        else:
            channel, number, since, others_pass = alone
            in_flight = Alone(channel, number, trio.current_time() - since, others_pass)
            self._suspicion, guilty = poison.after_trial(self._suspicion, in_flight, silent=silent)
            if guilty:
                self._client.set_aside(channel, self._outboxes[channel].set_aside(number))
