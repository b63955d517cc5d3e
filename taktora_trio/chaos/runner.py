"""Runs it: starts everything, brings about each fault of the schedule, checks each promise."""

from __future__ import annotations

import contextlib
import math
import os
import random
import signal
import tempfile
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import attrs
import trio
from rich.console import Console

from taktora_trio.chaos import private_shm
from taktora_trio.chaos.fault import BrokenPromise, System
from taktora_trio.chaos.faults import FAULTS, why_not
from taktora_trio.chaos.faulty import FOLDER_VARIABLE, Instructions
from taktora_trio.chaos.injecting import heal
from taktora_trio.chaos.invariants import Snapshot, events_match, states_of, what_is_wrong
from taktora_trio.chaos.kit import Kit, load_kit
from taktora_trio.chaos.looking import look_until
from taktora_trio.chaos.observer import Incarnation, open_observer
from taktora_trio.chaos.options import PROTOCOLS, ChaosOptions
from taktora_trio.chaos.processes import Process, wait_until_gone
from taktora_trio.chaos.proxy import open_proxy
from taktora_trio.chaos.report import Report, Result, to_json, to_markdown
from taktora_trio.chaos.schedule import PlannedFault, plan
from taktora_trio.chaos.subject import open_subject
from taktora_trio.chaos.telemetry import OBSERVER_VARIABLE
from taktora_trio.errors import ConfigError
from taktora_trio.runners.this_process.signals import stop_signals
from taktora_trio.transport.domain import Domain

__all__ = ["list_faults", "run_chaos"]

_START_TIMEOUT = 60.0  # seconds until the deployment works, also on a machine that is busy
_RECOVERY_TIMEOUT = 20.0  # seconds from a fault until everything works again
_QUIET = 0.3  # seconds without a health event after which nothing more is expected to come
_ROUND_TRIP_TIMEOUT = 1.0  # seconds; then the app may be another one, and it is tried again
_TRANSIENT = 2.0  # seconds for what may be so for a moment: a process that was not reaped yet, a file being removed
_END_TIMEOUT = 8.0  # seconds after which an orphan is one
_SHOWN_LINES = 25
_FENCES = ("--fence.gateway.memory=300_000_000", "--fence.gateway.nice=10")
_MAX_SEED = 2**32


def list_faults() -> str:
    """Return a line for each kind of fault."""
    return "\n".join(f"{kind:<22} {fault.what}" for kind, fault in FAULTS.items())


def run_chaos(options: ChaosOptions, arguments: Sequence[str]) -> int:
    """Run it; return 0 if every promise held, 1 if not, 130 or 143 if a signal ended it before that was known.

    May replace this process by one that has a /dev/shm of its own, with the same `arguments`. Raises `ConfigError`.
    """
    _check(options)
    kit = load_kit(options.protocol)
    kit.check()
    kinds = options.only or tuple(kind for kind in FAULTS if not why_not(kind, options.mode, warm=options.warm))
    if any(FAULTS[kind].fills_shm for kind in kinds):
        private_shm.enter(arguments)
    seed = random.SystemRandom().randrange(_MAX_SEED) if options.seed is None else options.seed
    planned = plan(seed, options.faults, {kind: FAULTS[kind].ranges for kind in kinds})
    report = Report(Console(), seed, len(planned))
    chaos = _Chaos(kit, planned, report, options, seed)
    report.begin()
    ended_by = trio.run(chaos.run_until_signal)
    report.finish()
    if options.json is not None:
        options.json.write_bytes(to_json(seed, report.results))
    if options.markdown is not None:
        options.markdown.write_text(to_markdown(report.results))
    if any(result.violations for result in report.results):
        return 1
    return 128 + ended_by if ended_by else 0


def _check(options: ChaosOptions) -> None:
    if options.faults < 1:
        raise ConfigError(f"--faults {options.faults}: give at least 1")
    if options.seed is not None and not 0 <= options.seed < _MAX_SEED:
        raise ConfigError(f"--seed {options.seed}: give a number from 0 to {_MAX_SEED - 1}")
    unknown = [kind for kind in options.only if kind not in FAULTS]
    if unknown:
        raise ConfigError(f"--only {unknown[0]}: there is no such fault; `taktora-trio chaos --list` shows all of them")
    if options.protocol not in PROTOCOLS:
        raise ConfigError(f"--protocol {options.protocol}: there is chaos for {' and '.join(PROTOCOLS)}")
    if options.warm and options.mode != "split":
        raise ConfigError("--warm is for the split shape: leave it out, or --mode")
    for kind in options.only:
        if reason := why_not(kind, options.mode, warm=options.warm):
            raise ConfigError(f"--only {kind}: {reason}")
    for path in (options.json, options.markdown):
        if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
            raise ConfigError(f"{path} can't be written: it must be a file in a folder that exists")


@attrs.frozen
class _Ending:
    """A fault that has ended the run, as far as it is known before the next run works."""

    result: Result
    began: float


class _Chaos:
    """One execution of a schedule."""

    def __init__(
        self, kit: Kit, planned: Sequence[PlannedFault], report: Report, options: ChaosOptions, seed: int
    ) -> None:
        self._kit = kit
        self._planned = deque(planned)
        self._report = report
        self._options = options
        self._seed = seed
        self._domain = Domain(f"chaos-{os.getpid()}")
        halves = 2 if options.mode == "split" else 0
        self._children = halves + options.warm  # and the process that the gateway is forked from

    async def run_until_signal(self) -> int:
        """Run to the end of the schedule, or to the first signal; return that signal's number, or 0."""
        ended_by = 0
        async with trio.open_nursery() as nursery:

            async def stop_at_signal() -> None:
                nonlocal ended_by
                with trio.open_signal_receiver(*stop_signals()) as signals:
                    async for signum in signals:  # until the end: a second one must not break the cleaning up
                        ended_by = ended_by or signum
                        running.cancel()

            running = trio.CancelScope()
            nursery.start_soon(stop_at_signal)
            with running:
                await self._run()
            nursery.cancel_scope.cancel()
        return ended_by

    async def _run(self) -> None:
        with tempfile.TemporaryDirectory(prefix="taktora-chaos-") as name:
            folder = Path(name)
            instructions = Instructions(folder / "instructions")
            instructions.folder.mkdir()
            async with (
                self._kit.open_broker(folder) as broker,
                self._kit.open_subscriber(broker.port) as subscriber,
                open_proxy(broker.port) as proxy,
                open_observer(folder / "observer") as observer,
            ):
                environment = {
                    OBSERVER_VARIABLE: str(folder / "observer"),
                    FOLDER_VARIABLE: str(instructions.folder),
                }
                system = System(
                    broker=broker, proxy=proxy, observer=observer, subscriber=subscriber, instructions=instructions
                )
                ending: _Ending | None = None
                try:
                    while self._planned or ending:
                        ending = await self._run_subject(system, environment, ending)
                finally:
                    self._domain.remove_if_alone()
                    self._domain.forget()

    async def _run_subject(self, system: System, environment: dict[str, str], ending: _Ending | None) -> _Ending | None:
        """Start the deployment and go through the schedule as far as the run lasts; return the fault that ended it."""
        mode = self._options.mode
        more = [*(_FENCES if mode == "split" else ()), *(["--warm"] if self._options.warm else [])]
        reach = self._kit.reach(system.proxy.address)
        async with open_subject(self._kit.target, self._domain, reach, environment, more, mode=mode) as subject:
            system.subject = subject
            await heal(system)
            started = await _is_settled(system, _START_TIMEOUT)
            if ending is not None:
                self._add(_ended(ending, started), system)
            elif not started:
                self._add(Result(index=0, kind="start", what="the start", violations=["it did not come up"]), system)
            ending = None
            family = subject.processes()
            while started and self._planned:
                fault = self._planned.popleft()
                if FAULTS[fault.kind].fills_shm and not private_shm.is_private():
                    note = "it needs a /dev/shm of its own: run as root, or where user namespaces are allowed"
                    self._add(_result(fault, note=note), system)
                    continue
                family = subject.processes()
                if FAULTS[fault.kind].exit_code is not None:
                    self._report.start(fault.index, fault.kind)
                    ending = await _end_run(system, fault)
                    break
                self._report.start(fault.index, fault.kind)
                result = await _try(system, fault, self._children)
                self._add(result, system)
                if result.violations:
                    break
        wrong = await self._what_is_left(family)
        if ending is not None:
            return attrs.evolve(
                ending, result=attrs.evolve(ending.result, violations=[*ending.result.violations, *wrong])
            )
        if wrong or subject.process.returncode != 0:
            wrong.append(f"the run ended with exit code {subject.process.returncode}")
            self._add(Result(index=0, kind="end", what="the end", violations=wrong), system)
        return None

    def _add(self, result: Result, system: System) -> None:
        self._report.add(result)
        if result.violations:
            lines = list(system.subject.last_lines)[-_SHOWN_LINES:]
            index = result.index or max((known.index for known in self._report.results), default=1)
            self._report.tell_violation(lines, self._options.replay(self._seed, max(index, 1)))
            if not self._options.keep_going:
                self._planned.clear()

    async def _what_is_left(self, family: list[Process]) -> list[str]:
        """Return in words which processes and files are still there after a run."""
        wrong = []
        for process in await wait_until_gone(family, _END_TIMEOUT):
            wrong.append(f"left behind: process {process.pid}, {process.command}")
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        if files := self._domain.files():
            wrong.append(f"left behind: {len(files)} files of the domain, the first is {files[0]}")
        elif self._domain.root.exists():
            wrong.append("left behind: the domain's folder")
        return wrong


def _result(fault: PlannedFault, **more: object) -> Result:
    what = FAULTS[fault.kind].what
    return Result(index=fault.index, kind=fault.kind, what=what, parameters=fault.parameters, **more)  # type: ignore[arg-type]


async def _try(system: System, planned: PlannedFault, children: int) -> Result:
    """Bring about a fault that the run outlives, wait until everything works again, and see what was wrong."""
    fault = FAULTS[planned.kind]
    observer, tally = system.observer, system.subscriber.tally
    app = observer.app
    assert app is not None
    app.largest_gap = 0.0
    observer.failures.clear()
    before, repeats, first_event = _look(system), tally.repeats, len(observer.events)

    def states() -> str:
        return states_of([event.after for event in observer.events[first_event:]])

    wrong: list[str] = []
    began = trio.current_time()
    try:
        await fault.inject(system, planned.parameters)
        with contextlib.suppress(trio.TooSlowError):  # what is wrong then is seen below
            await observer.wait_until(lambda: events_match(fault, states()), _RECOVERY_TIMEOUT)
    except BrokenPromise as exc:
        wrong.append(str(exc))
    except trio.TooSlowError:
        wrong.append("the fault itself could not be brought about in time")
    recovered: float | None = None
    if await _is_settled(system, _RECOVERY_TIMEOUT):
        recovered = trio.current_time() - began - _QUIET
    else:
        wrong.append(f"not everything works again after {_RECOVERY_TIMEOUT:g} s")
    with trio.move_on_after(_TRANSIENT):
        await look_until(lambda: not what_is_wrong(fault, before, _look(system), states(), children), 0.05)
    after = _look(system)
    wrong += what_is_wrong(fault, before, after, states(), children)
    return _result(
        planned,
        states=states(),
        recovered=recovered,
        largest_gap=None if "plugin" in fault.replaces else after.largest_gap,
        repeats=tally.repeats - repeats,
        files=after.files,
        violations=wrong,
    )


async def _end_run(system: System, planned: PlannedFault) -> _Ending:
    """Bring about a fault that ends the run."""
    fault = FAULTS[planned.kind]
    wrong: list[str] = []
    repeats = system.subscriber.tally.repeats
    began = trio.current_time()
    try:
        await fault.inject(system, planned.parameters)
    except (BrokenPromise, trio.TooSlowError) as exc:
        wrong.append(f"the run did not end: {exc}")
    code = system.subject.process.returncode
    if code != fault.exit_code:
        wrong.append(f"the run ended with {code}, and should have with {fault.exit_code}")
    result = _result(
        planned,
        repeats=system.subscriber.tally.repeats - repeats,
        violations=wrong,
        note=f"ended the run (exit code {code}); started again",
    )
    return _Ending(result, began)


def _ended(ending: _Ending, started: bool) -> Result:
    """Complete its result, now that the next run works, or does not."""
    if started:
        return attrs.evolve(ending.result, recovered=trio.current_time() - ending.began - _QUIET)
    violations = [*ending.result.violations, "the next run did not come up"]
    return attrs.evolve(ending.result, violations=violations)


def _look(system: System) -> Snapshot:
    app = system.observer.app
    return Snapshot(
        pids={"gateway": system.subject.pid("gateway"), "plugin": system.subject.pid("plugin")},
        processes=system.subject.processes(),
        files=len(system.subject.domain.files()),
        gaps=list(system.subscriber.tally.gaps),
        broken_chains=list(system.observer.broken_chains),
        largest_gap=app.gap_now() if app is not None else 0.0,
        failures=frozenset(system.observer.failures),
    )


async def _is_settled(system: System, seconds: float) -> bool:
    """Wait until health is `Up` and stays so, and a new message has made its way to the subscriber and back."""
    observer = system.observer
    with trio.move_on_after(seconds):
        while True:
            await observer.wait_until(lambda: _is_up(observer.app), math.inf)
            app, events = observer.app, len(observer.events)
            assert app is not None
            with trio.move_on_after(_ROUND_TRIP_TIMEOUT) as round_trip:
                await _round_trip(system, app)
            await trio.sleep(_QUIET)
            if (
                not round_trip.cancelled_caught
                and app is observer.app
                and _is_up(app)
                and len(observer.events) == events
            ):
                return True
    return False


def _is_up(app: Incarnation | None) -> bool:
    return app is not None and app.alive and app.tick is not None and app.health == "Up"


async def _round_trip(system: System, app: Incarnation) -> None:
    """Wait until a message that is sent from now on was heard by the subscriber, and has come back to the app."""

    def echoed() -> int:
        return app.tick.echoed if app.tick is not None else 0

    number = app.tick.sent + 1 if app.tick is not None else 1
    await system.subscriber.wait_until_heard(app.series, number, math.inf)
    await system.observer.wait_until(lambda: echoed() >= number, math.inf)
