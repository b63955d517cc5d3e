"""One contract, two kinds of thing that keep it: a task, and a process."""

from __future__ import annotations

import abc
import os
import signal
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import trio
from trio_util import AsyncValue

from taktora_trio import RestartPolicy
from taktora_trio.health import Failure, FailureKind
from taktora_trio.processes.parent import as_process, spawn
from taktora_trio.processes.parent.group import Child
from taktora_trio.processes.parent.process import Start
from taktora_trio.supervision.supervisor import Exit, Runner, Supervisor
from taktora_trio.supervision.task import as_task
from tests.processes.children import program

__all__ = ["Act", "ProcessRig", "Rig", "TaskRig"]

Act: TypeAlias = Literal["crash", "crash early", "return", "run"]


class Rig(abc.ABC):
    """Supervises something that acts out a script: its n-th incarnation does what the n-th act says.

    `crash`         gets ready and fails
    `crash early`   fails before anything else
    `return`        gets ready and ends well
    `run`           gets ready and goes on until it is stopped; so does each one after the last act

    The contract of everything that can be supervised:

    - Incarnations are numbered from 1, without gaps, and the next one begins only when the one before has ended.
    - An end that was not wanted is reported to `on_failure` once, at once, before the delay, and with what comes next.
    - What the policy says is what happens, in the same order and with the same delays, whatever the kind.
    - `Supervisor.run` returns how the last one ended, or raises `Escalated`; when it has returned or was cancelled,
      nothing runs any more, and nothing will.
    - Another runner takes its place when it has ended, at once, with the whole budget, and that is no failure. On trial
      it gives way to the one before if it does not work in time.
    - An error in the owner's own code leaves `run` as it is, and nothing runs any more either.
    """

    crash_kind: FailureKind
    crash_description: str
    return_description: str

    def __init__(self) -> None:
        self.acts: Sequence[Act] = ()
        self.stop = trio.Event()
        self.failures: list[Failure] = []
        self.started: list[int] = []
        self.running = 0
        """The number of incarnations that run now."""
        self.others: list[int] = []
        """Those of `started` that another runner has started."""
        self.ready: AsyncValue[int] = AsyncValue(0)
        """The incarnation that got ready last."""
        self.supervisor: Supervisor

    def supervise(
        self,
        acts: Sequence[Act],
        policy: RestartPolicy,
        *,
        on_failure: Callable[[Failure], None] = lambda failure: None,
        revivable: bool = False,
    ) -> Supervisor:
        """Return a supervisor that is still to be run; this records what happens."""

        def failed(failure: Failure, exit_: Exit) -> None:
            self.failures.append(failure)
            on_failure(failure)

        self.acts = acts
        runner = self._recorded(self.runner(policy))
        self.supervisor = Supervisor("thing", runner, policy, stop=self.stop, on_failure=failed, revivable=revivable)
        return self.supervisor

    def another(self, policy: RestartPolicy) -> Runner:
        """Return another runner, which takes the place of the first one in the same script."""
        inner = self._recorded(self.runner(policy))

        async def runner(incarnation: int, ready: Callable[[], None]) -> Exit:
            self.others.append(incarnation)
            return await inner(incarnation, ready)

        return runner

    def act(self, incarnation: int) -> Act:
        return self.acts[incarnation - 1] if incarnation <= len(self.acts) else "run"

    @abc.abstractmethod
    def runner(self, policy: RestartPolicy) -> Runner:
        """Return a runner of incarnations that act out the script, and end well when they are told to stop."""

    @abc.abstractmethod
    def ask_to_stop(self) -> None:
        """Set `stop`, and let what runs know."""

    async def until_ready(self, incarnation: int) -> None:
        await self.ready.wait_value(incarnation)

    def _recorded(self, inner: Runner) -> Runner:
        async def runner(incarnation: int, ready: Callable[[], None]) -> Exit:
            def is_ready() -> None:
                ready()
                self.ready.value = incarnation

            assert self.running == 0
            self.started.append(incarnation)
            self.running += 1
            try:
                return await inner(incarnation, is_ready)
            finally:
                self.running -= 1

        return runner


class TaskRig(Rig):
    crash_kind = "exception"
    crash_description = "OSError: run 1"
    return_description = "it returned"

    def runner(self, policy: RestartPolicy) -> Runner:
        async def run(incarnation: int) -> None:
            match self.act(incarnation):
                case "crash":
                    await trio.lowlevel.checkpoint()
                    raise OSError(f"run {incarnation}")
                case "crash early":
                    raise OSError(f"run {incarnation}")
                case "return":
                    await trio.lowlevel.checkpoint()
                case "run":
                    await self.stop.wait()

        return as_task(run)

    def ask_to_stop(self) -> None:
        self.stop.set()


_PLAYS: dict[Act, str] = {
    "crash": "ready(); sys.exit(3)",
    "crash early": "sys.exit(3)",
    "return": "ready()",
    "run": "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); ready(); hang()",
}


class ProcessRig(Rig):
    crash_kind = "exit"
    crash_description = "exit code 3"
    return_description = "exit code 0"

    def __init__(self) -> None:
        super().__init__()
        self.pids: list[int] = []

    def runner(self, policy: RestartPolicy) -> Runner:
        async def start(given: Start) -> Child:
            return await spawn(program(_PLAYS[self.act(len(self.pids) + 1)]))(given)

        return as_process(
            "thing",
            start,
            policy,
            write=lambda stream, line: None,
            on_start=lambda incarnation, pid, link: self.pids.append(pid),
        )

    def ask_to_stop(self) -> None:
        self.stop.set()
        if self.running:
            os.kill(self.pids[-1], signal.SIGTERM)
