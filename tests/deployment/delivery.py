"""The table of docs/delivery.md as a program reads it, and a deployment in which each of its faults can happen."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import uuid
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

import attrs
import msgspec
import trio

from taktora_trio.transport.domain import Domain
from tests.brokers.listener import Listener, Talker, open_listener, open_talker
from tests.brokers.packets import PUBACK, PUBCOMP, PUBLISH
from tests.brokers.sessions import Kind
from tests.brokers.tap import ACKNOWLEDGEMENTS, EVERYTHING, LAST_WORDS, Tap, open_tap
from tests.command import ROOT, Command, open_command
from tests.deployment.delivery_apps import LEVELS, VARIABLE, WINDOW, Setting
from tests.mosquitto import Mosquitto, open_mosquitto

__all__ = ["Direction", "Outcome", "Rig", "Row", "open_rig", "outcome_of", "read_table"]

Direction: TypeAlias = Literal["out", "in"]
Outcome: TypeAlias = str
"""`once`, `lost`, `twice`, or `lost, twice`: what becomes of messages at the worst."""
TARGET = "tests.deployment.delivery_apps:deployment"
PAGE = ROOT / "docs" / "delivery.md"
_PRINTED = re.compile(r"\b(heard|sent|overflow|opened|ready|paused) (\d)(?: (\d+))?")


@attrs.frozen
class Row:
    fault: str
    shape: str
    direction: Direction
    outcomes: tuple[Outcome, ...]
    """At QoS 0, 1 and 2."""
    test: str
    """The name of the test that shows it."""


def read_table() -> list[Row]:
    """The rows of the table in docs/delivery.md."""
    lines = PAGE.read_text().split("<!-- table: begin -->")[1].split("<!-- table: end -->")[0].strip().splitlines()
    rows = []
    for line in lines[2:]:
        fault, shape, direction, *outcomes, test = [cell.strip() for cell in line.strip().strip("|").split("|")]
        assert direction in ("out", "in"), line
        rows.append(Row(fault, shape, direction, tuple(outcomes), test.strip("`")))  # type: ignore[arg-type]
    return rows


def outcome_of(came: Iterable[int], sent: Iterable[int]) -> Outcome:
    counts = Counter(came)
    wanted = set(sent)
    assert set(counts) <= wanted, f"came, and was never sent: {sorted(set(counts) - wanted)}"
    found = []
    if wanted - set(counts):
        found.append("lost")
    if any(count > 1 for count in counts.values()):
        found.append("twice")
    return ", ".join(found) or "once"


@attrs.define
class Rig:
    """A deployment whose app does what it is told, a tap before its broker, and both sides' view of every number."""

    mode: str
    broker: Mosquitto
    domain: Domain
    tap: Tap
    listener: Listener
    talker: Talker
    pipe: Path
    session: Kind
    store: Path | None
    """The folder of its store; `None` for none."""
    window: int = WINDOW
    """Of each of its channels."""
    heard: defaultdict[int, list[int]] = attrs.field(factory=lambda: defaultdict(list))
    """What the app has heard, at each QoS."""
    told: set[tuple[str, int, int]] = attrs.field(factory=set)
    """What else it has printed."""
    counts: Counter[str] = attrs.field(factory=Counter)
    _run: Command | None = None
    _lines: int = 0

    @property
    def run(self) -> Command:
        assert self._run is not None
        return self._run

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Command]:
        """A run of it, which is connected, and has its readers, when the block begins."""
        setting = Setting(str(self.pipe), self.session.fields, str(self.store or ""), self.window)
        arguments = ("run", TARGET, "--mode", self.mode, "--broker", self.tap.url, "--domain", self.domain.name)
        env = {VARIABLE: msgspec.json.encode(setting).decode()}
        async with open_command(*arguments, "--await-broker", env=env) as self._run:
            self._lines = 0
            before = self.counts["opened"]
            await self.run.until_event("health-up")
            await self.until(lambda: self.counts["opened"] >= before + len(LEVELS))
            yield self.run
            if self.run.process.returncode is None:
                self.run.signal(signal.SIGTERM)
                assert await self.run.wait(15) == 0

    async def until(self, ready: Callable[[], bool], seconds: float = 30) -> None:
        """Wait until this is so, after something that the app has printed."""

        def look() -> bool | None:
            self._look()
            return ready() or None

        await self.run.until(look, f"progress; heard {dict(self.heard)}", seconds)

    def order(self, *words: str | int) -> None:
        with self.pipe.open("ab", buffering=0) as pipe:
            pipe.write(" ".join(map(str, words)).encode() + b"\n")

    def say(self, first: int, end: int, levels: Iterable[int] = LEVELS) -> None:
        """Publish these numbers to the app, at each QoS."""
        for number in range(first, end):
            for qos in levels:
                self.talker.say(f"delivery/in/{qos}", b"%d" % number, qos)

    def has_sent(self, number: int) -> bool:
        return all(("sent", qos, number) in self.told for qos in LEVELS)

    async def send(self, first: int, end: int, *, until_stored: bool = False) -> None:
        """Have the app send these, and wait until it has; at QoS 1 and 2 also until its receipts say: stored."""
        self.order("store" if until_stored else "send", first, end)
        await self.until(partial(self.has_sent, end - 1))

    async def pause(self) -> None:
        """Have the app work off nothing more; each reader takes one message, and holds it."""
        before = self.counts["paused"]
        self.order("pause")
        await self.until(lambda: self.counts["paused"] > before)

    async def hold(self) -> None:
        """Have each reader of the app work at one more message, and never be done with it."""
        before = self.counts["paused"]
        self.order("hold")
        await self.until(lambda: self.counts["paused"] > before)

    async def say_to_gateway(self, first: int, end: int) -> None:
        """Publish these to the app, at each QoS, and wait until they are on their way to the gateway."""
        down = self.tap.down[PUBLISH]
        self.say(first, end)
        await self.tap.until_seen("down", PUBLISH, down + (end - first) * len(LEVELS))

    async def until_app_heard(self, number: int, levels: Iterable[int] = LEVELS) -> None:
        await self.until(lambda: all(number in self.heard[qos] for qos in levels))

    async def until_outside_heard(self, number: int, levels: Iterable[int] = LEVELS) -> None:
        wanted = b"%d" % number
        with trio.move_on_after(30) as scope:
            await self.listener.changes.wait_value(
                lambda _: all(wanted in self.listener.heard[f"delivery/out/{qos}"] for qos in levels)
            )
        assert not scope.cancelled_caught, f"outside was heard {dict(self.listener.heard)}"

    async def exchange(self, first: int, end: int) -> None:
        """Numbers both ways, until all have arrived, and the gateway has acknowledged those for the app."""
        async with self.acknowledging(end - first, end - first):
            self.say(first, end)
            await self.send(first, end)
            await self.until_app_heard(end - 1)
            await self.until_outside_heard(end - 1)

    @contextlib.asynccontextmanager
    async def acknowledging(self, at_qos_1: int, at_qos_2: int) -> AsyncIterator[None]:
        """At the end of the block wait until the gateway has acknowledged so many more, whether or not that arrives."""
        puback, pubcomp = self.tap.up[PUBACK], self.tap.up[PUBCOMP]
        yield
        await self.tap.until_seen("up", PUBACK, puback + at_qos_1)
        await self.tap.until_seen("up", PUBCOMP, pubcomp + at_qos_2)

    async def have_much_on_the_way(self, *, the_app_too: bool = False) -> None:
        """Numbers 0 to 39, of which the connection is about to lose all that it can lose.

        With `the_app_too` it will be killed as well: what it has sent is stored, and of what has come it works at one
        message while others wait for it.

        At QoS 2 no more than 19 are on their way outbound, which is enough for some in each step of an exchange.
        """
        completed = self.tap.down[PUBCOMP]
        await self.exchange(0, 10)
        await self.tap.until_seen("down", PUBCOMP, completed + 10)  # none of these is on its way still
        # What arrives, and of which the sender will not learn: at first only the last word of an exchange is lost.
        self.tap.swallows = LAST_WORDS
        await self.exchange(10, 16)
        # Then each answer: an exchange of QoS 2 gets no further than its first step.
        self.tap.swallows = ACKNOWLEDGEMENTS
        async with self.acknowledging(7, 0):
            self.say(16, 23)
            await self.send(16, 23, until_stored=the_app_too)
            await self.until_app_heard(22)
            await self.until_outside_heard(22, (0, 1))
        if the_app_too:
            await self.hold()
        await self.say_to_gateway(23, 30)
        await self.until_app_heard(23 if the_app_too else 29)
        # And then the messages too.
        self.tap.swallows = EVERYTHING
        up, down = self.tap.up[PUBLISH], self.tap.down[PUBLISH]
        self.say(30, 40)
        await self.send(23, 40, until_stored=the_app_too)
        await self.tap.until_seen("up", PUBLISH, up + 17 + 17 + 6)
        await self.tap.until_seen("down", PUBLISH, down + 10 * len(LEVELS))
        self.tap.refuses = True

    def mend(self) -> None:
        """The network works again."""
        self.tap.swallows = frozenset()
        self.tap.refuses = False

    async def until_connected_again(self, since: int) -> None:
        """Wait for a connection that was logged after so many lines."""
        await self.run.until(
            lambda: any(entry.get("event") == "connected" for entry in self.run.log[since:]) or None, "connection", 30
        )

    def outcomes(self, numbers: Iterable[int], *, sent: Iterable[int] | None = None) -> dict[Direction, list[Outcome]]:
        """What became of the numbers inbound, and of those the app has sent."""
        self._look()
        inbound, outbound = list(numbers), list(numbers if sent is None else sent)
        outside = {qos: [int(payload) for payload in self.listener.heard[f"delivery/out/{qos}"]] for qos in LEVELS}
        for of_one_side in (outside, self.heard):
            for qos in LEVELS:
                firsts = list(dict.fromkeys(of_one_side[qos]))
                assert firsts == sorted(firsts), f"out of order at QoS {qos}: {of_one_side[qos]}"
        for way, of_one_side in (("out", outside), ("in", self.heard)):  # shown if the test fails
            for qos in LEVELS:
                counts = Counter(of_one_side[qos])
                missing = sorted(set(outbound if way == "out" else inbound) - set(counts))
                print(f"{way} {qos}: missing {missing}, twice {[n for n, count in counts.items() if count > 1]}")  # noqa: T201
        return {
            "out": [outcome_of(outside[qos], outbound) for qos in LEVELS],
            "in": [outcome_of(self.heard[qos], inbound) for qos in LEVELS],
        }

    def _look(self) -> None:
        output = self.run.output
        for line in output[self._lines :]:
            if found := _PRINTED.search(line):
                what, qos, number = found.groups()
                self.counts[what] += 1
                if what == "heard":
                    self.heard[int(qos)].append(int(number))
                elif number is not None:
                    self.told.add((what, int(qos), int(number)))
        self._lines = len(output)


@contextlib.asynccontextmanager
async def open_rig(
    mode: str, session: Kind, folder: Path, domain: Domain, *, store: Path | None = None
) -> AsyncIterator[Rig]:
    """All but the deployment, which `running` starts."""
    pipe = folder / f"orders-{uuid.uuid4().hex[:8]}"
    os.mkfifo(pipe)
    keep = os.open(pipe, os.O_RDWR)  # so that orders outlive whoever is to read them
    try:
        async with (
            open_mosquitto(folder, ["persistence true", f"persistence_location {folder}/"]) as broker,
            open_listener(broker.port, {f"delivery/out/{qos}": qos for qos in LEVELS}) as listener,
            open_talker(broker.port) as talker,
            open_tap(broker.port) as tap,
        ):
            yield Rig(mode, broker, domain, tap, listener, talker, pipe, session, store)
    finally:
        os.close(keep)
