"""The restart decision, as a pure function: `step(policy, state, event, now)` returns the next state and what to do.

It knows no clock, no task and no process; `supervisor` carries out what it says, for both.

    idle --Started--> starting --Ready--> up --Ended--> waiting --Started--> starting ...
                                           |
                                           +--> ended | given-up (--Revived--> waiting) | escalated

    starting | up --Replaced--> replacing --Ended--> waiting
    starting | up --Held--> holding --Ended--> held --Released--> waiting
"""

from __future__ import annotations

import random as random_module
from collections.abc import Callable
from typing import Literal, TypeAlias

import msgspec

from taktora_trio.supervision.policy import RestartPolicy

__all__ = [
    "Action",
    "Ended",
    "Escalate",
    "Event",
    "Finish",
    "GiveUp",
    "Held",
    "Hold",
    "Phase",
    "Ready",
    "Released",
    "Replaced",
    "Restart",
    "Revived",
    "Started",
    "State",
    "Stopped",
    "attempts_left",
    "step",
]


# Events


class Started(msgspec.Struct, frozen=True):
    """An incarnation has begun."""


class Ready(msgspec.Struct, frozen=True):
    """The incarnation works; from now on its uptime counts."""


class Ended(msgspec.Struct, frozen=True):
    """The incarnation is over. A `permanent` failure is one that another try would only repeat."""

    failed: bool
    permanent: bool = False
    silent: float = 0.0
    """Seconds before its end without a sign of life: they are no uptime."""


class Stopped(msgspec.Struct, frozen=True):
    """The owner wants it to end."""


class Revived(msgspec.Struct, frozen=True):
    """Somebody says that the cause is mended: if it was given up, it starts again with its whole budget."""


class Replaced(msgspec.Struct, frozen=True):
    """The owner wants another one in its place: its end is wanted, and the other one starts with the whole budget."""


class Held(msgspec.Struct, frozen=True):
    """Somebody wants it stopped for now: its end is wanted, and nothing starts until it is `Released`."""


class Released(msgspec.Struct, frozen=True):
    """Somebody wants it to run again: it starts with the whole budget."""


Event: TypeAlias = Started | Ready | Ended | Stopped | Revived | Replaced | Held | Released


# Actions


class Restart(msgspec.Struct, frozen=True):
    """Start again after `delay` seconds."""

    delay: float


class Finish(msgspec.Struct, frozen=True):
    """Do nothing more: it ended as it may."""


class Hold(msgspec.Struct, frozen=True):
    """Start nothing until it is released."""


class GiveUp(msgspec.Struct, frozen=True):
    """Leave it down until it is revived: it failed too often."""

    reason: str


class Escalate(msgspec.Struct, frozen=True):
    """End the whole deployment: it failed too often."""

    reason: str


Action: TypeAlias = Restart | Finish | Hold | GiveUp | Escalate


Phase: TypeAlias = Literal[
    "idle",
    "starting",
    "up",
    "waiting",
    "replacing",
    "holding",
    "held",
    "stopping",
    "ended",
    "given-up",
    "escalated",
]


class State(msgspec.Struct, frozen=True):
    """The state of a supervised thing. `since` is on the clock of the events' `now`."""

    phase: Phase = "idle"
    incarnation: int = 0
    since: float = 0.0
    uptime: float = 0.0
    """The seconds for which all incarnations together have been up: the clock of the budget."""
    restarts: tuple[float, ...] = ()
    """The time on that clock of each restart that still counts."""
    attempt: int = 0
    """The number of restarts without a stable run between them."""


def attempts_left(policy: RestartPolicy, state: State) -> int:
    """Return the number of restarts that would be granted now, if it failed at once again and again."""
    if policy.restart == "never":
        return 0
    return max(0, policy.intensity - len(_counting(policy, state)))


def step(
    policy: RestartPolicy,
    state: State,
    event: Event,
    now: float,
    random: Callable[[], float] = random_module.random,
) -> tuple[State, Action | None]:
    """Return the next state, and the action to take, if any.

    `now` is any clock in seconds that only goes forward; `random` spreads the delay.

    An event that means nothing in the present phase (a second `Ready`, a `Revived` while it works) changes nothing.
    """
    match state.phase, event:
        case "idle" | "waiting", Started():
            return msgspec.structs.replace(state, phase="starting", incarnation=state.incarnation + 1, since=now), None
        case "starting", Ready():
            return msgspec.structs.replace(state, phase="up", since=now), None
        case "starting" | "up", Ended():
            return _after(policy, state, event, now, random)
        case "starting" | "up", Replaced():
            return msgspec.structs.replace(state, phase="replacing", since=now), None
        case "replacing", Ended():
            return State("waiting", state.incarnation, now), Restart(0.0)
        case ("given-up", Revived()) | ("waiting" | "given-up" | "escalated", Replaced()):
            return State("waiting", state.incarnation, now), Restart(0.0)
        case "starting" | "up", Held():
            return msgspec.structs.replace(state, phase="holding", since=now), None
        case "holding", Ended():
            return State("held", state.incarnation, now), Hold()
        case "idle" | "waiting" | "given-up", Held():
            return State("held", state.incarnation, now), Hold()
        case "held", Released():
            return State("waiting", state.incarnation, now), Restart(0.0)
        case "starting" | "up" | "replacing" | "holding", Stopped():
            return msgspec.structs.replace(state, phase="stopping", since=now), None
        case "stopping", Ended():
            return msgspec.structs.replace(state, phase="ended", since=now), Finish()
        case "idle" | "waiting" | "held" | "given-up", Stopped():
            return msgspec.structs.replace(state, phase="ended", since=now), Finish()
        case _:
            return state, None


def _after(
    policy: RestartPolicy, state: State, ended: Ended, now: float, random: Callable[[], float]
) -> tuple[State, Action]:
    ran = max(0.0, now - state.since - ended.silent) if state.phase == "up" else 0.0
    state = msgspec.structs.replace(state, since=now, uptime=state.uptime + ran)
    if not ended.failed and policy.restart != "always":
        return msgspec.structs.replace(state, phase="ended"), Finish()
    if policy.restart == "never":
        # As OTP's temporary children, it never takes others down with it.
        return msgspec.structs.replace(state, phase="given-up"), GiveUp("its policy is never to restart it")
    if ended.permanent:
        return _exhausted(policy, state, "another try would end the same way")
    counting = _counting(policy, state)
    if len(counting) >= policy.intensity:
        times = f"{len(counting) + 1} times" if counting else "once"
        return _exhausted(policy, state, f"it ended {times} within {policy.period:g} s of uptime")
    attempt = 0 if ran >= policy.period else state.attempt
    delay = policy.backoff.delay(attempt, random)
    restarts = (*counting, state.uptime)
    return msgspec.structs.replace(state, phase="waiting", restarts=restarts, attempt=attempt + 1), Restart(delay)


def _counting(policy: RestartPolicy, state: State) -> tuple[float, ...]:
    return tuple(at for at in state.restarts if at >= state.uptime - policy.period)


def _exhausted(policy: RestartPolicy, state: State, reason: str) -> tuple[State, GiveUp | Escalate]:
    if policy.on_exhausted == "escalate":
        return msgspec.structs.replace(state, phase="escalated"), Escalate(reason)
    return msgspec.structs.replace(state, phase="given-up"), GiveUp(reason)
