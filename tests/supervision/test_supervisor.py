"""Exact times, on the virtual clock; what holds for tasks and processes alike is in test_conformance."""

from __future__ import annotations

import logging
from collections.abc import Callable

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked
from trio_util import RepeatedEvent

from taktora_trio import Backoff, RestartPolicy
from taktora_trio.errors import Escalated
from taktora_trio.health import Failure
from taktora_trio.supervision.supervisor import Exit, Runner, Supervisor
from taktora_trio.supervision.task import as_task

BACKOFF = Backoff(initial=1, maximum=4, factor=2, jitter=0)
POLICY = RestartPolicy(backoff=BACKOFF, intensity=3, period=30)


@attrs.define
class Recorded:
    """Runs for a second, then raises the next of `endings`, or returns; after the last, runs until `stop` is set."""

    endings: list[BaseException | None]
    stop: trio.Event = attrs.field(factory=trio.Event)
    starts: list[tuple[int, float]] = attrs.field(factory=list)
    failures: list[tuple[float, Failure, Exit]] = attrs.field(factory=list)

    async def run(self, incarnation: int) -> None:
        self.starts.append((incarnation, trio.current_time()))
        if len(self.starts) > len(self.endings):
            await self.stop.wait()
            return
        await trio.sleep(1)
        ending = self.endings[incarnation - 1]
        if ending is not None:
            raise ending

    def supervisor(
        self, policy: RestartPolicy = POLICY, *, revivable: bool = True, runner: Runner | None = None
    ) -> Supervisor:
        return Supervisor(
            "worker",
            runner or as_task(self.run),
            policy,
            stop=self.stop,
            on_failure=lambda failure, exit_: self.failures.append((trio.current_time(), failure, exit_)),
            revivable=revivable,
        )


def messages(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    return [(record.levelno, record.getMessage()) for record in caplog.records]


async def test_a_crash_is_told_logged_and_started_again(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = ValueError("first"), ExceptionGroup("g", [OSError("second"), KeyError("third")])
    task = Recorded([first, second])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(task.supervisor().run)
        await trio.sleep(100)
        task.stop.set()
    assert task.starts == [(1, 0.0), (2, 2.0), (3, 5.0)]
    assert [(at, exit_.exception) for at, _, exit_ in task.failures] == [(1.0, first), (3.0, second)]
    assert [(f.kind, f.uptime, f.delay, f.attempts_left) for _, f, _ in task.failures] == [
        ("exception", 1.0, 1, 2),
        ("exception", 1.0, 2, 1),
    ]
    assert messages(caplog) == [
        (logging.ERROR, "worker: crashed (ValueError: first), starts again in 1.00 s, 2 more after that"),
        (
            logging.ERROR,
            "worker: crashed (OSError: second; KeyError: 'third'), starts again in 2.00 s, 1 more after that",
        ),
    ]
    assert [record.exc_info and record.exc_info[1] for record in caplog.records] == [first, second]


async def test_a_return_that_was_not_wanted_is_a_warning_without_a_traceback(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    task = Recorded([None])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(task.supervisor(attrs.evolve(POLICY, restart="always")).run)
        await trio.sleep(50)
        task.stop.set()
    assert task.starts == [(1, 0.0), (2, 2.0)]
    assert messages(caplog) == [
        (logging.WARNING, "worker: ended (it returned), starts again in 1.00 s, 2 more after that")
    ]
    assert caplog.records[0].exc_info is None


async def test_how_often_it_may_still_end_is_not_counted_where_that_is_for_ever(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    task = Recorded([None])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(task.supervisor(attrs.evolve(POLICY, restart="always", intensity=1_000_000)).run)
        await trio.sleep(50)
        task.stop.set()
    [(_, line)] = messages(caplog)
    assert line == "worker: ended (it returned), starts again in 1.00 s, however often it ends"


async def test_given_up_it_waits_to_be_revived_for_as_long_as_it_takes(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    task = Recorded([OSError(str(number)) for number in range(4)])
    supervisor = task.supervisor(attrs.evolve(POLICY, intensity=1))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run)
        for starts in (2, 4):
            await trio.sleep(5e4)
            assert len(task.starts) == starts
            assert supervisor.state.phase == "given-up"
            assert supervisor.revive()
        await trio.sleep(5e4)
        task.stop.set()
    assert task.starts == [(1, 0.0), (2, 2.0), (3, 5e4), (4, 5e4 + 2), (5, 1e5)]
    reason = "it ended 2 times within 30 s of uptime"
    assert [(f.delay, f.attempts_left, f.gave_up) for _, f, _ in task.failures] == [(1, 0, ""), (None, 0, reason)] * 2
    assert messages(caplog)[1] == (
        logging.CRITICAL,
        "worker: given up (OSError: 1): it ended 2 times within 30 s of uptime",
    )


async def test_what_is_not_revivable_returns_when_it_is_given_up(autojump_clock: MockClock) -> None:
    error = OSError()
    task = Recorded([error])
    supervisor = task.supervisor(attrs.evolve(POLICY, intensity=0), revivable=False)
    exit_ = await supervisor.run()
    assert exit_ is not None
    assert exit_.exception is error
    assert exit_ is supervisor.last_exit
    assert not supervisor.revive()
    assert supervisor.state.phase == "given-up"


async def test_the_end_of_standard_error_is_in_the_log_when_it_is_given_up(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def runner(incarnation: int, ready: Callable[[], None]) -> Exit:
        await trio.lowlevel.checkpoint()
        return Exit("exit", "exit code 3", failed=True, stderr_tail=("one", "two"), returncode=3)

    task = Recorded([])
    await task.supervisor(attrs.evolve(POLICY, intensity=0), revivable=False, runner=runner).run()
    ((_, text),) = messages(caplog)
    assert text.endswith("; the end of its standard error:\n    one\n    two")
    assert task.failures[0][1].stderr_tail == ("one", "two")
    assert task.failures[0][1].uptime == 0  # it was never ready


async def test_escalation_names_the_cause(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    task = Recorded([OSError("disk")])
    with pytest.raises(Escalated, match=r"all ends with it: OSError: disk; it ended once within 30 s of uptime$"):
        await task.supervisor(attrs.evolve(POLICY, intensity=0, on_exhausted="escalate")).run()
    assert len(task.failures) == 1
    assert [level for level, _ in messages(caplog)] == [logging.CRITICAL]


async def test_the_last_attempt_is_announced_as_such(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    task = Recorded([OSError("disk"), OSError("disk")])
    await task.supervisor(attrs.evolve(POLICY, intensity=1), revivable=False).run()
    text = "worker: crashed (OSError: disk), starts again in 1.00 s, for the last time"
    assert messages(caplog)[0] == (logging.ERROR, text)


async def test_the_backoff_starts_over_after_a_run_of_a_period(autojump_clock: MockClock) -> None:
    starts: list[float] = []
    lasting = iter([0, 0, 29, 30, 0])

    async def run(incarnation: int) -> None:
        starts.append(trio.current_time())
        await trio.sleep(next(lasting, 1e6))
        raise OSError

    with trio.move_on_after(200):
        await Supervisor("worker", as_task(run), attrs.evolve(POLICY, intensity=9)).run()
    assert starts == [0, 1, 3, 36, 67, 69]  # delays of 1, 2, 4, 1, 2


async def test_only_uptime_counts_as_time(autojump_clock: MockClock) -> None:
    # Starting and waiting take longer than the period, each time.
    async def runner(incarnation: int, ready: Callable[[], None]) -> Exit:
        await trio.sleep(100)
        ready()
        return Exit("exit", "exit code 1", failed=True)

    supervisor = Supervisor("worker", runner, POLICY, revivable=False)
    await supervisor.run()
    assert supervisor.state.incarnation == 4
    assert trio.current_time() == 4 * 100 + 1 + 2 + 4


@pytest.mark.parametrize(
    ("at", "ended_at", "failures"),
    [
        (0.5, 1.0, 0),  # while it runs: its end is awaited, and a crash is no news
        (1.5, 1.5, 1),  # during the delay: at once
    ],
)
async def test_told_to_stop_it_starts_nothing_again(
    at: float, ended_at: float, failures: int, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    error = OSError()
    task = Recorded([error, OSError()])
    supervisor = task.supervisor(attrs.evolve(POLICY, restart="always", on_exhausted="escalate", intensity=1))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run)
        await trio.sleep(at)
        task.stop.set()
    assert trio.current_time() == ended_at
    assert task.starts == [(1, 0.0)]
    assert len(task.failures) == failures
    assert supervisor.state.phase == "ended"
    # Once, whether it was wanted or not.
    ((level, text),) = messages(caplog)
    assert level == logging.ERROR
    assert text.startswith("worker: crashed while stopping" if failures == 0 else "worker: crashed (OSError)")
    info = caplog.records[0].exc_info
    assert info is not None
    assert info[1] is error


async def test_told_to_stop_while_given_up_it_ends_at_once(autojump_clock: MockClock) -> None:
    task = Recorded([OSError()])
    supervisor = task.supervisor(attrs.evolve(POLICY, intensity=0))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run)
        await trio.sleep(5)
        task.stop.set()
    assert trio.current_time() == 5
    assert not supervisor.revive()
    assert len(task.starts) == 1


@pytest.mark.parametrize("at", [0.5, 1.5, 10])
async def test_cancellation_is_no_failure(at: float, autojump_clock: MockClock) -> None:
    task = Recorded([OSError(), OSError()])
    with trio.move_on_after(at) as scope:
        await task.supervisor(attrs.evolve(POLICY, intensity=1)).run()
    assert scope.cancelled_caught
    assert trio.current_time() == at
    assert len(task.failures) == {0.5: 0, 1.5: 1, 10: 2}[at]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), BaseExceptionGroup("g", [KeyboardInterrupt()])])
async def test_what_is_nobodys_crash_ends_it_untold(error: BaseException, autojump_clock: MockClock) -> None:
    task = Recorded([error])
    with pytest.raises(type(error)) as caught:
        await task.supervisor().run()
    assert caught.value is error
    assert task.failures == []


async def test_the_bell_revives_what_is_given_up_and_nothing_else(autojump_clock: MockClock) -> None:
    bell = RepeatedEvent()
    task = Recorded([OSError(), OSError()])
    supervisor = task.supervisor(attrs.evolve(POLICY, intensity=0))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run)
        nursery.start_soon(supervisor.revive_at, bell)
        for at in (0.5, 2, 2.5, 4, 9):  # while it runs, given up, runs, given up, runs
            await trio.sleep_until(at)
            bell.set()
        await trio.sleep_until(20)
        task.stop.set()  # ends both
    assert trio.current_time() == 20
    assert task.starts == [(1, 0.0), (2, 2.0), (3, 4.0)]


async def test_an_end_is_told_before_its_runner_has_tidied_up_and_followed_up_after(autojump_clock: MockClock) -> None:
    """The failure is told once, and the delay begins when the runner returns."""
    starts = list[float]()

    async def runner(incarnation: int, ready: Callable[[], None]) -> Exit:
        starts.append(trio.current_time())
        ready()
        await trio.sleep(1)
        exit_ = Exit("exit", "exit code 1", failed=True)
        if incarnation == 1:
            supervisor.ended(exit_)
        await trio.sleep(5)  # tidies up
        return exit_

    recorded = Recorded([])
    supervisor = recorded.supervisor(runner=runner)
    with trio.move_on_after(14):
        await supervisor.run()
    assert [(at, failure.uptime, failure.delay) for at, failure, _ in recorded.failures] == [(1, 1, 1), (13, 6, 2)]
    assert starts == [0, 7]


async def test_an_end_after_a_stop_is_no_failure_though_it_is_told_early(autojump_clock: MockClock) -> None:
    async def runner(incarnation: int, ready: Callable[[], None]) -> Exit:
        ready()
        await recorded.stop.wait()
        exit_ = Exit("signal", "killed by SIGTERM", failed=True)
        supervisor.ended(exit_)
        return exit_

    recorded = Recorded([])
    supervisor = recorded.supervisor(runner=runner)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run)
        await trio.sleep(1)
        recorded.stop.set()
    assert recorded.failures == []
    assert supervisor.state.phase == "ended"


async def test_its_state_can_be_seen() -> None:
    task = Recorded([])
    supervisor = task.supervisor()
    assert repr(supervisor) == "<Supervisor of worker: idle, incarnation 0>"
    assert supervisor.last_exit is None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run)
        await wait_all_tasks_blocked()
        assert repr(supervisor) == "<Supervisor of worker: up, incarnation 1>"
        task.stop.set()
    assert supervisor.state.phase == "ended"
    assert supervisor.last_exit == Exit("exit", "it returned", failed=False)


async def test_one_that_was_given_up_and_still_tidies_up_is_replaced_on_trial(autojump_clock: MockClock) -> None:
    is_over = Exit("exit", "it can't work", failed=True, permanent=True)

    async def tidying(incarnation: int, ready: Callable[[], None]) -> Exit:
        supervisor.ended(is_over)
        await trio.sleep(5)
        return is_over

    async def another(incarnation: int, ready: Callable[[], None]) -> Exit:
        ready()
        await trio.sleep_forever()
        raise AssertionError

    async def works() -> bool:
        await trio.sleep(10)
        return supervisor.state.phase == "up"

    supervisor = Supervisor("worker", tidying, POLICY)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run)
        await wait_all_tasks_blocked()
        assert supervisor.is_given_up
        assert await supervisor.replace_on_trial(another, works, 20)
        nursery.cancel_scope.cancel()


async def test_what_is_held_stays_so_until_it_is_released_and_then_has_its_whole_budget(
    autojump_clock: MockClock,
) -> None:
    recorded = Recorded([ValueError(), ValueError()])
    supervisor = recorded.supervisor()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run)
        await trio.sleep(1.5)  # it waits to start again
        await supervisor.hold()
        await trio.sleep(100)
        assert (supervisor.is_held, len(recorded.starts)) == (True, 1)
        assert not supervisor.revive()
        await wait_all_tasks_blocked()
        assert supervisor.is_held, "an app that revives it at each Down must not undo a stop"
        assert supervisor.release()
        assert not supervisor.release()
        await supervisor.wait_for("up")
        assert recorded.starts == [(1, 0), (2, 101.5)]
        await trio.sleep(5)
        assert recorded.starts[-1] == (3, 103.5), "after the first delay"
        recorded.failures.clear()
        await supervisor.hold()  # what runs
        [(_, failure, _)] = recorded.failures
        assert failure.description == "it was stopped by an operator"
        assert str(failure).endswith("it was stopped by an operator; `taktora-trio start` starts it again")
        assert failure.next_attempt is None
        assert failure.uptime == 3.0
        await supervisor.restart()
        await supervisor.wait_for("up")
        assert len(recorded.starts) == 4
        await supervisor.hold()
        recorded.stop.set()  # and a run ends while it is held


async def test_a_revival_starts_at_once_what_waits_to_start_again(autojump_clock: MockClock) -> None:
    recorded = Recorded([ValueError()])
    supervisor = recorded.supervisor()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run)
        await trio.sleep(1.25)
        assert not supervisor.revive(), "it was not given up"
        await supervisor.wait_for("up")
        assert recorded.starts == [(1, 0), (2, 1.25)]
        recorded.stop.set()
