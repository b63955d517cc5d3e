"""One case: a broker, who listens and who talks, the deployment, and the points at which its victim ends."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import attrs
import msgspec
import trio

import taktora_trio
from taktora_trio.errors import summary
from taktora_trio.transport.domain import Domain
from tests.brokers.listener import Listener, Talker, open_listener, open_talker
from tests.command import Command, open_command
from tests.crashpoints.arming import CALM, COUNT
from tests.crashpoints.case import MODULES, VARIABLE, Case, Orders
from tests.crashpoints.judging import Judgement, judge
from tests.mosquitto import Mosquitto, open_mosquitto

__all__ = ["Attack", "Result", "attack"]

_TARGET = "tests.crashpoints.app:deployment"
_COUNTS = (1, 2)  # lives whose lines are counted: the second one takes over from a killed one
_AWAY, _BACK = 1.5, 1.0  # seconds
_APPS_TOO = ("host/", "transport/")
_PATIENCE = 30.0  # seconds for more of what is promised to come, once all is well again


@attrs.frozen
class Attack:
    """How one case is run."""

    case: Case
    sample: int | None
    """The number of points; `None` for all."""
    seed: int
    only: tuple[str, ...] = ()
    """Modules, by the end of their path, instead of all that are concerned."""
    points: tuple[str, ...] = ()
    """Exactly these, `FILE:LINE:HIT`, instead of those that a count finds."""
    limit: float = 2.5
    keep: bool = False
    """Whether its folder is kept, with the journal and the log."""


@attrs.frozen
class Result:
    """What came of one case."""

    case: Case
    points: int
    reached: int
    judgement: Judgement
    seconds: float
    trouble: tuple[str, ...] = ()
    """What kept it from its end."""

    @property
    def holds(self) -> bool:
        return not self.judgement.faults and not self.trouble


async def attack(told: Attack, progress: Callable[[str], None] = lambda _: None) -> Result:
    folder = Path(tempfile.mkdtemp(prefix="taktora-crash-"))
    try:
        return await _attack(told, folder, progress)
    finally:
        if told.keep:
            progress(f"{told.case.name}: kept in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


async def _attack(told: Attack, folder: Path, progress: Callable[[str], None]) -> Result:
    case, began = told.case, time.monotonic()
    # An error in the app's half, or in what both have, would be an error of the app: a message that it can't decode.
    modules = told.only or tuple(one for one in MODULES if case.victim != "task" or not one.startswith(_APPS_TOO))
    files = tuple(f"/taktora_trio/{name}" if name.count("/") == 1 else f"/{name}" for name in modules)
    orders = Orders(case=case, folder=str(folder), files=files)
    (folder / "plan").write_text("\n".join([CALM, *(_known(told.points) or [COUNT] * len(_COUNTS))]))
    if told.points:
        (folder / "final").touch()
    domain = Domain(f"crash-{uuid.uuid4().hex[:8]}")
    lines = ["persistence true", f"persistence_location {folder}/"]
    if told.keep:
        lines += [f"log_dest file {folder}/broker.log", "log_type all", "log_timestamp_format %H:%M:%S"]
    trouble: list[str] = []
    judgement = Judgement()
    try:
        async with (
            open_mosquitto(folder, lines) as broker,
            open_listener(broker.port, {f"crash/out/{qos}": qos for qos in case.qos}) as listener,
            open_talker(broker.port) as talker,
        ):
            one = _One(told, folder, broker, listener, talker, domain, orders)
            async with one.running():
                try:
                    await one.through(progress)
                except* (trio.TooSlowError, AssertionError) as exc:
                    trouble.append(f"at point {one.index}: {summary(exc)[-600:]}")
                judgement = await one.finish(trouble)
    finally:
        domain.remove_if_alone()
        domain.forget()
    plan = [point for point in (folder / "plan").read_text().split() if point not in (CALM, COUNT)]
    reached = len((folder / "reached").read_text().splitlines()) if (folder / "reached").exists() else 0
    return Result(case, len(plan), reached, judgement, time.monotonic() - began, tuple(trouble))


def _known(points: Sequence[str]) -> list[str]:
    root = Path(taktora_trio.__file__).parent
    return [point if point.startswith("/") else str(root / point) for point in points]


@attrs.define
class _One:
    told: Attack
    folder: Path
    broker: Mosquitto
    listener: Listener
    talker: Talker
    domain: Domain
    orders: Orders
    published: int = 0
    command: Command | None = None
    _wanted: bool = True
    _index: int = 0

    @property
    def index(self) -> int:
        with contextlib.suppress(FileNotFoundError, ValueError):  # it is being written
            self._index = int((self.folder / "index").read_text())
        return self._index

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Have the deployment run; where all of it is killed, it is started again."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._run)
            yield
            self._wanted = False
            if self.command is not None and self.command.process.returncode is None:
                self.command.signal(signal.SIGTERM)
            with trio.move_on_after(10):
                while self.command is not None:  # noqa: ASYNC110 - it is ended by the other task's block
                    await trio.sleep(0.02)
            nursery.cancel_scope.cancel()

    async def _run(self, task_status: trio.TaskStatus[None]) -> None:
        mode = "split" if self.told.case.victim in ("gateway", "plugin") else "in-process"
        to = ("--broker", self.broker.url, "--domain", self.domain.name, "--client-id", self.domain.name)
        arguments = ("run", _TARGET, "--mode", mode, *to, "--await-broker")
        is_first = True
        while self._wanted:
            env = {VARIABLE: msgspec.json.encode(self.orders).decode()}
            async with open_command(*arguments, env=env) as self.command:
                if is_first:
                    task_status.started()
                    is_first = False
                await self.command.process.wait()
                with (self.folder / "log").open("a") as log:
                    log.write("\n".join(self.command.stderr) + "\n")
            self.command = None

    async def through(self, progress: Callable[[str], None]) -> None:
        """Talk, and trouble the broker, until the victim has gone through its plan."""
        async with trio.open_nursery() as nursery:
            limit = await self._calm()
            nursery.start_soon(self._talk)
            if not self.told.points:
                with trio.fail_after(_PATIENCE + 4 * limit):
                    while not all((self.folder / f"counted-{index}").exists() for index in _COUNTS):  # noqa: ASYNC110 - by processes
                        await trio.sleep(0.05)
                self._plan()
            nursery.start_soon(self._trouble)
            plan = len((self.folder / "plan").read_text().split())
            last, since = -1, trio.current_time()
            while (index := self.index) <= plan:
                if index != last:
                    last, since = index, trio.current_time()
                    if index % 25 == 0:
                        progress(f"{self.told.case.name}: {index} of {plan}")
                elif trio.current_time() - since > limit + _PATIENCE:
                    raise trio.TooSlowError(f"nothing started again for {_PATIENCE:.0f} s")
                await trio.sleep(0.05)
            await trio.sleep(0.5)
            nursery.cancel_scope.cancel()

    async def _calm(self) -> float:
        """Wait until it is subscribed, and end its first life; return the seconds that a later one has."""
        assert self.command is not None
        began = trio.current_time()
        await self.command.until_event("health-up", seconds=2 * _PATIENCE)
        limit = self.told.limit + 0.7 * (trio.current_time() - began)
        (self.folder / "limit").write_text(str(limit))
        if self.told.case.victim != "task":
            victim = self.told.case.victim
            pid = self.command.pid if victim == "process" else self.command.half(victim)
            self.command.signal(signal.SIGKILL, pid)
        return limit

    def _plan(self) -> None:
        """Each line that ran at its first hit, and at a later one; or a sample of these."""
        counts: dict[str, int] = {}
        for index in _COUNTS:
            for line in (self.folder / f"counted-{index}").read_text().splitlines():
                place, _, times = line.rpartition(":")
                counts[place] = max(counts.get(place, 0), int(times))
        chance = random.Random(f"{self.told.seed} {self.told.case.name}")
        points = []
        for place, count in sorted(counts.items()):
            points.append(f"{place}:1")
            if count > 3:
                points.append(f"{place}:{chance.randint(2, max(2, count // 2))}")
        chance.shuffle(points)
        (self.folder / "begun").write_text("\n".join([CALM, *[COUNT] * len(_COUNTS), *points[: self.told.sample]]))
        (self.folder / "begun").rename(self.folder / "plan")
        (self.folder / "final").touch()

    async def _talk(self) -> None:
        while True:
            if self.talker.unacknowledged.value < 200:
                for qos in self.told.case.qos:
                    self.talker.say(f"crash/in/{qos}", b"%d" % self.published, qos)
                self.published += 1
            await trio.sleep(0.02)

    async def _trouble(self) -> None:
        """Be a broker that stands still, or is away, for most of the time."""
        kind = self.told.case.broker
        while kind != "works":
            await trio.sleep(_BACK)
            try:
                if kind == "stands still":
                    self._signal_broker(signal.SIGSTOP)
                else:
                    await self.broker.stop(signal.SIGTERM)
                await trio.sleep(_AWAY)
            finally:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + 20):
                    if kind == "stands still":
                        self._signal_broker(signal.SIGCONT)
                    else:
                        await self.broker.start()

    def _signal_broker(self, signum: signal.Signals) -> None:
        os.kill(self.broker.pid, signum)

    async def finish(self, trouble: list[str]) -> Judgement:
        """Let all come that is promised, and judge."""
        (self.folder / "over").touch()
        with trio.move_on_after(_PATIENCE) as scope:  # from now on, and from each time that some came
            await self.talker.until_acknowledged(_PATIENCE * 2)
            missing = self._judge().missing
            while missing:
                await trio.sleep(0.2)
                if (now := self._judge().missing) != missing:
                    missing, scope.deadline = now, trio.current_time() + _PATIENCE
            await trio.sleep(0.5)
        if scope.cancelled_caught:
            trouble.append("not all that is promised came in time")
        return self._judge()

    def _judge(self) -> Judgement:
        came = {qos: self.listener.heard[f"crash/out/{qos}"] for qos in self.told.case.qos}
        published = self.published - (-(-self.talker.unacknowledged.value // len(self.told.case.qos)))
        return judge(self.told.case, self.folder, came, max(published, 0))
