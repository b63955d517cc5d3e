"""Health: every transition is exactly one event, and every subscription is a stream of its own.

A `HealthBoard` holds the state of each component (a connector, by name). What a component reports itself is its
*base* state; on top of `Up` a *degradation* (a full channel, a dropped message) shows for as long as it lasts. An
event is emitted when the visible state changes, and only then. `TRANSITIONS` has the legal changes.
"""

from __future__ import annotations

import logging
import math
import os
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Literal, TypeAlias

import attrs
import trio
from trio_util import RepeatedEvent

from taktora_trio.errors import summary

__all__ = [
    "FULL_FOR",
    "TRANSITIONS",
    "Connecting",
    "ConnectorHealth",
    "Degraded",
    "Down",
    "Failure",
    "FailureKind",
    "HealthBoard",
    "HealthEvent",
    "HealthEvents",
    "IllegalTransition",
    "Up",
]

log = logging.getLogger(__name__)

FULL_FOR = 1.0  # seconds without a wait after which a channel no longer counts as full


@attrs.frozen
class Up:
    """Connected, subscribed, and nothing is being held back.

    `at` is the address, where there are several to choose from; it does not count in comparisons.
    """

    at: str = attrs.field(default="", eq=False)

    def __str__(self) -> str:
        return f"Up (at {self.at})" if self.at else "Up"


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


FailureKind: TypeAlias = Literal["exception", "exit", "signal", "hang", "start-deadline", "out-of-memory", "stopped"]


@attrs.frozen(kw_only=True)
class Failure:
    """The end of one incarnation of a gateway, and what happens next. msgspec encodes and decodes it."""

    kind: FailureKind
    description: str
    """In one line and a few words, such as `killed by SIGKILL`."""
    incarnation: int
    """Its number; the first is 1."""
    uptime: float
    """Seconds for which it was ready; 0 if it never was."""
    at: float = attrs.field(factory=time.time)
    """Unix time in seconds at which it ended."""
    delay: float | None
    """Seconds from `at` to the next attempt; `None` if it is given up, or stopped by an operator."""
    attempts_left: int
    """Restarts that the policy grants after that attempt, should all of them fail at once."""
    gave_up: str = ""
    """Why it was given up; empty if it was not."""
    stderr_tail: tuple[str, ...] = ()
    """The last lines that it wrote."""

    @property
    def next_attempt(self) -> float | None:
        """Unix time in seconds at which it starts again; `None` if it is given up, or stopped by an operator."""
        return None if self.delay is None else self.at + self.delay

    def __str__(self) -> str:
        # Read at any later time, so its times count from the end of the incarnation and not from now.
        when = f"{self.uptime:.1f} s after it was ready" if self.uptime else "before it was ready"
        if self.kind == "stopped":
            then = "`taktora-trio start` starts it again"
        elif self.delay is None:
            then = f"given up: {self.gave_up}" if self.gave_up else "given up"
        else:
            left = (
                f"{self.attempts_left} more attempt{'s' * (self.attempts_left != 1)}" if self.attempts_left else "none"
            )
            then = f"starts again {self.delay:.2f} s later ({left} after that)"
        return f"incarnation {self.incarnation} ended {when}: {self.description}; {then}"


@attrs.frozen
class Down:
    """Not working, and why. `since` is a unix time in seconds.

    `failure` says more where a gateway has ended; `next_attempt` is the unix time in seconds at which a connector that
    the other side refuses is tried again, `None` where none is due. None of the three counts in comparisons.
    """

    reason: str
    since: float = attrs.field(factory=time.time, eq=False)
    failure: Failure | None = attrs.field(default=None, eq=False)
    next_attempt: float | None = attrs.field(default=None, eq=False)

    def __str__(self) -> str:
        if self.next_attempt is None:
            return f"Down ({self.reason})"
        at = datetime.fromtimestamp(self.next_attempt, UTC)
        return f"Down ({self.reason}; next attempt at {at:%Y-%m-%d %H:%M:%S} UTC)"


ConnectorHealth: TypeAlias = Up | Connecting | Degraded | Down

TRANSITIONS: frozenset[tuple[type[ConnectorHealth], type[ConnectorHealth]]] = frozenset(
    {
        (Connecting, Up),
        (Connecting, Degraded),
        (Connecting, Down),
        (Up, Degraded),
        (Up, Connecting),
        (Up, Down),
        (Degraded, Degraded),  # for another reason
        (Degraded, Up),
        (Degraded, Connecting),
        (Degraded, Down),
        (Down, Connecting),
        (Down, Down),  # for another reason
    }
)
"""The legal transitions. `Down` is not followed by `Up` or `Degraded`: the way back leads through `Connecting`."""


class IllegalTransition(AssertionError):
    """A change of state that is not in `TRANSITIONS`: a bug of what reported it."""


@attrs.frozen
class HealthEvent:
    """One transition of one component's health."""

    component: str
    before: ConnectorHealth
    after: ConnectorHealth
    at: float
    """Unix time in seconds."""
    cause: BaseException | str | None = None
    """The cause: an exception if it happened in this process, else a description."""


class HealthEvents(trio.abc.ReceiveChannel[HealthEvent]):
    """One subscription: every transition since it was opened, in order. Iterate over it, or `await receive()`."""

    initial: Mapping[str, ConnectorHealth]
    """The state of each component when it was opened: no transition lies between these and the first events."""

    def __init__(self, board: HealthBoard) -> None:
        self.initial = board.states()
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

    `on_event` is called with each event as it happens; everybody else subscribes with `events()`. Both get the events
    in the order of the transitions. If `on_event` itself reports a state, it is called with that event once it has
    returned. If it raises, the transition has taken place and the subscribers have its event; the exception leaves the
    call that brought it about (the outermost, of nested ones), after `on_event` has had the events still pending.

    A transition that is not in `TRANSITIONS` raises `IllegalTransition` and does not take place where the environment
    variable `TAKTORA_STRICT` is set to anything. Else, in production, it is logged as an error and takes place: better
    an odd sequence than a health that is wrong from then on.
    """

    def __init__(self, components: Iterable[str], on_event: Callable[[HealthEvent], None] = lambda event: None) -> None:
        self._on_event = on_event
        self._pending: deque[HealthEvent] = deque()
        self._is_notifying = False
        self._strict = bool(os.environ.get("TAKTORA_STRICT"))
        self._base: dict[str, ConnectorHealth] = {name: Connecting() for name in components}
        self._shown = dict(self._base)
        self._degradations: dict[str, dict[str, float]] = {name: {} for name in self._base}
        # Of the present base states, where there is one. In words: an exception would keep all that was running.
        self._causes: dict[str, str] = {}
        # Weak: a subscription that was dropped without being closed must not collect events forever.
        self._subscriptions: weakref.WeakSet[HealthEvents] = weakref.WeakSet()
        self._closed = False
        self._changed = RepeatedEvent()
        self._expiry_changed = trio.Event()

    def __repr__(self) -> str:
        return f"HealthBoard({', '.join(f'{name}={state}' for name, state in self._shown.items())})"

    def state(self, component: str) -> ConnectorHealth:
        """The present state. Raises `KeyError` for a component that doesn't exist."""
        return self._shown[component]

    def states(self) -> dict[str, ConnectorHealth]:
        return dict(self._shown)

    def base(self, component: str) -> tuple[ConnectorHealth, str]:
        """Return the state without degradations, and the latest cause that was given for it, if any, in words."""
        return self._base[component], self._causes.get(component, "")

    async def changed(self) -> None:
        """Wait until a state, or the cause of one, may have changed."""
        await self._changed.wait()

    def add(self, component: str) -> None:
        """Hold the health of one more component, which begins as `Connecting`."""
        self._base[component] = self._shown[component] = Connecting()
        self._degradations[component] = {}

    def events(self) -> HealthEvents:
        """Subscribe: every transition from this call on."""
        subscription = HealthEvents(self)
        if self._closed:
            subscription._end()
        return subscription

    async def wait_for(self, component: str, *kinds: type[ConnectorHealth]) -> ConnectorHealth:
        """Wait until the component's state is of one of these kinds, and return it; at once if it is already."""
        await trio.lowlevel.checkpoint()  # before the look, so that what is returned is so still
        while not isinstance(state := self._shown[component], kinds):
            await self._changed.wait()
        return state

    def report(self, component: str, state: ConnectorHealth, cause: BaseException | str | None = None) -> None:
        """Set the component's base state; an equal state (reasons included) is not a transition."""
        if isinstance(state, Up):
            self._causes.pop(component, None)
        elif cause is not None:  # also where it is no transition: it fails to connect once more, for another reason
            self._causes[component] = summary(cause) if isinstance(cause, BaseException) else cause
            self._changed.set()
        # What was held back goes down with the connection.
        degradations = self._degradations[component] if isinstance(state, Up | Degraded) else {}
        self._set(component, state, degradations, cause)

    def degrade(self, component: str, reason: str, seconds: float, *, instead_of: str | None = None) -> None:
        """Show `Degraded(reason)` until it was not renewed for `seconds`, so that a burst is one transition.

        `instead_of` is an earlier reason whose place this one takes: the same, with a newer figure.
        """
        base, degradations = self._base[component], self._degradations[component]
        if isinstance(base, Up | Degraded):  # else it is not connected, which says more
            if reason not in degradations:
                self._expiry_changed.set()
            there = {reason if one == instead_of else one: until for one, until in degradations.items()}
            self._set(component, base, {**there, reason: trio.current_time() + seconds}, reason)

    async def expire(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve: end each degradation when its time is over. Runs until cancelled, in its owner's nursery."""
        task_status.started()
        while True:
            self._expiry_changed = trio.Event()
            with trio.move_on_at(self._end_what_is_over()):
                await self._expiry_changed.wait()

    def close(self) -> None:
        """End every subscription: its iteration stops after the events it has not read yet."""
        self._closed = True
        for subscription in list(self._subscriptions):
            subscription._end()

    def _end_what_is_over(self) -> float:
        """End the degradations whose time is over; return when the next one's is, on trio's clock."""
        now = trio.current_time()
        for component, degradations in self._degradations.items():
            left = {reason: at for reason, at in degradations.items() if at > now}
            if len(left) < len(degradations):
                over = ", ".join(reason for reason in degradations if reason not in left)
                self._set(component, self._base[component], left, f"over: {over}")
        return min((at for reasons in self._degradations.values() for at in reasons.values()), default=math.inf)

    def _set(
        self,
        component: str,
        base: ConnectorHealth,
        degradations: dict[str, float],
        cause: BaseException | str | None,
    ) -> None:
        """Change a state: the one place that does. All of it changes, or nothing if that would be illegal."""
        before, after = self._shown[component], _visible(base, degradations)
        if after != before and (type(before), type(after)) not in TRANSITIONS:
            illegal = f"{component} can't go from {before} to {after}"
            if self._strict:
                raise IllegalTransition(illegal)
            log.error(
                "%s, but does: a bug of what reported it",
                illegal,
                stack_info=True,
                extra={"event": "health-illegal", "connector": component},
            )
        self._base[component], self._degradations[component] = base, degradations
        if after != before:
            self._shown[component] = after
            self._emit(HealthEvent(component, before, after, time.time(), cause))
        elif isinstance(before, Down) and isinstance(after, Down) and after.failure:
            # It is down for the same reason once more: no transition, but what happens next is news.
            self._shown[component] = attrs.evolve(before, failure=after.failure)

    def _emit(self, event: HealthEvent) -> None:
        # The subscriptions first: that runs nobody else's code, so `on_event` can't change anything in between.
        for subscription in list(self._subscriptions):
            subscription._put(event)
        self._changed.set()
        self._pending.append(event)
        if not self._is_notifying:
            self._is_notifying = True
            try:
                self._notify()
            finally:
                self._is_notifying = False

    def _notify(self) -> None:
        try:
            while self._pending:
                self._on_event(self._pending.popleft())
        finally:
            if self._pending:  # it raised, which must not hold back the other events
                self._notify()


def _visible(base: ConnectorHealth, degradations: Iterable[str]) -> ConnectorHealth:
    if not isinstance(base, Up | Degraded):
        return base
    reasons = [base.reason, *degradations] if isinstance(base, Degraded) else list(degradations)
    return Degraded("; ".join(reasons)) if reasons else base
