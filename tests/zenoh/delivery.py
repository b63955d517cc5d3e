"""A deployment in which each fault of the table in docs/zenoh-delivery.md can happen, and who is on the other side."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from pathlib import Path

import attrs
import msgspec
import trio

from taktora_trio import ChannelWriter, ConnectorHost, Up, open_deployment
from taktora_trio.testing.network import Network, open_network
from taktora_trio.testing.zenoh.router import ZenohRouter
from taktora_trio.transport.domain import Domain
from tests.command import ROOT
from tests.deployment.delivery_table import Direction, Outcome, outcome_of
from tests.deployment.obeying import ObedientRun, open_pipe
from tests.patience import PATIENCE
from tests.zenoh.delivery_apps import ACKNOWLEDGED, LEVELS, OUTSIDE_IN, OUTSIDE_OUT, VARIABLE, Setting, outside

__all__ = ["PAGE", "Outside", "Rig", "open_rig"]

PAGE = ROOT / "docs" / "zenoh-delivery.md"
TARGET = "tests.zenoh.delivery_apps:deployment"


@attrs.define
class Outside:
    """The app on the other side: in this process, with a gateway of its own, and now and then away."""

    endpoint: str
    domain: str
    nursery: trio.Nursery
    writers: list[ChannelWriter[bytes]] = attrs.field(factory=list)
    heard: defaultdict[int, list[int]] = attrs.field(factory=lambda: defaultdict(list))
    _news: trio.Event = attrs.field(factory=trio.Event)
    _there: trio.CancelScope | None = None
    _gone: trio.Event = attrs.field(factory=trio.Event)

    async def come(self) -> None:
        await self.nursery.start(self._serve)

    async def leave(self) -> None:
        assert self._there is not None
        self._there.cancel()
        await self._gone.wait()

    async def _serve(self, task_status: trio.TaskStatus[None]) -> None:
        self._gone = trio.Event()
        with trio.CancelScope() as self._there:
            async with (
                open_deployment(outside(self.endpoint), domain=self.domain) as host,
                contextlib.AsyncExitStack() as stack,
                trio.open_nursery() as nursery,
            ):
                self.writers = [
                    await stack.enter_async_context(host.open_writer(OUTSIDE_OUT[level])) for level in LEVELS
                ]
                for level in LEVELS:
                    nursery.start_soon(self._hear, host, level)
                with trio.fail_after(PATIENCE):
                    await host.wait_for_health(Up)
                task_status.started()
                await trio.sleep_forever()
        self._gone.set()

    async def _hear(self, host: ConnectorHost, level: int) -> None:
        async with host.open_reader(OUTSIDE_IN[level]) as reader:
            async for received in reader:
                self.heard[level].append(int(received.value))
                self._news.set()
                self._news = trio.Event()

    async def say(self, first: int, end: int, levels: Iterable[int] = LEVELS) -> None:
        for number in range(first, end):
            for level in levels:
                await self.writers[level].send(b"%d" % number)

    async def until_acknowledged(self) -> None:
        with trio.fail_after(PATIENCE):
            await self.writers[ACKNOWLEDGED].wait_acknowledged()

    async def until_heard(self, number: int, levels: Iterable[int] = LEVELS) -> None:
        wanted = list(levels)
        with trio.move_on_after(PATIENCE) as scope:
            while not all(number in self.heard[level] for level in wanted):
                await self._news.wait()
        assert not scope.cancelled_caught, f"outside was heard {dict(self.heard)}"


@attrs.define(kw_only=True)
class Rig(ObedientRun):
    """A deployment whose app does what it is told, a network before its router, and both sides' view of every number.

    Nobody keeps what is sent at most once, so each side waits until the other one is there.
    """

    mode: str
    router: ZenohRouter
    domain: Domain
    network: Network
    outside: Outside
    store: Path | None
    levels: Sequence[int] = LEVELS

    def command(self) -> tuple[Sequence[str], Mapping[str, str]]:
        setting = Setting(str(self.pipe), str(self.store or ""))
        where = ("--connect", f"tcp/127.0.0.1:{self.network.port}", "--domain", self.domain.name)
        return ("run", TARGET, "--mode", self.mode, *where), {VARIABLE: msgspec.json.encode(setting).decode()}

    async def exchange(self, first: int, end: int) -> None:
        """Numbers both ways, until all have arrived and those are acknowledged that can be."""
        await self.outside.say(first, end)
        await self.send(first, end, until_stored=True)
        await self.until_app_heard(end - 1)
        await self.outside.until_heard(end - 1)
        await self.outside.until_acknowledged()

    async def have_much_on_the_way(self, *, the_app_too: bool = False) -> None:
        """Numbers 0 to 29, of which the connection is about to lose all that it can lose.

        With `the_app_too` it will be killed as well: it has stored what it has sent, and works at one message.
        """
        await self.exchange(0, 10)
        await self.hold()
        await self.outside.say(10, 20)
        await self.until_app_heard(10)
        # What arrives, and of which the sender does not learn.
        self.network.mute()
        await self.send(10, 20, until_stored=the_app_too)
        await self.outside.until_heard(19)
        # And then all that is lost.
        self.network.fall_silent()
        self.network.is_down = True
        if not the_app_too:
            self.order("read")
        await self.send(20, 30, until_written=True)
        await self.outside.say(20, 30)

    async def say_too_much(self) -> None:
        """Publish number 10 to the app, as a hundred digits: the outside's own channels take them."""
        for writer in self.outside.writers:
            await writer.send(b"%0100d" % 10)

    def mend(self) -> None:
        """The network works again."""
        self.network.is_down = False

    def outcomes(self, numbers: Iterable[int], *, sent: Iterable[int] | None = None) -> dict[Direction, list[Outcome]]:
        """What became of the numbers inbound, and of those the app has sent."""
        self.look()
        inbound, outbound = list(numbers), list(numbers if sent is None else sent)
        for way, of_one_side in (("out", self.outside.heard), ("in", self.heard)):
            for level in LEVELS:
                came = of_one_side[level]
                firsts = list(dict.fromkeys(came))
                assert firsts == sorted(firsts), f"{way}: out of order at level {level}: {came}"
                missing = sorted(set(outbound if way == "out" else inbound) - set(came))
                print(f"{way} {level}: missing {missing}, twice {sorted({n for n in came if came.count(n) > 1})}")  # noqa: T201
        return {
            "out": [outcome_of(self.outside.heard[level], outbound) for level in LEVELS],
            "in": [outcome_of(self.heard[level], inbound) for level in LEVELS],
        }


@contextlib.asynccontextmanager
async def open_rig(
    mode: str, router: ZenohRouter, folder: Path, domain: Domain, *, store: Path | None = None
) -> AsyncIterator[Rig]:
    """All but the deployment, which `running` starts."""
    async with open_network(router.port) as network, trio.open_nursery() as nursery:
        there = Outside(router.endpoint, f"{domain.name}-outside", nursery)
        await there.come()
        with open_pipe(folder) as pipe:
            yield Rig(
                mode=mode,
                router=router,
                domain=domain,
                network=network,
                outside=there,
                pipe=pipe,
                store=store,
            )
        await there.leave()
