"""One item's loop: wait for its trigger, run a cycle, count it, and do what its policy says when it fails."""

from __future__ import annotations

import logging
import math
from typing import Any, Literal, TypeAlias

import attrs
import trio

from taktora_trio.errors import Overrun, collapse, is_worth_logging, summary
from taktora_trio.executor.context import Context, Step
from taktora_trio.executor.observer import Cycle
from taktora_trio.executor.runtime import Runtime
from taktora_trio.executor.sources import Sources
from taktora_trio.executor.stats import Statistics
from taktora_trio.executor.wake import Late, Outcome, Tick, Wake
from taktora_trio.health import Connecting, Degraded, Down, Failure, Up
from taktora_trio.supervision.policy import RestartPolicy
from taktora_trio.supervision.supervisor import Exit, Supervisor
from taktora_trio.supervision.task import as_task

__all__ = ["ItemRunner", "OnFailure"]

log = logging.getLogger(__name__)

_TIMED = (Tick, Late)  # these have a time at which they are due

OnFailure: TypeAlias = Literal["stop", "skip"] | RestartPolicy
"""A failed cycle leads to one of these: the executor stops and raises it ("stop"); the item goes on with its next cycle
("skip"); or the item is out of service for the policy's backoff, and is given up (or ends the executor) when it fails
too often."""


@attrs.define(eq=False)
class ItemRunner:
    """One item of one executor."""

    name: str
    step: Step[Any]
    trigger: object
    sources: Sources
    budget: float | None
    overrun_fails: bool
    on_failure: OnFailure
    statistics: Statistics
    runtime: Runtime
    supervisor: Supervisor | None = None
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    is_busy: bool = False
    """True while a cycle runs."""
    run_step: Step[Any] = attrs.field(init=False)
    """The step, with what the observers want around it."""
    _failed_in_a_row: int = 0

    def __attrs_post_init__(self) -> None:
        self.run_step = self._step_inside if self.runtime.observers.are_around else self.step
        if isinstance(self.on_failure, RestartPolicy):
            self.supervisor = Supervisor(
                f"item {self.name}",
                as_task(self._serve),
                self.on_failure,
                stop=self.runtime.stopping,
                on_failure=self._out_of_service,
            )

    async def run(self) -> None:
        """Run until its triggers have ended or the executor stops. Raises a failure that stops the executor."""
        with self.scope:
            try:
                if self.supervisor is not None:
                    await self.supervisor.run()
                else:
                    await self._serve(1)
            finally:
                if not isinstance(self.runtime.board.state(self.name), Down):
                    self.runtime.board.report(self.name, Down("it has ended"))
                if self.runtime.observers.stopped is not None:
                    self.runtime.observers.stopped(self.name)

    def stop(self, grace: float) -> None:
        """Begin no cycle any more; one that runs may end within `grace` seconds."""
        if self.is_busy:
            self.scope.deadline = min(self.scope.deadline, trio.current_time() + grace)
        else:
            self.scope.cancel()

    async def _serve(self, incarnation: int) -> None:
        board, sources, stopping = self.runtime.board, self.sources, self.runtime.stopping
        if isinstance(board.state(self.name), Down):
            board.report(self.name, Connecting())
        board.report(self.name, Up())
        if self.runtime.observers.started is not None:
            self.runtime.observers.started(self.name)
        if incarnation > 1:
            self.statistics.skipped += sources.pass_over_all(trio.current_time())
        while not stopping.is_set():
            if (wake := sources.take(now := trio.current_time())) is not None:
                ended = await self._cycle(wake, now)
                # Other tasks have their turn between two cycles, and a cancellation its effect; but not between taking
                # a message and its cycle, where it would be lost.
                if not sources.is_asleep(ended):
                    await trio.lowlevel.checkpoint()
            elif sources.ended:
                break
            else:
                await sources.wait()

    async def _step_inside(self, ctx: Context[Any]) -> None:
        with self.runtime.observers.around(self.name, ctx.wake):
            await self.step(ctx)

    async def _cycle(self, wake: Wake, started: float) -> float:
        """Run one cycle, and return the time at which it ended."""
        statistics, observers = self.statistics, self.runtime.observers
        error: Exception | None = None
        self.is_busy = True
        try:
            await self.run_step(Context(self.name, wake, self.runtime))
        except Exception as exc:  # noqa: BLE001 - its policy decides
            error = collapse(exc)
        except BaseException:
            self.sources.settle(Outcome.CANCELLED)
            raise
        finally:
            self.is_busy = False
        ended = trio.current_time()
        duration = ended - started
        statistics.record(duration, started - wake.due if isinstance(wake, _TIMED) else math.nan)
        statistics.skipped += self.sources.pass_over(ended)
        overrun = self.budget is not None and duration > self.budget
        if overrun:
            statistics.overruns += 1
            if error is None and self.overrun_fails:
                error = Overrun(f"{self.name} took {duration:g} s of its budget of {self.budget:g} s")
        if error is None:
            self.sources.settle(Outcome.DONE)
        else:
            again = self.on_failure != "skip"
            self.sources.settle(Outcome.AGAIN if again else Outcome.SKIPPED, f"item {self.name}: {summary(error)}")
        if overrun or observers.cycle is not None:
            cycle = Cycle(wake, started, duration, self.budget, error)
            if observers.cycle is not None:
                observers.cycle(self.name, cycle)
            if overrun and observers.overrun is not None:
                observers.overrun(self.name, cycle)
        if error is not None:
            self._failed(error, wake)
        elif self._failed_in_a_row:
            self._failed_in_a_row = 0
            self.runtime.board.report(self.name, Up(), "a cycle has ended well")
        return ended

    def _failed(self, error: Exception, wake: Wake) -> None:
        self.statistics.failures += 1
        if self.on_failure != "skip":
            error.add_note(f"in item {self.name!r}, woken by {wake.trigger!r}")
            if self.on_failure == "stop":
                self._tell_crash(error, "stops the executor")
                self.runtime.board.report(self.name, Down(summary(error)), error)
            raise error
        self._failed_in_a_row += 1
        count = self._failed_in_a_row
        if is_worth_logging(count):
            log.error(
                "item %s: skips this cycle, failed %d in a row",
                self.name,
                count,
                exc_info=error,
                extra={"event": "item-skips", "item": self.name, "count": count},
            )
        self._tell_crash(error, "skips this cycle")
        self.runtime.board.report(self.name, Degraded(f"its last cycle failed: {summary(error)}"), error)

    def _out_of_service(self, failure: Failure, exit_: Exit) -> None:
        """Report the supervisor's decision, which it has logged."""
        self.runtime.board.report(self.name, Down(str(failure), failure=failure), exit_.exception)
        then = f"given up: {failure.gave_up}" if failure.delay is None else f"starts again in {failure.delay:.2f} s"
        if exit_.exception is not None:
            self._tell_crash(exit_.exception, then)

    def _tell_crash(self, error: Exception, then: str) -> None:
        if self.runtime.observers.crashed is not None:
            self.runtime.observers.crashed(self.name, error, then)
