"""The contract of what is supervised (it is written down in `rigs.Rig`), for each kind of thing."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence

import attrs
import psutil
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from taktora_trio import Backoff, RestartPolicy
from taktora_trio.errors import Escalated
from taktora_trio.health import Failure
from tests.processes.children import BACKOFF, LONG, POLICY
from tests.supervision.rigs import Act, ProcessRig, Rig, TaskRig

NEVER_AGAIN = Backoff(initial=3600, maximum=3600, jitter=0)  # within a test


@pytest.fixture(params=[TaskRig, ProcessRig], ids=["task", "process"])
def rig(request: pytest.FixtureRequest) -> Rig:
    made = request.param()
    assert isinstance(made, Rig)
    return made


async def run(rig: Rig, acts: Sequence[Act], policy: RestartPolicy = POLICY) -> tuple[str, str] | None:
    """Supervise to the end; the kind and description of the last one's."""
    with trio.fail_after(LONG):
        exit_ = await rig.supervise(acts, policy).run()
    assert rig.running == 0
    assert exit_ is rig.supervisor.last_exit
    return None if exit_ is None else (exit_.kind, exit_.description)


def record(rig: Rig) -> list[tuple[int, float | None, int, str]]:
    """Record of each failure: incarnation, delay, attempts left, and why it was given up."""
    return [(f.incarnation, f.delay, f.attempts_left, f.gave_up) for f in rig.failures]


async def test_a_crash_is_started_again_and_a_success_is_the_end(rig: Rig) -> None:
    assert await run(rig, ["crash", "return"]) == ("exit", rig.return_description)
    assert rig.started == [1, 2]
    assert record(rig) == [(1, 0.01, 9, "")]
    assert rig.supervisor.state.phase == "ended"


async def test_on_failure_a_success_is_the_end_and_no_failure(rig: Rig) -> None:
    assert await run(rig, ["return"]) == ("exit", rig.return_description)
    assert rig.started == [1]
    assert rig.failures == []


async def test_always_starts_a_success_again(rig: Rig) -> None:
    policy = attrs.evolve(POLICY, restart="always", intensity=2)
    assert await run(rig, ["return", "return", "return"], policy) == ("exit", rig.return_description)
    assert rig.started == [1, 2, 3]
    assert record(rig) == [(1, 0.01, 1, ""), (2, 0.02, 0, ""), (3, None, 0, "it ended 3 times within 300 s of uptime")]
    assert {(f.kind, f.description) for f in rig.failures} == {("exit", rig.return_description)}


@pytest.mark.parametrize("act", ["crash", "crash early"])
async def test_never_starts_nothing_again(rig: Rig, act: Act) -> None:
    policy = attrs.evolve(POLICY, restart="never", on_exhausted="escalate")
    assert await run(rig, [act], policy) is not None
    assert rig.started == [1]
    assert record(rig) == [(1, None, 0, "its policy is never to restart it")]


async def test_never_and_a_success(rig: Rig) -> None:
    assert await run(rig, ["return"], attrs.evolve(POLICY, restart="never"))
    assert rig.failures == []


@pytest.mark.parametrize("act", ["crash", "crash early"])
async def test_given_up_beyond_the_intensity(rig: Rig, act: Act, caplog: pytest.LogCaptureFixture) -> None:
    policy = attrs.evolve(POLICY, intensity=2)
    assert await run(rig, [act] * 3, policy) is not None
    reason = "it ended 3 times within 300 s of uptime"
    assert record(rig) == [(1, 0.01, 1, ""), (2, 0.02, 0, ""), (3, None, 0, reason)]
    assert rig.supervisor.state.phase == "given-up"
    critical = [r.getMessage() for r in caplog.records if r.levelno == logging.CRITICAL]
    assert len(critical) == 1
    assert critical[0].startswith(f"thing: given up ({rig.failures[-1].description}): {reason}")


async def test_intensity_0_gives_up_at_once(rig: Rig) -> None:
    assert await run(rig, ["crash"], attrs.evolve(POLICY, intensity=0)) is not None
    assert record(rig) == [(1, None, 0, "it ended once within 300 s of uptime")]


async def test_the_delays_are_those_of_the_backoff_and_are_kept(rig: Rig) -> None:
    started = trio.current_time()
    await run(rig, ["crash", "crash early", "crash", "crash", "return"])
    assert [f.delay for f in rig.failures] == [0.01, 0.02, 0.04, 0.04]
    assert trio.current_time() - started >= 0.11
    times = [f.at for f in rig.failures]
    assert times == sorted(times)


async def test_a_failure_says_how_it_was_and_what_comes(rig: Rig) -> None:
    await run(rig, ["crash", "return"], attrs.evolve(POLICY, intensity=1))
    (failure,) = rig.failures
    assert failure.kind == rig.crash_kind
    assert failure.description == rig.crash_description
    assert failure.incarnation == 1
    assert failure.uptime >= 0
    assert failure.next_attempt == failure.at + 0.01
    assert failure.attempts_left == 0
    assert failure.gave_up == ""


async def test_it_is_told_at_once_and_before_the_delay(rig: Rig) -> None:
    policy = attrs.evolve(POLICY, backoff=NEVER_AGAIN)
    with trio.fail_after(LONG), trio.CancelScope() as scope:
        await rig.supervise(["crash"], policy, on_failure=lambda failure: scope.cancel()).run()
    assert scope.cancelled_caught
    assert record(rig) == [(1, 3600, 9, "")]
    assert rig.supervisor.state.phase == "waiting"
    assert rig.running == 0


async def test_escalation_raises_and_is_told(rig: Rig) -> None:
    policy = attrs.evolve(POLICY, intensity=1, on_exhausted="escalate")
    with pytest.raises(Escalated) as caught:
        await run(rig, ["crash", "crash"], policy)
    reason = rig.failures[-1].gave_up
    assert (
        str(caught.value)
        == f"the thing has failed too often, and all ends with it: {rig.failures[-1].description}; {reason}"
    )
    assert record(rig) == [(1, 0.01, 0, ""), (2, None, 0, "it ended 2 times within 300 s of uptime")]
    assert rig.supervisor.last_exit is not None
    assert rig.running == 0
    assert not rig.supervisor.revive()


@attrs.define
class GivenUp:
    """Waits until something was given up; to be called with each failure."""

    event: trio.Event = attrs.field(factory=trio.Event)

    def __call__(self, failure: Failure) -> None:
        if failure.gave_up:
            self.event.set()

    async def wait(self) -> None:
        with trio.fail_after(LONG):
            await self.event.wait()


async def test_revived_it_starts_again_with_its_whole_budget(rig: Rig) -> None:
    policy = attrs.evolve(POLICY, intensity=1)
    given_up = GivenUp()
    acts: list[Act] = ["crash", "crash", "crash", "crash", "return"]
    supervisor = rig.supervise(acts, policy, on_failure=given_up, revivable=True)
    with trio.fail_after(LONG):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervisor.run)
            for _ in range(2):
                await given_up.wait()
                given_up.event = trio.Event()
                assert supervisor.revive()
                assert not supervisor.revive()  # it is no longer given up
    assert rig.started == [1, 2, 3, 4, 5]
    reason = "it ended 2 times within 300 s of uptime"
    assert record(rig) == [(1, 0.01, 0, ""), (2, None, 0, reason), (3, 0.01, 0, ""), (4, None, 0, reason)]
    assert not supervisor.revive()


async def test_revived_by_who_is_told_that_it_was_given_up(rig: Rig) -> None:
    def revive(failure: Failure) -> None:
        assert supervisor.revive()

    supervisor = rig.supervise(
        ["crash", "return"], attrs.evolve(POLICY, intensity=0), on_failure=revive, revivable=True
    )
    with trio.fail_after(LONG):
        await supervisor.run()
    assert rig.started == [1, 2]


async def test_what_works_is_not_revived(rig: Rig) -> None:
    supervisor = rig.supervise(["run"], POLICY)
    assert not supervisor.revive()
    with trio.fail_after(LONG):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervisor.run)
            await rig.until_ready(1)
            assert not supervisor.revive()
            assert supervisor.state.phase == "up"
            rig.ask_to_stop()
    assert not supervisor.revive()
    assert rig.started == [1]


async def until_running(rig: Rig, given_up: trio.Event) -> None:
    await rig.until_ready(2)
    assert rig.supervisor.state.phase == "up"


async def until_waiting(rig: Rig, given_up: trio.Event) -> None:
    await given_up.wait()  # it is told before the delay
    await wait_all_tasks_blocked()
    assert rig.supervisor.state.phase == "waiting"


async def until_given_up(rig: Rig, given_up: trio.Event) -> None:
    await given_up.wait()
    await wait_all_tasks_blocked()
    assert rig.supervisor.state.phase == "given-up"


@pytest.mark.parametrize("how", ["cancel", "stop"])
@pytest.mark.parametrize(
    ("acts", "backoff", "intensity", "until", "started"),
    [
        (["crash", "run"], BACKOFF, 9, until_running, [1, 2]),
        (["crash", "run"], NEVER_AGAIN, 9, until_waiting, [1]),
        (["crash", "run"], NEVER_AGAIN, 0, until_given_up, [1]),
    ],
    ids=["running", "waiting", "given-up"],
)
async def test_its_owner_ends_it(
    rig: Rig,
    acts: Sequence[Act],
    backoff: Backoff,
    intensity: int,
    until: Callable[[Rig, trio.Event], Awaitable[None]],
    started: list[int],
    how: str,
) -> None:
    told = trio.Event()
    policy = attrs.evolve(POLICY, restart="always", backoff=backoff, intensity=intensity)
    supervisor = rig.supervise(acts, policy, on_failure=lambda failure: told.set(), revivable=True)
    with trio.fail_after(LONG):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervisor.run)
            await until(rig, told)
            if how == "cancel":
                nursery.cancel_scope.cancel()
            else:
                rig.ask_to_stop()
    assert rig.running == 0
    assert rig.started == started
    assert len(rig.failures) == 1
    if how == "stop":
        assert supervisor.state.phase == "ended"
        assert not supervisor.revive()


async def test_told_to_stop_before_it_begins_nothing_is_started(rig: Rig) -> None:
    rig.stop.set()
    assert await run(rig, ["crash"]) is None
    assert rig.started == []


async def test_stopped_by_who_is_told_of_the_failure(rig: Rig) -> None:
    supervisor = rig.supervise(
        ["crash"], attrs.evolve(POLICY, backoff=NEVER_AGAIN), on_failure=lambda failure: rig.stop.set()
    )
    with trio.fail_after(LONG):
        await supervisor.run()
    assert rig.started == [1]


async def test_an_error_of_its_owner_is_raised(rig: Rig) -> None:
    def fail(failure: Failure) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await rig.supervise(["crash"], POLICY, on_failure=fail).run()
    assert rig.running == 0
    assert rig.started == [1]


async def test_nothing_is_left_of_a_process(rig: Rig) -> None:
    await run(rig, ["crash", "crash early", "return"])
    if isinstance(rig, ProcessRig):
        assert [pid for pid in rig.pids if psutil.pid_exists(pid)] == []
        assert len(set(rig.pids)) == 3


# Replaced by another one


async def works() -> bool:
    return True


async def test_another_one_takes_its_place_and_that_is_no_failure(rig: Rig) -> None:
    supervisor = rig.supervise([], POLICY)
    async with trio.open_nursery() as nursery:
        with trio.fail_after(LONG):
            nursery.start_soon(supervisor.run)
            await rig.until_ready(1)
            await supervisor.replace(rig.another(POLICY))
            await rig.until_ready(2)
        assert rig.failures == []
        assert rig.started == [1, 2]
        nursery.cancel_scope.cancel()
    assert rig.running == 0


async def test_it_is_replaced_while_it_waits_for_its_restart(rig: Rig) -> None:
    policy = attrs.evolve(POLICY, backoff=NEVER_AGAIN, intensity=1)
    failed = trio.Event()
    supervisor = rig.supervise(["crash", "crash"], policy, on_failure=lambda failure: failed.set())
    async with trio.open_nursery() as nursery:
        with trio.fail_after(LONG):
            nursery.start_soon(supervisor.run)
            await failed.wait()
            failed = trio.Event()
            await supervisor.replace(rig.another(policy))
            await failed.wait()
        assert [failure.attempts_left for failure in rig.failures] == [0, 0]  # each had the whole budget
        nursery.cancel_scope.cancel()


async def test_what_was_given_up_is_replaced(rig: Rig) -> None:
    policy, given_up = attrs.evolve(POLICY, intensity=0), trio.Event()
    supervisor = rig.supervise(["crash"], policy, on_failure=lambda failure: given_up.set(), revivable=True)
    async with trio.open_nursery() as nursery:
        with trio.fail_after(LONG):
            nursery.start_soon(supervisor.run)
            await given_up.wait()
            await supervisor.replace(rig.another(policy))
            await rig.until_ready(2)
        nursery.cancel_scope.cancel()


async def test_on_trial_one_that_works_stays(rig: Rig) -> None:
    supervisor = rig.supervise([], POLICY)
    async with trio.open_nursery() as nursery:
        with trio.fail_after(LONG):
            nursery.start_soon(supervisor.run)
            await rig.until_ready(1)
            assert await supervisor.replace_on_trial(rig.another(POLICY), works, LONG)
            await rig.until_ready(2)
        assert (rig.started, rig.others) == ([1, 2], [2])
        nursery.cancel_scope.cancel()


async def test_on_trial_one_that_does_not_work_gives_way_to_the_one_before(rig: Rig) -> None:
    """For the same policy a failure without a trial ends everything."""
    policy = attrs.evolve(POLICY, intensity=0, on_exhausted="escalate")
    failed = trio.Event()
    supervisor = rig.supervise(["run", "crash early"], policy, on_failure=lambda failure: failed.set(), revivable=True)

    async def fails() -> bool:
        await failed.wait()
        return False

    async with trio.open_nursery() as nursery:
        with trio.fail_after(LONG):
            nursery.start_soon(supervisor.run)
            await rig.until_ready(1)
            assert not await supervisor.replace_on_trial(rig.another(policy), fails, LONG)
            await rig.until_ready(3)
        assert (rig.started, rig.others) == ([1, 2, 3], [2])
        assert [failure.incarnation for failure in rig.failures] == [2]
        nursery.cancel_scope.cancel()


async def test_on_trial_there_is_a_time_to_work_in(rig: Rig) -> None:
    async def never() -> bool:
        await trio.sleep_forever()
        return True

    supervisor = rig.supervise([], POLICY)
    async with trio.open_nursery() as nursery:
        with trio.fail_after(LONG):
            nursery.start_soon(supervisor.run)
            await rig.until_ready(1)
            assert not await supervisor.replace_on_trial(rig.another(POLICY), never, 0.01)
            await rig.until_ready(3)
        assert rig.failures == []
        nursery.cancel_scope.cancel()


async def test_a_stop_while_it_is_replaced_is_the_end(rig: Rig) -> None:
    supervisor = rig.supervise([], POLICY)
    with trio.fail_after(LONG):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervisor.run)
            await rig.until_ready(1)
            nursery.start_soon(supervisor.replace, rig.another(POLICY))
            rig.ask_to_stop()
    assert rig.running == 0
    assert supervisor.state.phase == "ended"
