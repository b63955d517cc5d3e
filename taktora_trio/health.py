"""Health: every transition is exactly one event, and every subscription is a stream of its own.

A `HealthBoard` holds the state of each component (a connector, by name). What a component reports itself is its
*base* state; on top of `Up` a *degradation* (a full channel, a dropped message) shows for as long as it lasts. An
event is emitted when the visible state changes, and only then.
"""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Callable, Iterable
from typing import TypeAlias

import attrs
import trio

__all__ = [
    "Connecting",
    "ConnectorHealth",
    "Degraded",
    "Down",
    "HealthBoard",
    "HealthEvent",
    "HealthEvents",
    "Up",
]


FULL_FOR = 1.0  # seconds without a wait after which a channel no longer counts as full


@attrs.frozen
class Up:
    """Connected, subscribed, and nothing is being held back."""

    def __str__(self) -> str:
        return "Up"


@attrs.frozen
class Connecting:
    """Not connected, and trying. `since` is a unix time in seconds; it does not count in comparisons."""

    since: float = attrs.field(factory=time.time, eq=False)

    def __str__(self) -> str:
        return "Connecting"


@attrs.frozen
class Degraded:
    """Connected, but something is held back or was lost: `reason` says what."""

    reason: str

    def __str__(self) -> str:
        return f"Degraded ({self.reason})"


@attrs.frozen
class Down:
    """Not working, and why. `since` is a unix time in seconds; it does not count in comparisons."""

    reason: str
    since: float = attrs.field(factory=time.time, eq=False)

    def __str__(self) -> str:
        return f"Down ({self.reason})"


ConnectorHealth: TypeAlias = Up | Connecting | Degraded | Down


@attrs.frozen
class HealthEvent:
    """One transition of one component's health."""

    component: str
    before: ConnectorHealth
    after: ConnectorHealth
    at: float
    """Unix time in seconds."""
    cause: BaseException | str | None = None
    """What brought it about: the exception where it happened in this process, else its description."""


class HealthEvents(trio.abc.ReceiveChannel[HealthEvent]):
    """One subscription: every transition since it was opened, in order. Iterate over it, or `await receive()`."""

    def __init__(self, board: HealthBoard) -> None:
        self._board = board
        # Unbounded on purpose: a slow subscriber may neither lose events nor delay the others'. Transitions are rare.
        self._send, self._receive = trio.open_memory_channel[HealthEvent](math.inf)
        board._subscriptions.add(self)

    async def receive(self) -> HealthEvent:
        return await self._receive.receive()

    def receive_nowait(self) -> HealthEvent:
        return self._receive.receive_nowait()

    def close(self) -> None:
        self._board._subscriptions.discard(self)
        self._receive.close()
        self._send.close()

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()

    def _put(self, event: HealthEvent) -> None:
        self._send.send_nowait(event)

    def _end(self) -> None:
        self._board._subscriptions.discard(self)
        self._send.close()


class HealthBoard:
    """The health of every component named at the start, which begins as `Connecting`.

    `on_event` is called with each event as it happens; everybody else subscribes with `events()`.
    """

    def __init__(self, components: Iterable[str], on_event: Callable[[HealthEvent], None] = lambda event: None) -> None:
        self._on_event = on_event
        self._base: dict[str, ConnectorHealth] = {name: Connecting() for name in components}
        self._shown = dict(self._base)
        self._degradations: dict[str, dict[str, float]] = {name: {} for name in self._base}
        # Weak: a subscription that was dropped without being closed must not collect events forever.
        self._subscriptions: weakref.WeakSet[HealthEvents] = weakref.WeakSet()
        self._closed = False
        self._changed = trio.Event()
        self._expiry_changed = trio.Event()

    def __repr__(self) -> str:
        return f"HealthBoard({', '.join(f'{name}={state}' for name, state in self._shown.items())})"

    def state(self, component: str) -> ConnectorHealth:
        """The present state. Raises `KeyError` for a component that doesn't exist."""
        return self._shown[component]

    def states(self) -> dict[str, ConnectorHealth]:
        return dict(self._shown)

    def events(self) -> HealthEvents:
        """Subscribe: every transition from this call on."""
        subscription = HealthEvents(self)
        if self._closed:
            subscription._end()
        return subscription

    async def wait_for(self, component: str, *kinds: type[ConnectorHealth]) -> ConnectorHealth:
        """Wait until the component's state is of one of these kinds, and return it; at once if it is already."""
        while not isinstance(self._shown[component], kinds):
            await self._changed.wait()
        await trio.lowlevel.checkpoint()
        return self._shown[component]

    def report(self, component: str, state: ConnectorHealth, cause: BaseException | str | None = None) -> None:
        """Set the component's base state; an equal state (reasons included) is not a transition."""
        self._base[component] = state
        if not isinstance(state, Up | Degraded):
            self._degradations[component].clear()  # what was held back went down with the connection
        self._show(component, cause)

    def degrade(self, component: str, reason: str, seconds: float) -> None:
        """Show `Degraded(reason)` until it was not renewed for `seconds`, so that a burst is one transition."""
        if not isinstance(self._base[component], Up | Degraded):
            return  # that it is not connected says more, and explains it
        known = reason in self._degradations[component]
        self._degradations[component][reason] = trio.current_time() + seconds
        if not known:
            self._expiry_changed.set()
            self._show(component, reason)

    async def expire(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve: end each degradation when its time is over. Runs until cancelled, in its owner's nursery."""
        task_status.started()
        while True:
            self._expiry_changed = trio.Event()
            due = min((at for reasons in self._degradations.values() for at in reasons.values()), default=math.inf)
            with trio.move_on_at(due):
                await self._expiry_changed.wait()
            now = trio.current_time()
            for component, reasons in self._degradations.items():
                over = [reason for reason, at in reasons.items() if at <= now]
                for reason in over:
                    del reasons[reason]
                if over:
                    self._show(component, f"over: {', '.join(over)}")

    def close(self) -> None:
        """End every subscription: its iteration stops after the events it has not read yet."""
        self._closed = True
        for subscription in list(self._subscriptions):
            subscription._end()

    def _show(self, component: str, cause: BaseException | str | None) -> None:
        base, reasons = self._base[component], list(self._degradations[component])
        if isinstance(base, Degraded):
            reasons.insert(0, base.reason)
        after = Degraded("; ".join(reasons)) if reasons and isinstance(base, Up | Degraded) else base
        before = self._shown[component]
        if after == before:
            return
        self._shown[component] = after
        event = HealthEvent(component, before, after, time.time(), cause)
        self._on_event(event)
        for subscription in list(self._subscriptions):
            subscription._put(event)
        self._changed.set()
        self._changed = trio.Event()
