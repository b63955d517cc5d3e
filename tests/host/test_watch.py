"""What is known of a gateway's life, and what is shown of it: a table of stories, and what holds in any order."""

from __future__ import annotations

from collections.abc import Iterable

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taktora_trio.health import (
    Connecting,
    ConnectorHealth,
    Degraded,
    Down,
    Failure,
    FailureKind,
    HealthBoard,
    Up,
)
from taktora_trio.host.watch import (
    Action,
    AwaitFailed,
    Ended,
    Event,
    Failed,
    Life,
    Overdue,
    Reported,
    Show,
    Started,
    TakeAgain,
    TaskFailed,
    Unwatch,
    Watch,
    begin,
    has_gateway,
    step,
)
from taktora_trio.transport.health import GatewayIdentity

OWN = 1
FIRST, SECOND = GatewayIdentity(100, 7, 1), GatewayIdentity(200, 8, 2)
TASK, NEXT_TASK = GatewayIdentity(OWN, 6, 1), GatewayIdentity(OWN, 6, 2)


def failure(kind: FailureKind = "signal", gave_up: str = "") -> Failure:
    return Failure(
        kind=kind,
        description=kind,
        incarnation=1,
        uptime=1.0,
        at=0.0,
        delay=None if gave_up else 0.1,
        attempts_left=1,
        gave_up=gave_up,
    )


def report(identity: GatewayIdentity, health: ConnectorHealth, *, connector: str = "c", alive: bool = True) -> Reported:
    return Reported(connector, identity, health, is_alive=alive)


def tell(life: Life, events: Iterable[Event]) -> tuple[Life, list[Action]]:
    """What has become of a life after these events, and all that was done, as the host does it."""
    done: list[Action] = []
    for event in events:
        life, actions = step(life, event)
        for action in actions:
            if isinstance(action, TakeAgain):
                life, again = tell(life, [action.report])
                done += again
            else:
                done.append(action)
    return life, done


def in_words(action: Action) -> str:
    match action:
        case Show(health=health):
            failed = f" [{health.failure.kind}]" if isinstance(health, Down) and health.failure else ""
            return f"{health}{failed}"
        case Watch(identity) | Unwatch(identity) | AwaitFailed(identity):
            return f"{type(action).__name__} {identity.pid}"
        case _:
            return type(action).__name__


SIGNAL, EXIT, GIVEN_UP = failure("signal"), failure("exit"), failure("exit", gave_up="enough")
ENDED = "Down (the gateway process (pid 100) ended)"
KILLED = f"Down (the gateway's {SIGNAL}) [signal]"
CRASHED = Down("the gateway crashed: bad")
COMES = ["Watch 100", "Connecting", "Up"]
UP_FIRST = [report(FIRST, Connecting()), report(FIRST, Up())]
UP_SECOND = [report(SECOND, Connecting()), report(SECOND, Up())]

ALONE: dict[str, tuple[list[Event], list[str]]] = {
    "it comes and is connected": ([*UP_FIRST], COMES),
    "it is killed": ([*UP_FIRST, Ended(FIRST)], [*COMES, ENDED]),
    "its own last words say more than its end": (
        [*UP_FIRST, report(FIRST, CRASHED), Ended(FIRST)],
        [*COMES, str(CRASHED)],
    ),
    "what it had said is no news behind its end": ([*UP_FIRST, Ended(FIRST), report(FIRST, Up())], [*COMES, ENDED]),
    "it had ended before we came": ([report(FIRST, Up(), alive=False), report(FIRST, Up())], []),
    "the next one comes": (
        [*UP_FIRST, Ended(FIRST), *UP_SECOND],
        [*COMES, ENDED, "Watch 200", "Connecting", "Up"],
    ),
    "the next one is connected before we hear of it: the way back leads through Connecting": (
        [*UP_FIRST, Ended(FIRST), report(SECOND, Degraded("full"))],
        [*COMES, ENDED, "Watch 200", "Connecting", "Degraded (full)"],
    ),
    "the next one comes before we hear of the first one's end": (
        [*UP_FIRST, *UP_SECOND, Ended(FIRST)],
        [*COMES, "Watch 200", "Connecting", "Up", ENDED],
    ),
    "a task of this process is not watched": (
        [report(TASK, Connecting()), report(TASK, Up())],
        ["Connecting", "Up"],
    ),
    "a task fails": (
        [report(TASK, Up()), TaskFailed(TASK, failure("exception"))],
        ["Up", f"Down (the gateway's {failure('exception')}) [exception]"],
    ),
    "what a task had said is no news behind its failure": (
        [TaskFailed(TASK, SIGNAL), report(TASK, Up())],
        [KILLED],
    ),
    "a task's own last words stay": (
        [report(TASK, CRASHED), TaskFailed(TASK, failure("exception"))],
        [str(CRASHED), f"{CRASHED} [exception]"],
    ),
    "the next task says the same": (
        [report(TASK, CRASHED), TaskFailed(TASK, EXIT), report(NEXT_TASK, CRASHED), TaskFailed(NEXT_TASK, EXIT)],
        [str(CRASHED), f"{CRASHED} [exit]", str(CRASHED), f"Down (the gateway's {EXIT}) [exit]"],
    ),
    "a task is given up": (
        [report(TASK, CRASHED), TaskFailed(TASK, GIVEN_UP)],
        [str(CRASHED), f"Down (the gateway's {GIVEN_UP}) [exit]"],
    ),
}

SUPERVISED: dict[str, tuple[list[Event], list[str]]] = {
    "one that the supervisor has not started is not believed": ([*UP_FIRST], []),
    "it was faster than the supervisor's word": ([*UP_FIRST, Started(100)], ["Watch 100", "Up"]),
    "another than the one that was started": ([Started(200), *UP_FIRST], []),
    "its end is first seen, then explained": (
        [Started(100), *UP_FIRST, Ended(FIRST), Failed(100, SIGNAL)],
        [*COMES, "AwaitFailed 100", KILLED],
    ),
    "its end is first explained, then seen": (
        [Started(100), *UP_FIRST, Failed(100, SIGNAL), Ended(FIRST)],
        [*COMES, KILLED],
    ),
    "its end is explained too late": (
        [Started(100), *UP_FIRST, Ended(FIRST), Overdue(FIRST), Failed(100, SIGNAL)],
        [*COMES, "AwaitFailed 100", ENDED, KILLED],
    ),
    "what it ended with is not what it said itself, when that is told too late": (
        [Started(100), *UP_FIRST, Ended(FIRST), Overdue(FIRST), Failed(100, EXIT)],
        [*COMES, "AwaitFailed 100", ENDED, f"Down (the gateway's {EXIT}) [exit]"],
    ),
    "nothing is overdue before its end": ([Started(100), *UP_FIRST, Overdue(FIRST)], COMES),
    "what came early is taken once": (
        [report(FIRST, Up()), Started(100), Started(100)],
        ["Watch 100", "Up"],
    ),
    "its end is never explained": (
        [Started(100), *UP_FIRST, Ended(FIRST), Overdue(FIRST)],
        [*COMES, "AwaitFailed 100", ENDED],
    ),
    "what is overdue was explained meanwhile": (
        [Started(100), *UP_FIRST, Ended(FIRST), Failed(100, SIGNAL), Overdue(FIRST)],
        [*COMES, "AwaitFailed 100", KILLED],
    ),
    "it did not live to report": ([Started(100), Failed(100, SIGNAL)], [KILLED]),
    "it reported, and we read that when it was dead": (
        [Started(100), Failed(100, SIGNAL), report(FIRST, Connecting(), alive=False)],
        [KILLED],
    ),
    "its own last words stay, with how it ended": (
        [Started(100), *UP_FIRST, report(FIRST, CRASHED), Failed(100, EXIT), Ended(FIRST)],
        [*COMES, str(CRASHED), f"{CRASHED} [exit]"],
    ),
    "a signal says more than last words": (
        [Started(100), *UP_FIRST, report(FIRST, CRASHED), Failed(100, SIGNAL), Ended(FIRST)],
        [*COMES, str(CRASHED), KILLED],
    ),
    "it is given up": (
        [Started(100), *UP_FIRST, report(FIRST, CRASHED), Failed(100, GIVEN_UP), Ended(FIRST)],
        [*COMES, str(CRASHED), f"Down (the gateway's {GIVEN_UP}) [exit]"],
    ),
    "the next one comes while the supervisor's word is awaited": (
        [Started(100), *UP_FIRST, Ended(FIRST), Started(200), *UP_SECOND, Overdue(FIRST)],
        [*COMES, "AwaitFailed 100", "Watch 200", "Connecting", "Up", ENDED],
    ),
}


@pytest.mark.parametrize(("events", "expected"), ALONE.values(), ids=ALONE)
def test_alone(events: list[Event], expected: list[str]) -> None:
    _, done = tell(begin(["c"], OWN, supervised=False), events)
    assert list(map(in_words, done)) == expected


@pytest.mark.parametrize(("events", "expected"), SUPERVISED.values(), ids=SUPERVISED)
def test_supervised(events: list[Event], expected: list[str]) -> None:
    _, done = tell(begin(["c"], OWN, supervised=True), events)
    assert list(map(in_words, done)) == expected


def test_one_gateway_of_several_connectors_comes_to_each_and_is_watched_once() -> None:
    life = begin(["a", "b"], OWN, supervised=False)
    life, done = tell(life, [report(FIRST, Up(), connector="a"), report(FIRST, Up(), connector="b")])
    assert list(map(in_words, done)) == ["Watch 100", "Up", "Up"]
    assert has_gateway(life, "a")
    assert has_gateway(life, "b")
    life, done = tell(life, [Ended(FIRST)])
    assert [action.connector for action in done if isinstance(action, Show)] == ["a", "b"]
    assert not has_gateway(life, "a")
    assert not has_gateway(life, "b")


def test_four_are_watched_at_most_the_newest() -> None:
    others = [GatewayIdentity(300, 9, incarnation) for incarnation in range(50)]
    life, done = tell(begin(["c"], OWN, supervised=False), [report(other, Up()) for other in others])
    assert life.watched == tuple(others[-4:])
    assert [action.identity for action in done if isinstance(action, Unwatch)] == others[:-4]
    life, _ = tell(life, [Ended(other) for other in others] * 2)
    assert len(life.dead) == 64


def test_the_cause_of_a_failed_task_is_its_exception() -> None:
    crash = ValueError("bad")
    _, [shown] = tell(begin(["c"], OWN, supervised=False), [TaskFailed(TASK, SIGNAL, crash)])
    assert isinstance(shown, Show)
    assert shown.cause is crash


# Orders


@st.composite
def _merged(draw: st.DrawFn, *threads: list[Event]) -> list[Event]:
    """These lists in any order that keeps each list's own."""
    left = [list(thread) for thread in threads]
    merged = []
    while any(left):
        thread = draw(st.sampled_from([index for index, events in enumerate(left) if events]))
        merged.append(left[thread].pop(0))
    return merged


REPORTS = [report(FIRST, health, connector=connector) for health in (Connecting(), Up()) for connector in ("a", "b")]


@given(_merged([*REPORTS, Ended(FIRST), Overdue(FIRST)], [Started(100), Failed(100, SIGNAL)]))
def test_in_whatever_order_its_end_and_the_supervisors_word_come_the_same_is_known_and_shown(
    events: list[Event],
) -> None:
    told = next(index for index, event in enumerate(events) if isinstance(event, Failed))
    # As it is: the supervisor speaks of an end when that has come, so nobody finds the process alive behind it.
    events = [
        attrs.evolve(event, is_alive=index < told) if isinstance(event, Reported) else event
        for index, event in enumerate(events)
    ]
    life, done = tell(begin(["a", "b"], OWN, supervised=True), events)
    assert life.shown == {name: Down(f"the gateway's {SIGNAL}") for name in ("a", "b")}
    assert all(isinstance(health, Down) and health.failure == SIGNAL for health in life.shown.values())
    assert (life.watched, life.ending, dict(life.failures)) == ((), (), {})
    assert not has_gateway(life, "a")
    shown = [action.health for action in done if isinstance(action, Show) and action.connector == "a"]
    assert sum(isinstance(health, Down) and health.failure is not None for health in shown) == 1


_identities = st.builds(GatewayIdentity, st.sampled_from([OWN, 100, 200]), st.just(7), st.integers(1, 6))
_failures = st.sampled_from([SIGNAL, EXIT, GIVEN_UP])
_healths = st.sampled_from([Up(), Connecting(0.0), Degraded("full"), Down("refused", 0.0), CRASHED])
_events = st.one_of(
    st.builds(Reported, st.sampled_from(["a", "b"]), _identities, _healths, st.none(), st.booleans()),
    st.builds(Started, st.sampled_from([100, 200])),
    st.builds(Failed, st.sampled_from([100, 200]), _failures),
    st.builds(Ended, _identities),
    st.builds(Overdue, _identities),
    st.builds(TaskFailed, _identities, _failures),
)


@given(st.booleans(), st.lists(_events, max_size=40))
def test_whatever_comes_each_transition_is_legal_and_what_is_kept_is_bounded(
    supervised: bool, events: list[Event]
) -> None:
    board = HealthBoard(["a", "b"])  # a strict one, in tests: an illegal transition raises
    life = begin(["a", "b"], OWN, supervised=supervised)
    watched: list[GatewayIdentity] = []
    for event in events:
        life, done = tell(life, [event])
        for action in done:
            match action:
                case Show(connector, health, cause):
                    board.report(connector, health, cause)
                case Watch(identity):
                    watched.append(identity)
                case Unwatch(identity):
                    watched.remove(identity)
                case AwaitFailed(identity):
                    assert identity in life.ending
        watched = [identity for identity in watched if identity in life.watched]
        assert tuple(watched) == life.watched
        assert set(life.ending) <= set(life.watched)
        assert {identity.pid for identity in life.watched} >= set(life.failures)
        assert len(life.watched) <= 4
        assert board.states() == life.shown
        assert [getattr(health, "failure", None) for health in board.states().values()] == [
            getattr(health, "failure", None) for health in life.shown.values()
        ]
