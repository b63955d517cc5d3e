"""Four deployments and one broker, what is done to them all the time, and samples of what they take."""

from __future__ import annotations

import contextlib
import random
import signal
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import attrs
import msgspec
import trio

from taktora_trio.chaos.faulty import FOLDER_VARIABLE, Instructions
from taktora_trio.chaos.looking import look_until
from taktora_trio.chaos.subject import Subject, open_subject
from taktora_trio.transport.domain import Domain
from tests.brokers.listener import Listener, Talker, open_listener, open_talker
from tests.mosquitto import Mosquitto, open_mosquitto
from tests.soak import app
from tests.soak.limits import Key
from tests.soak.sampling import files_in, look_at_files, look_at_process

__all__ = ["KINDS", "Kind", "Soaked", "soak"]

TARGET = "tests.soak.app:deployment"
_BROKER_EVERY, _BROKER_AWAY = 7.0, 0.7  # seconds
_TALK = 0.05  # seconds between two numbers to each app
_TEXT = 0.6  # seconds between two texts
_UNREADABLE = 9  # every so many numbers one that can't be read
_START_TIMEOUT = 60.0
_SETTLED = 2.0  # seconds after its start from which on a process is looked at
_TELL = 60.0  # seconds between two lines of what has happened so far
_MORE = 120.0  # seconds that the deployments live longer than they are looked at


@attrs.frozen
class Kind:
    """A deployment, and what is done to it."""

    name: str
    what: str
    mode: str
    more: tuple[str, ...] = ()
    kill_gateway: float | None = None
    """Seconds between two."""
    kill_plugin: float | None = None
    crash: float | None = None
    """Seconds between two crashes of the gateway inside the process."""


KINDS = (
    Kind("steady", "split; its broker alone is restarted", "split"),
    Kind("killed", "split, warm; its gateway is killed", "split", ("--warm",), kill_gateway=5.0),
    Kind("restarted", "split; its plugin is killed, and its gateway", "split", kill_gateway=9.0, kill_plugin=11.0),
    Kind("crashed", "in-process; its gateway crashes", "in-process", crash=5.0),
)


@attrs.define
class Soaked:
    """What has been seen."""

    series: dict[Key, list[tuple[float, float]]] = attrs.field(factory=dict)
    counts: Counter[str] = attrs.field(factory=Counter)
    """What has happened, by its name."""
    still: list[str] = attrs.field(factory=list)
    """In words: deployments that carried nothing, so that nothing was found out about them."""


@attrs.define
class _Deployment:
    kind: Kind
    subject: Subject
    folder: Path
    before: dict[str, int] = attrs.field(factory=dict)
    arrived: int = 0
    """At the broker."""
    received: int = 0
    """By the app, and by each that was started after it."""

    def report(self) -> app.Report | None:
        try:
            return msgspec.json.decode((self.folder / app.REPORT).read_bytes(), type=app.Report)
        except FileNotFoundError:
            return None

    def processes(self) -> Iterator[tuple[str, int]]:
        """Yield what it consists of, by role."""
        if self.kind.mode == "in-process":
            yield "process", self.subject.process.pid
            return
        yield "supervisor", self.subject.process.pid
        for role in ("plugin", "gateway"):
            if pid := self.subject.pid(role):
                yield role, pid
        if pid := self.subject.zygote():
            yield "zygote", pid


async def soak(
    seconds: float,
    every: float,
    seed: int,
    say: Callable[[str], None] = lambda line: None,
    kinds: Sequence[Kind] = KINDS,
) -> Soaked:
    """Churn for so long, with samples `every` so many seconds."""
    soaked, chance = Soaked(), random.Random(seed)
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        keeping = ["persistence true", f"persistence_location {folder}/"]
        broker = await stack.enter_async_context(open_mosquitto(folder, keeping))
        talker = await stack.enter_async_context(open_talker(broker.port))
        wanted = {f"soak/{kind.name}/{topic}": 0 for kind in kinds for topic in ("small", "whole")}
        listener = await stack.enter_async_context(open_listener(broker.port, wanted))
        deployments = [
            await stack.enter_async_context(_open(kind, broker, folder / kind.name, seconds)) for kind in kinds
        ]
        nursery = await stack.enter_async_context(trio.open_nursery())
        with trio.fail_after(_START_TIMEOUT):
            await look_until(lambda: all(deployment.report() is not None for deployment in deployments))
        for deployment in deployments:
            nursery.start_soon(_talk, talker, deployment.kind.name)
            nursery.start_soon(_churn, deployment, soaked.counts, chance)
        nursery.start_soon(_restart, broker, soaked.counts, chance)
        began, told = trio.current_time(), 0.0
        while (passed := trio.current_time() - began) <= seconds:
            await _sample(soaked, deployments, broker, passed)
            _count(soaked, deployments, listener)
            if passed >= told:
                told += _TELL
                say(f"{passed:.0f} s: {_in_words(soaked.counts)}")
            await trio.sleep_until(began + (passed // every + 1) * every)
        nursery.cancel_scope.cancel()
        for deployment in deployments:
            if deployment.subject.process.returncode is not None:
                raise RuntimeError(f"{deployment.kind.name} ended: {list(deployment.subject.last_lines)[-5:]}")
            soaked.still += _what_stood_still(deployment, seconds)
    return soaked


@contextlib.asynccontextmanager
async def _open(kind: Kind, broker: Mosquitto, folder: Path, seconds: float) -> AsyncIterator[_Deployment]:
    domain = Domain(f"soak-{uuid.uuid4().hex[:8]}")
    instructions, state = folder / "instructions", folder / "state"
    for each in (instructions, state):
        each.mkdir(parents=True)
    environment = {
        app.NAME: kind.name,
        app.FOLDER: str(folder),
        FOLDER_VARIABLE: str(instructions),
        "XDG_STATE_HOME": str(state),
    }
    async with open_subject(
        TARGET, domain, ["--broker", broker.url], environment, kind.more, mode=kind.mode, lifetime=seconds + _MORE
    ) as subject:
        yield _Deployment(kind, subject, folder)
    domain.forget()


# What is done


async def _churn(deployment: _Deployment, counts: Counter[str], chance: random.Random) -> None:
    kind, subject = deployment.kind, deployment.subject
    instructions = Instructions(deployment.folder / "instructions")

    def kill(half: str) -> None:
        if subject.signal(signal.SIGKILL, half):  # type: ignore[arg-type]
            counts[f"{half}s killed"] += 1

    def crash() -> None:
        if not instructions.is_waiting("crash-in-publish"):
            instructions.give("crash-in-publish")
            counts["gateways crashed"] += 1

    acts = (
        (kind.kill_gateway, partial(kill, "gateway")),
        (kind.kill_plugin, partial(kill, "plugin")),
        (kind.crash, crash),
    )
    async with trio.open_nursery() as nursery:
        for every, act in acts:
            if every is not None:
                nursery.start_soon(_again_and_again, act, every, chance)


async def _again_and_again(act: Callable[[], None], every: float, chance: random.Random) -> None:
    while True:
        await trio.sleep(every * chance.uniform(0.7, 1.3))
        act()


async def _restart(broker: Mosquitto, counts: Counter[str], chance: random.Random) -> None:
    while True:
        await trio.sleep(_BROKER_EVERY * chance.uniform(0.7, 1.3))
        await broker.stop(signal.SIGTERM)
        await trio.sleep(_BROKER_AWAY * chance.random())
        await broker.start()
        counts["broker restarts"] += 1


async def _talk(talker: Talker, name: str) -> None:
    """Publish numbers, some that can't be read, and texts, large and small."""
    large, sent = b'"%s"' % (b"x" * app.LARGE), 0
    while True:
        for _ in range(int(_TEXT / _TALK)):
            sent += 1
            payload = b"no number" if sent % _UNREADABLE == 0 else b"%d" % sent
            talker.say(f"soak/{name}/in/numbers/{sent % 5}", payload, sent % 2)
            await trio.sleep(_TALK)
        talker.say(f"soak/{name}/in/texts", large if sent % 2 else b'"small"', 2)


# What is seen


async def _sample(soaked: Soaked, deployments: list[_Deployment], broker: Mosquitto, at: float) -> None:
    now = time.time()
    found = await trio.to_thread.run_sync(_look, deployments, broker.pid if broker.is_running else None, now)
    for key, value in found.items():
        soaked.series.setdefault(key, []).append((at, value))


def _look(deployments: list[_Deployment], broker: int | None, now: float) -> dict[Key, float]:
    found: dict[Key, float] = {}
    for deployment in deployments:
        name, subject = deployment.kind.name, deployment.subject
        for role, pid in deployment.processes():
            for measure, value in look_at_process(pid, _SETTLED, now).items():
                found[name, role, measure] = value
        found[name, "all", "processes"] = len(subject.processes())
        with contextlib.suppress(OSError):  # a generation of files that is being removed
            files, megabytes = look_at_files(subject.domain.files())
            found[name, "all", "shared files"], found[name, "all", "shared memory"] = files, megabytes
        files, megabytes = look_at_files(files_in(deployment.folder / "state"))
        found[name, "all", "kept files"], found[name, "all", "kept on disk"] = files, megabytes
        report = deployment.report()
        if report is not None and deployment.kind.kill_plugin is None:
            found[name, "process" if deployment.kind.mode == "in-process" else "plugin", "blocks"] = report.blocks / 1e3
    if broker is not None:
        for measure, value in look_at_process(broker, 0, now).items():
            found["broker", "mosquitto", measure] = value
    return found


def _count(soaked: Soaked, deployments: list[_Deployment], listener: Listener) -> None:
    """Add what was done since the last sample."""
    for deployment in deployments:
        for topic in ("small", "whole"):
            heard = listener.heard[f"soak/{deployment.kind.name}/{topic}"]
            deployment.arrived += len(heard)
            soaked.counts["messages out"] += len(heard)
            heard.clear()
        report = deployment.report()
        if report is None:
            continue
        for what, word in (("received", "messages in"), ("refused", "messages refused"), ("opened", "ends opened")):
            value, before = getattr(report, what), deployment.before.get(what, 0)
            more = value - before if value >= before else value  # it was started again
            soaked.counts[word] += more
            deployment.before[what] = value
            deployment.received += more if what == "received" else 0


def _what_stood_still(deployment: _Deployment, seconds: float) -> Iterator[str]:
    if deployment.arrived < seconds:
        yield f"{deployment.kind.name}: only {deployment.arrived} messages arrived at the broker in {seconds:.0f} s"
    if deployment.received < seconds:
        yield f"{deployment.kind.name}: its app has received only {deployment.received} messages in {seconds:.0f} s"


def _in_words(counts: Counter[str]) -> str:
    return ", ".join(f"{count:,} {what}" for what, count in sorted(counts.items()))
