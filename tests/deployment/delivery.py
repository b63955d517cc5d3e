"""A deployment in which each fault of the table in docs/delivery.md can happen."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from pathlib import Path

import attrs
import msgspec
import trio

from taktora_trio.transport.domain import Domain
from tests.brokers.listener import Listener, Talker, open_listener, open_talker
from tests.brokers.packets import PUBACK, PUBCOMP, PUBLISH
from tests.brokers.sessions import Kind
from tests.brokers.tap import ACKNOWLEDGEMENTS, EVERYTHING, LAST_WORDS, Tap, open_tap
from tests.deployment.delivery_apps import LEVELS, VARIABLE, WINDOW, Setting
from tests.deployment.delivery_table import Direction, Outcome, outcome_of
from tests.deployment.obeying import ObedientRun, open_pipe
from tests.mosquitto import Mosquitto, open_mosquitto

__all__ = ["Rig", "open_rig"]

TARGET = "tests.deployment.delivery_apps:deployment"


@attrs.define(kw_only=True)
class Rig(ObedientRun):
    """A deployment whose app does what it is told, a tap before its broker, and both sides' view of every number."""

    levels: Sequence[int] = LEVELS

    mode: str
    broker: Mosquitto
    domain: Domain
    tap: Tap
    listener: Listener
    talker: Talker
    session: Kind
    store: Path | None
    """The folder of its store; `None` for none."""
    window: int = WINDOW
    """Of each of its channels."""

    def command(self) -> tuple[Sequence[str], Mapping[str, str]]:
        setting = Setting(str(self.pipe), self.session.fields, str(self.store or ""), self.window)
        arguments = ("run", TARGET, "--mode", self.mode, "--broker", self.tap.url, "--domain", self.domain.name)
        return (*arguments, "--await-broker"), {VARIABLE: msgspec.json.encode(setting).decode()}

    def say(self, first: int, end: int, levels: Iterable[int] = LEVELS) -> None:
        """Publish these numbers to the app, at each QoS."""
        for number in range(first, end):
            for qos in levels:
                self.talker.say(f"delivery/in/{qos}", b"%d" % number, qos)

    async def say_to_gateway(self, first: int, end: int) -> None:
        """Publish these to the app, at each QoS, and wait until they are on their way to the gateway."""
        down = self.tap.down[PUBLISH]
        self.say(first, end)
        await self.tap.until_seen("down", PUBLISH, down + (end - first) * len(LEVELS))

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

    def outcomes(self, numbers: Iterable[int], *, sent: Iterable[int] | None = None) -> dict[Direction, list[Outcome]]:
        """What became of the numbers inbound, and of those the app has sent."""
        self.look()
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


@contextlib.asynccontextmanager
async def open_rig(
    mode: str, session: Kind, folder: Path, domain: Domain, *, store: Path | None = None
) -> AsyncIterator[Rig]:
    """All but the deployment, which `running` starts."""
    with open_pipe(folder) as pipe:
        async with (
            open_mosquitto(folder, ["persistence true", f"persistence_location {folder}/"]) as broker,
            open_listener(broker.port, {f"delivery/out/{qos}": qos for qos in LEVELS}) as listener,
            open_talker(broker.port) as talker,
            open_tap(broker.port) as tap,
        ):
            yield Rig(
                mode=mode,
                broker=broker,
                domain=domain,
                tap=tap,
                listener=listener,
                talker=talker,
                pipe=pipe,
                session=session,
                store=store,
            )
