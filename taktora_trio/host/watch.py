"""The life of a gateway, as the app's half knows it, and what an app is shown: a pure function, `step`.

A gateway process is known by its own reports, by its process's end, which the host notices itself, and by what the
supervisor says, where it is ours. These come in any order. Each is an event; what follows is carried out by
`host/gateways.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

import attrs

from taktora_trio.health import Connecting, ConnectorHealth, Degraded, Down, Failure, Up
from taktora_trio.transport.health import GatewayIdentity

__all__ = [
    "Action",
    "AwaitFailed",
    "Ended",
    "Event",
    "Failed",
    "Life",
    "Overdue",
    "Reported",
    "Show",
    "Started",
    "TakeAgain",
    "TaskFailed",
    "Unwatch",
    "Watch",
    "begin",
    "has_gateway",
    "step",
]

_WATCHED = 4  # processes that are watched at most: there is one, or two for a moment, unless reports are not true
_DEAD = 64  # processes that are remembered when they have ended, since some of their reports may be read later

# Events


@attrs.frozen
class Reported:
    """A gateway has reported the health of a connector."""

    connector: str
    identity: GatewayIdentity
    health: ConnectorHealth
    cause: str | None = None
    is_alive: bool = True
    """False if there is no such process any more."""


@attrs.frozen
class Started:
    """The supervisor has started a gateway process."""

    pid: int


@attrs.frozen
class Failed:
    """The supervisor says how a gateway process has ended."""

    pid: int
    failure: Failure


@attrs.frozen
class Ended:
    """A watched gateway process has ended, and all its reports are taken."""

    identity: GatewayIdentity


@attrs.frozen
class Overdue:
    """The supervisor has not said in time how a gateway process has ended."""

    identity: GatewayIdentity


@attrs.frozen
class TaskFailed:
    """The gateway task of this process has ended, and all its reports are taken."""

    identity: GatewayIdentity
    failure: Failure
    crash: Exception | None = None


Event: TypeAlias = Reported | Started | Failed | Ended | Overdue | TaskFailed

# Actions


@attrs.frozen
class Show:
    """Show this health of a connector."""

    connector: str
    health: ConnectorHealth
    cause: BaseException | str | None = None


@attrs.frozen
class Watch:
    """Notice the end of this process: `Ended`."""

    identity: GatewayIdentity


@attrs.frozen
class Unwatch:
    """No longer watch this process."""

    identity: GatewayIdentity


@attrs.frozen
class AwaitFailed:
    """Give the supervisor a moment to say how this process has ended (`Failed`); then it is `Overdue`."""

    identity: GatewayIdentity


@attrs.frozen
class TakeAgain:
    """Look whether the process of this report is alive, and take the report as if it came now."""

    report: Reported


Action: TypeAlias = Show | Watch | Unwatch | AwaitFailed | TakeAgain


@attrs.frozen
class Life:
    """Everything that is known. Use `begin` for the first one."""

    own_pid: int
    supervised: bool
    """True if a supervisor says which process is our gateway."""
    shown: Mapping[str, ConnectorHealth]
    """By connector, without degradations."""
    started: int | None = None
    """The process that the supervisor has started last."""
    present: Mapping[str, GatewayIdentity] = attrs.field(factory=dict)
    """The gateway of each connector."""
    watched: tuple[GatewayIdentity, ...] = ()
    ending: tuple[GatewayIdentity, ...] = ()
    """Those of `watched` that have ended, and of which the supervisor has not said how."""
    dead: tuple[GatewayIdentity, ...] = ()
    """Those that have ended lately, watched or not."""
    early: Mapping[str, Reported] = attrs.field(factory=dict)
    """The last report of each connector by a process that the supervisor has not started, or has not said so yet."""
    failures: Mapping[int, Failure] = attrs.field(factory=dict)
    """By process id, of processes whose end we have not noticed yet."""
    is_unexplained: bool = False
    """True if an end was shown and the supervisor has not said how it came."""


def begin(connectors: Iterable[str], own_pid: int, *, supervised: bool) -> Life:
    """Return what is known at first: nothing, so every connector is shown as `Connecting`."""
    return Life(own_pid, supervised, {name: Connecting() for name in connectors})


def has_gateway(life: Life, connector: str) -> bool:
    """Return whether a gateway has reported this connector, and is not known to have ended."""
    identity = life.present.get(connector)
    return identity is not None and identity not in life.dead


def step(life: Life, event: Event) -> tuple[Life, list[Action]]:
    """Return what is known after an event, and what to do, in order."""
    match event:
        case Reported():
            return _reported(life, event)
        case Started(pid):
            return attrs.evolve(life, started=pid, early={}), [TakeAgain(report) for report in life.early.values()]
        case Failed(pid, failure):
            return _failed(life, pid, failure)
        case Ended(identity):
            return _ended(life, identity)
        case Overdue(identity):
            return _conclude(life, identity) if identity in life.ending else (life, [])
        case TaskFailed(identity, failure, crash):
            return _show_failure(_mark_dead(life, identity), failure, crash)


def _reported(life: Life, report: Reported) -> tuple[Life, list[Action]]:
    identity, name = report.identity, report.connector
    is_ours = identity.pid == life.own_pid
    if identity in life.dead:
        return life, []  # what a dead gateway had said is no news
    if life.supervised and life.started != identity.pid:
        return attrs.evolve(life, early={**life.early, name: report}), []
    actions: list[Action] = []
    if identity != life.present.get(name):
        if not is_ours and not report.is_alive:
            return _mark_dead(life, identity), []  # it ended before we came
        life = attrs.evolve(life, present={**life.present, name: identity})
    if not is_ours and identity not in life.watched:
        evicted = life.watched[: max(0, len(life.watched) + 1 - _WATCHED)]
        actions += [Unwatch(other) for other in evicted]
        for other in evicted:
            life = _forget(life, other)
        life = attrs.evolve(life, watched=(*life.watched, identity))
        actions.append(Watch(identity))
    if isinstance(life.shown[name], Down) and isinstance(report.health, Up | Degraded):
        # It was connecting in between, when nobody here listened.
        actions.append(Show(name, Connecting()))
    actions.append(Show(name, report.health, report.cause))
    return _with_shown(life, actions), actions


def _failed(life: Life, pid: int, failure: Failure) -> tuple[Life, list[Action]]:
    if all(identity.pid != pid for identity in life.watched):
        # It did not live to report to us, or we have shown its end already.
        return _show_failure(life, failure, None)
    life = attrs.evolve(life, failures={**life.failures, pid: failure})
    for identity in life.ending:
        if identity.pid == pid:
            return _conclude(life, identity)
    return life, []


def _ended(life: Life, identity: GatewayIdentity) -> tuple[Life, list[Action]]:
    life = _mark_dead(life, identity)
    if identity not in life.watched:
        return life, []
    if life.supervised and identity.pid not in life.failures:
        return attrs.evolve(life, ending=(*life.ending, identity)), [AwaitFailed(identity)]
    return _conclude(life, identity)


def _conclude(life: Life, identity: GatewayIdentity) -> tuple[Life, list[Action]]:
    failure = life.failures.get(identity.pid)
    life = _forget(life, identity)
    if failure is not None:
        return _show_failure(life, failure, None)
    reason = f"the gateway process (pid {identity.pid}) ended"
    # Where it is Down already, the last report of the gateway itself says more.
    actions: list[Action] = [
        Show(name, Down(reason), reason) for name, health in life.shown.items() if not isinstance(health, Down)
    ]
    return attrs.evolve(_with_shown(life, actions), is_unexplained=True), actions


def _show_failure(life: Life, failure: Failure, crash: Exception | None) -> tuple[Life, list[Action]]:
    ended_by_itself = failure.kind in ("exit", "exception") and not failure.gave_up
    actions: list[Action] = []
    for name, health in life.shown.items():
        said_why = isinstance(health, Down) and health.failure is None and not life.is_unexplained
        if isinstance(health, Down) and said_why and ended_by_itself:
            after = attrs.evolve(health, failure=failure)  # its own last report was the event already
        else:
            after = Down(f"the gateway's {failure}", failure=failure)
        actions.append(Show(name, after, crash or str(failure)))
    return attrs.evolve(_with_shown(life, actions), is_unexplained=False), actions


def _mark_dead(life: Life, identity: GatewayIdentity) -> Life:
    return attrs.evolve(life, dead=(*life.dead, identity)[-_DEAD:])


def _forget(life: Life, identity: GatewayIdentity) -> Life:
    """Watch it no longer, and expect nothing more about it."""
    return attrs.evolve(
        life,
        watched=tuple(other for other in life.watched if other != identity),
        ending=tuple(other for other in life.ending if other != identity),
        failures={pid: failure for pid, failure in life.failures.items() if pid != identity.pid},
    )


def _with_shown(life: Life, actions: Iterable[Action]) -> Life:
    shown = dict(life.shown)
    for action in actions:
        if isinstance(action, Show):
            before, after = shown[action.connector], action.health
            if isinstance(before, Down) and isinstance(after, Down) and before == after:
                after = attrs.evolve(before, failure=after.failure or before.failure)
            shown[action.connector] = after
    return attrs.evolve(life, shown=shown)
