"""A split deployment under fire, both directions at a steady rate, and what became of every number."""

from __future__ import annotations

import contextlib
import random
import re
import signal
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import attrs
import trio

from taktora_trio.transport.domain import Domain
from tests.brokers.listener import Listener, Talker, open_listener, open_talker
from tests.brokers.sessions import Kind
from tests.command import Command, open_command
from tests.deployment.lossless_apps import Plan, variable
from tests.mosquitto import Mosquitto

__all__ = ["Figures", "UnderFire", "figures_of", "open_under_fire", "out_topic"]

_PRINTED = re.compile(r"\b(heard|sent) (\d) ([\d ]+)")
TARGET = "tests.deployment.lossless_apps:deployment"


@attrs.frozen
class Figures:
    """What came of the numbers 0 to `expected` - 1, each of which was sent once."""

    expected: int
    lost: int
    reordered: int
    """First occurrences that came after a higher number."""
    repeated: int
    """Messages beyond the first of each number."""
    most: int
    """How often the same number came at most."""

    @property
    def is_lossless(self) -> bool:
        return self.lost == 0 and self.reordered == 0

    def __str__(self) -> str:
        return (
            f"{self.expected} sent, {self.lost} lost, {self.reordered} out of order, {self.repeated} repeated"
            f" (the same number at most {self.most} times)"
        )


def figures_of(numbers: list[int], expected: int) -> Figures:
    counts = Counter(numbers)
    highest, reordered = -1, 0
    for number in dict.fromkeys(numbers):
        reordered += number < highest
        highest = max(highest, number)
    assert all(0 <= number < expected for number in counts), "a number came that was never sent"
    return Figures(
        expected, expected - len(counts), reordered, len(numbers) - len(counts), max(counts.values(), default=0)
    )


def out_topic(qos: int) -> str:
    return f"lossless/out/{qos}"


@attrs.define
class UnderFire:
    """The deployment, who listens to it, and who talks to it."""

    plan: Plan
    run: Command
    listener: Listener
    talker: Talker
    said: int = 0
    """How many numbers the talker has published on each inbound channel."""
    heard: defaultdict[int, list[int]] = attrs.field(factory=lambda: defaultdict(list))
    """What the app has heard, at each QoS."""
    sent: defaultdict[int, list[int]] = attrs.field(factory=lambda: defaultdict(list))
    """How many numbers the app has sent, at each QoS, once it has stopped."""
    _lines: int = 0

    async def talk(self) -> None:
        """Publish numbers at the rate of the plan until cancelled."""
        began = trio.current_time()
        while True:
            due = int((trio.current_time() - began) * self.plan.rate) - self.said
            for _ in range(due):
                for qos in self.plan.into:
                    self.talker.say(f"lossless/in/{qos}", b"%d" % self.said, qos)
                self.said += 1
            await trio.sleep(0.01)

    async def kill_gateways(self, kills: int, chance: random.Random) -> None:
        """At random moments of their lives: most while they carry messages, some from their very start on."""
        for incarnation in range(1, kills + 1):
            await self.run.until_event("process-started", half="gateway", count=incarnation)
            if chance.random() < 0.75:
                await self.until_connected()
            await trio.sleep(chance.uniform(0, 0.4))
            self.run.signal(signal.SIGKILL, self.run.half("gateway"))
        await self.run.until_event("process-started", half="gateway", count=kills + 1)

    async def restart_broker(self, broker: Mosquitto, times: int, chance: random.Random) -> None:
        """So that it keeps what it has: sessions, and what waits for their clients."""
        for _ in range(times):
            await self.until_connected()
            await trio.sleep(chance.uniform(0.2, 0.8))
            before = len(self.run.log)
            await broker.stop(signal.SIGTERM)
            await trio.sleep(chance.uniform(0, 0.3))
            await broker.start()
            await self.run.until(partial(self._connected_since, before), "connection to the new broker", 30)

    def _connected_since(self, lines: int) -> bool | None:
        return any(entry.get("event") == "connected" for entry in self.run.log[lines:]) or None

    async def during(self, faults: Awaitable[None]) -> None:
        """Talk while the faults happen."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.talk)
            await faults
            nursery.cancel_scope.cancel()

    async def until_connected(self) -> None:
        """Wait until the gateway that was started last is connected."""
        await self.run.until_event("connected", pid=self.run.half("gateway"), seconds=30)

    def look(self) -> None:
        """Read what the app has printed since this was done last."""
        output = self.run.output
        for line in output[self._lines :]:
            if found := _PRINTED.search(line):
                what, qos, numbers = found.groups()
                into = self.heard if what == "heard" else self.sent
                into[int(qos)] += [int(number) for number in numbers.split()]
        self._lines = len(output)

    def has_stopped(self, qos: int) -> bool:
        return bool(self.sent[qos])

    def has_heard(self, qos: int, number: int) -> bool:
        return self.heard[qos][-1:] == [number]

    async def until_app(self, ready: Callable[[], bool], what: str, seconds: float) -> None:
        """Wait until this is so, after something that the app has printed."""

        def look() -> bool | None:
            self.look()
            return ready() or None

        await self.run.until(look, what, seconds)

    async def finish(self, seconds: float) -> tuple[dict[int, Figures], dict[int, Figures]]:
        """Stop sending, wait for the last number of each channel, and return what came, out and in."""
        await self.until_connected()
        self.talker.say("lossless/stop", b"", 1)
        await self.talker.until_acknowledged(seconds)
        out, into = {}, {}
        for qos in self.plan.out:
            await self.until_app(partial(self.has_stopped, qos), f"count of QoS {qos}", seconds)
            [sent] = self.sent[qos]
            await self.listener.until_heard(out_topic(qos), b"%d" % (sent - 1), seconds)
            out[qos] = figures_of([int(payload) for payload in self.listener.heard[out_topic(qos)]], sent)
        for qos in self.plan.into:
            last = self.said - 1
            await self.until_app(partial(self.has_heard, qos, last), f"{last} of QoS {qos}", seconds)
            into[qos] = figures_of(self.heard[qos], self.said)
        return out, into


@contextlib.asynccontextmanager
async def open_under_fire(
    session: Kind, plan: Plan, broker: Mosquitto, domain: Domain, url: str | None = None
) -> AsyncIterator[UnderFire]:
    """Everybody is connected when the block begins, the deployment by this URL if one is given.

    At the end of the block it is stopped, and must end well.
    """
    run = ("run", TARGET, "--mode", "split", "--broker", url or broker.url, "--domain", domain.name)
    plan.options = {**session.fields, **plan.options}
    async with (
        open_listener(broker.port, {out_topic(qos): qos for qos in plan.out} or {"nothing": 0}) as listener,
        open_talker(broker.port) as talker,
        open_command(*run, env=variable(plan)) as command,
    ):
        await command.until_event("health-up")
        yield UnderFire(plan, command, listener, talker)
        command.signal(signal.SIGTERM)
        assert await command.wait(15) == 0
