"""Makes the broker's session subscribe to what the channels want, each once, and to nothing that is left over."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

import trio

from taktora_trio.connectors.mqtt.filters import ChannelFilters
from taktora_trio.connectors.mqtt.record import SubscriptionRecord
from taktora_trio.connectors.mqtt.sessions.session import Session
from taktora_trio.escaping import escaped

__all__ = ["Subscriptions"]

log = logging.getLogger(__name__)

T = TypeVar("T")

_NAMED = 10  # filters that are named
_PATIENCE = 2.0  # seconds for the disk; the broker is worth more than what it says


class Subscriptions:
    """Keeps a session's subscriptions right, over connections and over versions of the deployment.

    A session that the broker has kept still has its subscriptions (MQTT 3.1.1, section 3.1.2.4). They are not
    subscribed again, since the broker would then send all retained messages again. Those of an earlier version of the
    deployment are unsubscribed: they go on bringing messages that no channel is for, and a shared one takes them from
    other clients. A broker can't be asked which there are, so a record on disk tells; without one (`None`) none does.
    """

    def __init__(self, name: str, filters: ChannelFilters, record: SubscriptionRecord | None) -> None:
        self._name = name
        self._filters = filters
        self._record = record
        self._there: set[str] | None = None  # all that the session may have, and the record has; not known at first

    @property
    def complaints(self) -> list[str]:
        """A line for each channel that the broker gives nothing, with the reason."""
        return self._filters.complaints

    async def renew(self, session: Session) -> None:
        """Subscribe what is missing, then unsubscribe what is left over. Call it on each new connection.

        Raises `SessionLost`.
        """
        there = await self._read() if self._there is None else self._there
        self._there = there
        if not session.session_present:
            self._filters.forget()
            there = set()
        await self._subscribe(session, there)

    async def ask_again(self, session: Session) -> None:
        """Ask the broker of this connection once more for what it has refused. Raises `SessionLost`."""
        assert self._there is not None
        await self._subscribe(session, self._there)

    async def _subscribe(self, session: Session, there: set[str]) -> None:
        self._filters.again()
        while due := self._filters.due:
            there = there.union(due)
            await self._write(there)  # before the broker: else a kill in between would forget some
            self._filters.answered(due, await session.subscribe(due))
        left_over = there - self._filters.in_use - self._filters.refused
        kept = await self._unsubscribe(session, left_over) if left_over else set[str]()
        await self._write(there - left_over | kept)

    async def _unsubscribe(self, session: Session, left_over: set[str]) -> set[str]:
        """Unsubscribe these, and return those that the broker keeps. The new filters are subscribed by then."""
        refused = await session.unsubscribe(sorted(left_over))
        names = ", ".join(f"'{escaped(name)}'" for name in sorted(left_over)[:_NAMED])
        log.info(
            "%s: unsubscribed %d filters that no channel needs: %s",
            self._name,
            len(left_over),
            names,
            extra={"event": "unsubscribed", "connector": self._name, "count": len(left_over)},
        )
        for name, reason in refused.items():
            log.warning(
                "%s: the broker goes on with '%s': %s",
                self._name,
                escaped(name),
                reason,
                extra={"event": "unsubscribe-refused", "connector": self._name},
            )
        return set(refused)

    async def _read(self) -> set[str]:
        record = self._record
        return set() if record is None else await self._on_disk(record.read, set())

    async def _write(self, filters: set[str]) -> None:
        record, before, self._there = self._record, self._there, filters
        if record is not None and filters != before:
            await self._on_disk(lambda: record.write(filters), None)

    async def _on_disk(self, act: Callable[[], T], otherwise: T) -> T:
        """Run it in a thread. Where it fails there is no record from then on: the broker matters more than the disk."""
        try:
            with trio.fail_after(_PATIENCE):
                return await trio.to_thread.run_sync(act, abandon_on_cancel=True)
        except (OSError, trio.TooSlowError) as exc:
            log.warning(
                "%s: what is subscribed can't be remembered: %s. A later version without some of the channels would get"
                " their messages still; set XDG_STATE_HOME to a folder that lasts and may be written",
                self._name,
                str(exc) or "the disk does not answer",
                extra={"event": "subscriptions-not-kept", "connector": self._name},
            )
            self._record = None
        return otherwise
