"""Carries out what the engine decides, for anything that can be started and ends: a task, or a process."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import attrs
import trio
from trio_util import RepeatedEvent, move_on_when

from taktora_trio.errors import Escalated
from taktora_trio.health import Failure, FailureKind
from taktora_trio.supervision.engine import (
    Action,
    Ended,
    Escalate,
    Event,
    Finish,
    GiveUp,
    Held,
    Hold,
    Phase,
    Ready,
    Released,
    Replaced,
    Restart,
    Revived,
    Started,
    State,
    Stopped,
    attempts_left,
    step,
)
from taktora_trio.supervision.policy import RestartPolicy

__all__ = ["Exit", "Runner", "Supervisor"]

log = logging.getLogger(__name__)
_ENDLESS = 10_000  # restarts: a policy that allows more of them is to go on for ever


@attrs.frozen
class Exit:
    """The end of one incarnation. `failed` decides about a restart if the policy says `on-failure`."""

    kind: FailureKind
    description: str
    failed: bool
    permanent: bool = False
    """True if another try would end the same way."""
    silent: float = 0.0
    """The seconds before its end without a sign of life."""
    stderr_tail: tuple[str, ...] = ()
    """The last lines that a process wrote to standard error."""
    exception: Exception | None = None
    """The exception that ended a task."""
    returncode: int | None = None
    """The exit code of a process, negative for a signal."""


Runner: TypeAlias = Callable[[int, Callable[[], None]], Awaitable[Exit]]
"""Awaited as `runner(incarnation, ready)`: runs one incarnation to its end, and calls `ready` once it works."""


def _ignore(failure: Failure, exit_: Exit) -> None:
    pass


def _ignore_revival(starts_again: bool) -> None:
    pass


class Supervisor:
    """Supervises one thing. `run` runs in a nursery of its owner; cancelled, it ends what it supervises."""

    def __init__(
        self,
        name: str,
        runner: Runner,
        policy: RestartPolicy,
        *,
        stop: trio.Event | None = None,
        on_failure: Callable[[Failure, Exit], None] = _ignore,
        on_revived: Callable[[bool], None] = _ignore_revival,
        ask_to_leave: Callable[[], None] | None = None,
        revivable: bool = True,
    ) -> None:
        """Supervise what `runner` runs, by `policy`.

        `on_failure` is called at each end that was not wanted: at once, before the delay. `on_revived` is called when
        somebody asks to revive it, with true if it starts again; one that runs may have something to try at once.
        `ask_to_leave` has what runs end politely, for another one to take its place; without it, the runner is
        cancelled, which is polite enough for a process.

        Once `stop` is set (which the runner is expected to watch for) its end is wanted, and nothing is started again.
        Without `revivable`, `run` returns when it is given up, instead of waiting to be revived.
        """
        self.name = name
        self.state = State()
        self.last_exit: Exit | None = None
        """The end of the last incarnation."""
        self.last_failure: Failure | None = None
        """The last end that was not wanted, since another one was last put on trial."""
        self._runner = runner
        self._policy = policy
        self._stop = trio.Event() if stop is None else stop
        self._on_failure = on_failure
        self._on_revived = on_revived
        self._ask_to_leave = ask_to_leave
        self._revivable = revivable
        self._woken = trio.Event()  # by `revive`, `replace` and the like, while nothing runs
        self._stepped = RepeatedEvent()
        self._was_up_for = 0.0  # seconds, before somebody wanted it stopped
        self._incarnation = trio.CancelScope()
        self._left = trio.Event()  # the present incarnation, or the last one
        self._on_trial = False
        self._hopeless = trio.Event()  # what is on trial has failed too often
        self._decided: Action | None = None  # what follows from the end, where that is known before the runner returns

    def __repr__(self) -> str:
        return f"<Supervisor of {self.name}: {self.state.phase}, incarnation {self.state.incarnation}>"

    @property
    def is_given_up(self) -> bool:
        """True if it failed too often, and waits to be revived."""
        return self.state.phase == "given-up"

    @property
    def is_on_trial(self) -> bool:
        """True while it is not known yet whether what has replaced another one works."""
        return self._on_trial

    @property
    def is_held(self) -> bool:
        """True if it was stopped for now, or is about to end for that."""
        return self.state.phase in ("holding", "held")

    async def run(self) -> Exit | None:
        """Start it again and again as the policy says. Returns the end of the last incarnation.

        Raises `Escalated` if the policy's `on_exhausted` is `escalate`, and failures were too many.
        """
        while not self._stop.is_set():
            if self.state.phase == "held":
                async with move_on_when(self._stop.wait):
                    await self._woken.wait()
                continue
            self._woken = trio.Event()
            self._decided = None
            self._step(Started())
            self.last_exit = exit_ = await self._run_incarnation()
            if self._stop.is_set() and self._decided is None:
                self._step(Stopped())
            match self._decided or self._end(exit_):
                case Restart(delay=delay):
                    async with move_on_when(self._stop.wait), move_on_when(self._woken.wait):
                        await trio.sleep(delay)
                case Hold():
                    pass  # until it is released, as above
                case GiveUp() | Escalate() as end if self._on_trial or (self._revivable and isinstance(end, GiveUp)):
                    if not self._woken.is_set():  # else another one was put in its place before its runner returned
                        self._hopeless.set()
                    async with move_on_when(self._stop.wait):
                        await self._woken.wait()
                case Escalate(reason=reason):
                    raise Escalated(
                        f"the {self.name} has failed too often, and all ends with it: {exit_.description}; {reason}"
                    )
                case _:
                    return exit_
        self._step(Stopped())
        return self.last_exit

    def ended(self, exit_: Exit) -> None:
        """Take in how the present incarnation has ended, before its runner returns, which may have to tidy up first.

        So who depends on it learns of it sooner. Whatever follows comes when the runner has returned.
        """
        if not self._stop.is_set():
            self._decided = self._end(exit_)

    def revive(self) -> bool:
        """Start again what was given up, with its whole budget; `False` if it is not given up.

        Either way `on_revived` is called. What waits to start again starts now.
        """
        if self.state.phase == "waiting":
            self._woken.set()
        if not self._revivable or self._step(Revived()) is None:
            log.info(
                "%s: not given up, so there is nothing to start again",
                self.name,
                extra={"event": "revive-needless", "half": self.name},
            )
            self._on_revived(False)
            return False
        log.info("%s: revived", self.name, extra={"event": "revived", "half": self.name})
        self._woken.set()
        self._on_revived(True)
        return True

    async def hold(self) -> None:
        """Stop it for now: end what runs as `replace` does, and start nothing until `release`.

        Returns when it has ended. `on_failure` is told of it, so that who depends on it knows why it is gone.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        was_up, since = self.state.phase == "up", self.state.since
        self._step(Held())
        self._was_up_for = self.state.since - since if was_up else 0.0
        if self.state.phase == "holding":
            await self._let_end()
        elif self.state.phase == "held":  # it waits for something else
            woken, self._woken = self._woken, trio.Event()
            woken.set()

    def release(self) -> bool:
        """Start again what was stopped for now; `False` if it was not."""
        if self._step(Released()) is None:
            return False
        log.info("%s: starts again, as it was told to", self.name, extra={"event": "released", "half": self.name})
        self._woken.set()
        return True

    async def wait_for(self, *phases: Phase) -> None:
        """Wait until it is in one of these phases."""
        while self.state.phase not in phases:
            await self._stepped.wait()

    async def restart(self) -> None:
        """Have another incarnation of the same take its place, as `replace` does; or start it if it was stopped."""
        if not self.release():
            await self.replace(self._runner)

    async def replace(self, runner: Runner) -> None:
        """Have this runner run instead of the present one: at once, and with the whole budget.

        What runs is asked to leave, which is no failure, and is cancelled if it is still there when the policy's
        `stop_grace` is over. Returns when it has ended, or would have been started. What was stopped by `hold` stays
        so, and has this runner from then on.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        self._runner = runner
        self._step(Replaced())
        if self.state.phase == "replacing":
            await self._let_end()
        elif not self.is_held:
            self._woken.set()

    async def _let_end(self) -> None:
        left = self._left
        if self._ask_to_leave is not None:
            self._ask_to_leave()
            with trio.move_on_after(self._policy.stop_grace):
                await left.wait()
        self._incarnation.cancel()
        await left.wait()

    async def replace_on_trial(
        self, runner: Runner, works: Callable[[], Awaitable[bool]], seconds: float, back: Runner | None = None
    ) -> bool:
        """Replace the present runner by this one, and go back unless `works()` returns true within `seconds`.

        The way back leads to the present runner, or to another one that does the same. It is taken at once when the new
        one fails too often, which ends nothing else, whatever the policy says. Returns whether the new one stays.
        """
        before, self._on_trial, self.last_failure = back or self._runner, True, None
        try:
            self._hopeless = trio.Event()
            await self.replace(runner)
            with trio.move_on_after(seconds):
                async with move_on_when(self._hopeless.wait):
                    if await works():
                        return True
            log.warning(
                "%s: what has replaced it does not work: going back",
                self.name,
                extra={"event": "replacement-failed", "half": self.name},
            )
            await self.replace(before)
            return False
        finally:
            self._on_trial = False

    async def revive_at(self, bell: RepeatedEvent) -> None:
        """Revive it whenever `bell` is rung. Runs until it is stopped."""
        async with move_on_when(self._stop.wait):
            async for _ in bell.events():
                self.revive()

    async def _run_incarnation(self) -> Exit:
        self._left = trio.Event()
        try:
            with trio.CancelScope() as self._incarnation:
                return await self._runner(self.state.incarnation, self._ready)
            return Exit("exit", "it was told to end", failed=False)
        finally:
            self._left.set()

    def _ready(self) -> None:
        self._step(Ready())

    def _step(self, event: Event) -> Action | None:
        self.state, action = step(self._policy, self.state, event, trio.current_time())
        self._stepped.set()
        return action

    def _end(self, exit_: Exit) -> Action | None:
        before = self.state
        action = self._step(Ended(exit_.failed, exit_.permanent, exit_.silent))
        if action is None:
            raise AssertionError("an end without a decision")
        if isinstance(action, Finish):
            if before.phase == "stopping" and exit_.exception is not None:
                log.error(
                    "%s: crashed while stopping",
                    self.name,
                    exc_info=exit_.exception,
                    extra={"event": "stop-crashed", "half": self.name},
                )
            else:
                log.info("%s: ended (%s)", self.name, exit_.description, extra={"event": "ended", "half": self.name})
            return action
        if before.phase == "replacing":
            log.info(
                "%s: another one takes its place (%s)",
                self.name,
                exit_.description,
                exc_info=exit_.exception,
                extra={"event": "replaced", "half": self.name},
            )
            return action
        if isinstance(action, Hold):
            log.info(
                "%s: stopped for now (%s)", self.name, exit_.description, extra={"event": "held", "half": self.name}
            )
            self._on_failure(_held(before, exit_, self._was_up_for), exit_)
            return action
        left = attempts_left(self._policy, self.state)
        gave_up = "" if isinstance(action, Restart) else action.reason
        failure = Failure(
            kind=exit_.kind,
            description=exit_.description,
            incarnation=before.incarnation,
            uptime=self.state.uptime - before.uptime,
            delay=action.delay if isinstance(action, Restart) else None,
            attempts_left=0 if gave_up else left,
            gave_up=gave_up,
            stderr_tail=exit_.stderr_tail,
        )
        self.last_failure = failure
        self._on_failure(failure, exit_)  # before the log: whoever depends on it waits for that
        match action:
            case Restart(delay=delay):
                verb = "crashed" if exit_.exception else "ended"
                level = logging.ERROR if exit_.exception else logging.WARNING
                after = f"{left} more after that" if left <= _ENDLESS else "however often it ends"
                message = "%s: %s (%s), starts again in %.2f s, %s"
                log.log(
                    level,
                    message,
                    self.name,
                    verb,
                    exit_.description,
                    delay,
                    after if left else "for the last time",
                    exc_info=exit_.exception,
                    extra={"event": "restarting", "half": self.name, "delay": delay},
                )
            case GiveUp(reason=reason) | Escalate(reason=reason):
                tail = "".join(f"\n    {line}" for line in exit_.stderr_tail)
                end = f"; the end of its standard error:{tail}" if tail else ""
                message = "%s: given up (%s): %s%s"
                log.critical(
                    message,
                    self.name,
                    exit_.description,
                    reason,
                    end,
                    exc_info=exit_.exception,
                    extra={"event": "given-up", "half": self.name},
                )
        return action


def _held(state: State, exit_: Exit, uptime: float) -> Failure:
    """Return what is told of an end that somebody wanted: so it is shown as what it is."""
    return Failure(
        kind="stopped",
        description="it was stopped by an operator",
        incarnation=state.incarnation,
        uptime=uptime,
        delay=None,
        attempts_left=0,
        stderr_tail=exit_.stderr_tail,
    )
