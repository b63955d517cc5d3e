"""Makes the broker's session subscribe to what the channels want, each once, and to nothing that is left over."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import trio

from taktora_trio.escaping import escaped
from taktora_trio.mqtt.record import SubscriptionRecord
from taktora_trio.mqtt.sessions.session import Session

__all__ = ["Subscriptions"]

log = logging.getLogger(__name__)

T = TypeVar("T")

_TOLD = 10  # filters that are named
_PATIENCE = 2.0  # seconds for the disk; the broker is worth more than what it says


class Subscriptions:
    """What the session at the broker is subscribed to, over connections and over versions of the deployment.

    A session that the broker has kept still has its subscriptions (MQTT 3.1.1, section 3.1.2.4). To subscribe again
    would have it send again all that is retained; and what an earlier version of the deployment has subscribed goes on
    to bring messages that no channel is for, of a shared subscription those that others would work on. A broker can't
    be asked for them, so a record on disk says which they are; without one (`None`) they are not known.
    """

    def __init__(self, name: str, wanted: Mapping[str, int], record: SubscriptionRecord | None) -> None:
        self._name = name
        self._wanted = wanted
        self._record = record
        self._made: dict[str, int] = {}  # by this process, in a session that the broker has kept since
        self._recorded: set[str] | None = None

    async def renew(self, session: Session) -> None:
        """Subscribe what is missing, then unsubscribe what is left over. To be called on each new connection."""
        if not session.session_present:
            self._made.clear()
        if self._recorded is None:
            self._recorded = await self._read()
        stale = self._recorded - set(self._wanted) if session.session_present else set[str]()
        await self._write(stale.union(self._wanted))  # before the broker: else a kill in between would forget some
        missing = {name: qos for name, qos in self._wanted.items() if self._made.get(name) != qos}
        await session.subscribe(missing)
        self._made.update(missing)
        if stale:
            # Behind the new ones, which may be for the same messages.
            refused = await session.unsubscribe(sorted(stale))
            told = ", ".join(f"'{escaped(name)}'" for name in sorted(stale)[:_TOLD])
            log.info("%s: unsubscribed %d filters of an earlier version: %s", self._name, len(stale), told)
            for name, reason in refused.items():
                log.warning("%s: the broker goes on with '%s': %s", self._name, escaped(name), reason)
            await self._write({*self._wanted, *refused})

    async def _read(self) -> set[str]:
        record = self._record
        return set() if record is None else await self._on_disk(record.read, set())

    async def _write(self, filters: Iterable[str]) -> None:
        record, filters = self._record, set(filters)
        if record is not None and filters != self._recorded:
            self._recorded = filters
            await self._on_disk(lambda: record.write(filters), None)

    async def _on_disk(self, act: Callable[[], T], otherwise: T) -> T:
        """Do it in a thread, and only once if it fails: what the disk has is no reason to be without the broker."""
        try:
            with trio.fail_after(_PATIENCE):
                return await trio.to_thread.run_sync(act, abandon_on_cancel=True)
        except (OSError, trio.TooSlowError) as exc:
            log.warning(
                "%s: what is subscribed can't be remembered: %s. A later version without some of the channels would get"
                " their messages still; set XDG_STATE_HOME to a folder that lasts and may be written",
                self._name,
                str(exc) or "the disk does not answer",
            )
            self._record = None
        return otherwise
