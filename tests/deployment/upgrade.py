"""An app whose code is replaced on the disk while it runs, with traffic both ways, and what became of every number."""

from __future__ import annotations

import contextlib
import re
import signal
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import TypeAlias

import attrs
import msgspec
import trio

from taktora_trio.transport.domain import Domain
from tests.brokers.listener import Listener, Talker, open_listener, open_talker
from tests.command import Command, open_command
from tests.mosquitto import Mosquitto

__all__ = ["COMPATIBLE", "FIRST", "OTHER_WINDOW", "Upgrade", "Version", "open_upgrade"]

LEVELS = (1, 2)
_PACE = 0.004  # seconds between two messages of a channel
_SENT = re.compile(r"\bsent (\d) (\S+) (\d+)")

# A bill says which version wrote it. The app numbers its ticks, and says at its end how many it has sent.
_SOURCE = """
import os
import sys

import msgspec
import trio

from taktora_trio import Backoff, Deployment, Inbound, MqttConnector, MqttRouting, Outbound, RestartPolicy

VERSION = {number}
if {says!r}:
    print({says!r}, file=sys.stderr, flush=True)
SERIES = f"{{os.getpid()}}-{{os.urandom(4).hex()}}"


class Order(msgspec.Struct):
    number: int
    {field}


class Bill(msgspec.Struct):
    number: int
    version: int
    {field}


class Tick(msgspec.Struct):
    series: str
    number: int


ORDERS = {{qos: Inbound(f"orders{{qos}}", Order, MqttRouting(f"shop/orders/{{qos}}", qos=qos)) for qos in (1, 2)}}
BILLS = {{qos: Outbound(f"bills{{qos}}", Bill, MqttRouting(f"shop/bills/{{qos}}", qos=qos)) for qos in (1, 2)}}
TICKS = {{
    qos: Outbound(f"ticks{{qos}}", Tick, MqttRouting(f"shop/ticks/{{qos}}", qos=qos), window={window}) for qos in (1, 2)
}}


async def serve(host, qos):
    async with host.open_reader(ORDERS[qos]) as orders, host.open_writer(BILLS[qos]) as bills:
        async for received in orders:
            await bills.send(Bill(received.value.number, VERSION))


async def tick(host, qos):
    sent = 0
    async with host.open_writer(TICKS[qos]) as ticks:
        try:
            while True:
                await ticks.send(Tick(SERIES, sent))
                sent += 1
                await trio.sleep({pace})
        finally:
            print(f"sent {{qos}} {{SERIES}} {{sent}}", flush=True)


async def app(host):
    print(f"version {{VERSION}} runs", flush=True)
    async with trio.open_nursery() as nursery:
        for qos in (1, 2):
            nursery.start_soon(serve, host, qos)
            nursery.start_soon(tick, host, qos)


_QUICK = Backoff(initial=0.02, maximum=0.1)
deployment = Deployment(
    "shop",
    app,
    [MqttConnector([*ORDERS.values(), *BILLS.values(), *TICKS.values()])],
    gateway_policy=RestartPolicy(restart="always", backoff=_QUICK, stop_grace=5.0),
    plugin_policy=RestartPolicy(restart="on-failure", backoff=_QUICK, stop_grace=5.0),
)
"""


@attrs.frozen
class Version:
    """What differs between two versions of the code."""

    number: int
    field: str = ""
    window: int = 64
    says: str = ""
    """What each process that imports it says."""


FIRST = Version(1)
COMPATIBLE = Version(2, field='note: str = "none"')
OTHER_WINDOW = Version(3, window=128)

Numbers: TypeAlias = list[int]


@attrs.define
class Upgrade:
    """The code, the broker, and both sides' view of every number."""

    folder: Path
    broker: Mosquitto
    domain: Domain
    listener: Listener
    talker: Talker
    _nursery: trio.Nursery
    _stack: contextlib.AsyncExitStack
    said: int = 0
    _is_silent: bool = False
    commands: list[Command] = attrs.field(factory=list)

    def install(self, version: Version) -> None:
        """Replace the code, in one step, as a package manager does it with a file."""
        values = attrs.asdict(version)
        new = self.folder / "shop.py.new"
        new.write_text(_SOURCE.format(**values, pace=_PACE))
        new.rename(self.folder / "shop.py")

    async def start(self, name: str, *more: str, env: Mapping[str, str] | None = None) -> Command:
        """Start a command of the deployment, which ends with the block at the latest."""
        options = ["--domain", self.domain.name, *more]
        if name != "plugin":
            options += ["--broker", self.broker.url, "--client-id", self.domain.name]
        # Python takes a module's compiled form by its time in seconds and its size.
        variables = {"PYTHONDONTWRITEBYTECODE": "1", **(env or {})}
        opening = open_command(name, "shop:deployment", *options, env=variables, cwd=self.folder)
        command = await self._stack.enter_async_context(opening)
        self.commands.append(command)
        return command

    async def ask(self, verb: str, *more: str) -> tuple[int, str]:
        """Ask the run for something, from another terminal. Return the exit code, and what was said."""
        arguments = (verb, "shop:deployment", "--domain", self.domain.name, *more)
        async with open_command(*arguments, json_log=False, cwd=self.folder) as command:
            code = await command.wait()
        return code, "\n".join([*command.output, *command.stderr])

    async def stop(self, command: Command) -> None:
        command.signal(signal.SIGTERM)
        assert await command.wait() == 0

    async def _talk(self) -> None:
        """Publish orders, until `silence`."""
        while not self._is_silent:
            for qos in LEVELS:
                self.talker.say(f"shop/orders/{qos}", b'{"number":%d}' % self.said, qos)
            self.said += 1
            await trio.sleep(_PACE)

    def place_orders(self) -> None:
        """Publish orders from now on. The broker has to know the deployment's session."""
        self._nursery.start_soon(self._talk)

    def silence(self) -> None:
        """Place no more orders."""
        self._is_silent = True

    async def until_billed(self, number: int, version: int | None = None) -> None:
        """Wait until each channel has a bill for an order of at least this number, written by this version."""

        def is_there(qos: int) -> bool:
            return any(
                bill["number"] >= number and version in (None, bill["version"])
                for bill in self._heard("bills", qos, 64)
            )

        with trio.move_on_after(30) as scope:
            await self.listener.changes.wait_value(lambda _: all(map(is_there, LEVELS)))
        last = {qos: self._heard("bills", qos, 1) for qos in LEVELS}
        said = "\n".join(line for command in self.commands for line in command.stderr[-30:])
        assert not scope.cancelled_caught, f"no bill of version {version} for {number}; the last are {last}\n{said}"

    async def until_served_by(self, version: int) -> None:
        """Wait until an order that is placed from now on was billed by this version."""
        await self.until_billed(self.said, version)

    async def until_all_heard(self) -> None:
        """Wait until every order was billed, and each tick has come that an app which has ended has sent."""
        await self.until_billed(self.said - 1)
        with trio.fail_after(30):
            await self.listener.changes.wait_value(
                lambda _: all(len(set(self._ticks(qos)[series])) >= sent for qos, series, sent in self._sent())
            )

    def check(self) -> int:
        """Check that nothing was lost and all came in order. Return how many orders were billed twice."""
        again = 0
        for qos in LEVELS:
            bills = self._heard("bills", qos)
            numbers = [bill["number"] for bill in bills]
            firsts = list(dict.fromkeys(numbers))
            assert firsts == list(range(self.said)), f"QoS {qos}: lost or out of order"
            again += len(numbers) - len(firsts)
            versions = [bill["version"] for bill in bills]
            assert versions == sorted(versions), f"QoS {qos}: an old app has billed after a new one"
            for series, ticks in self._ticks(qos).items():
                # A stop in order repeats nothing, whatever is replaced; at QoS 2 that is a promise.
                came = ticks if qos == 2 else list(dict.fromkeys(ticks))
                assert came == list(range(len(came))), f"QoS {qos}, series {series}: lost, repeated or out of order"
        for qos, series, sent in self._sent():
            assert len(set(self._ticks(qos)[series])) >= sent, f"QoS {qos}: the last ticks of series {series} are lost"
        assert self._sent(), "no app has ended"
        return again

    def _heard(self, what: str, qos: int, most: int = 0) -> list[dict[str, int]]:
        heard = self.listener.heard[f"shop/{what}/{qos}"]
        return [msgspec.json.decode(payload) for payload in heard[-most:]]

    def _ticks(self, qos: int) -> dict[str, Numbers]:
        series: defaultdict[str, Numbers] = defaultdict(list)
        for tick in self._heard("ticks", qos):
            series[str(tick["series"])].append(tick["number"])
        return series

    def _sent(self) -> list[tuple[int, str, int]]:
        lines = [line for command in self.commands for line in command.output]
        found = [match.groups() for line in lines if (match := _SENT.search(line))]
        return [(int(qos), series, int(sent)) for qos, series, sent in found]


@contextlib.asynccontextmanager
async def open_upgrade(folder: Path, broker: Mosquitto, domain: Domain) -> AsyncIterator[Upgrade]:
    """The first version is installed, and nothing runs yet."""
    topics = {f"shop/{what}/{qos}": qos for what in ("bills", "ticks") for qos in LEVELS}
    async with (
        open_listener(broker.port, topics) as listener,
        open_talker(broker.port) as talker,
        trio.open_nursery() as nursery,
        contextlib.AsyncExitStack() as stack,
    ):
        upgrade = Upgrade(folder, broker, domain, listener, talker, nursery, stack)
        upgrade.install(FIRST)
        yield upgrade
        nursery.cancel_scope.cancel()
