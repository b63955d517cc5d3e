"""The health of a half's connectors as its page shows it: since when it is so, why, and what it was before."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable

from taktora_trio.errors import summary
from taktora_trio.escaping import escaped
from taktora_trio.health import ConnectorHealth, Degraded, Down, HealthBoard, HealthEvent, Up
from taktora_trio.vitals.model import Change, Connector, Health

__all__ = ["HISTORY", "HealthRecord"]

HISTORY = 32
"""So many changes of health are kept."""
_TEXT = 160  # characters of a reason, and of a cause


class HealthRecord:
    """Keeps the last changes of health. It is told of each as it happens: `note`."""

    def __init__(self, components: Iterable[str]) -> None:
        self.history: deque[Change] = deque(maxlen=HISTORY)
        """The newest last."""
        self.changes = 0
        """Counts them."""
        now = time.time()
        self._since = dict.fromkeys(components, now)
        self._causes: dict[str, str] = {}

    def note(self, event: HealthEvent) -> None:
        """Keep one more change."""
        self.changes += 1
        cause = event.cause
        text = summary(cause) if isinstance(cause, BaseException) else cause or ""
        if type(event.before) is not type(event.after):
            self._since[event.component] = event.at
        self._causes[event.component] = escaped(text, _TEXT)
        self.history.append(
            Change(
                at=event.at,
                connector=event.component,
                before=_kind(event.before),
                after=_kind(event.after),
                reason=_reason(event.after),
                cause=escaped(text, _TEXT),
            )
        )

    def resume(self, before: Iterable[Change]) -> None:
        """Go on behind the changes that an earlier half of the same run has kept."""
        self.history.extendleft(reversed(list(before)))

    def connector(self, name: str, board: HealthBoard, peer: str = "", reconnects: int = 0) -> Connector:
        """Return what is known of a connector now."""
        state = board.state(name)
        return Connector(
            name=name,
            health=_kind(state),
            since=self._since[name],
            reason=_reason(state),
            cause="" if isinstance(state, Up) else self._causes.get(name, ""),
            peer=escaped(peer or (state.at if isinstance(state, Up) else ""), _TEXT),
            reconnects=reconnects,
            next_attempt=state.next_attempt if isinstance(state, Down) else None,
        )


def _kind(state: ConnectorHealth) -> Health:
    return type(state).__name__  # type: ignore[return-value]  # they are called so


def _reason(state: ConnectorHealth) -> str:
    return escaped(state.reason, _TEXT) if isinstance(state, Degraded | Down) else ""
