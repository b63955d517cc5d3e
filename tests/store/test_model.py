"""What the log promises, against a model: any order of appends, settles, commits, failures, restarts and power cuts."""

from __future__ import annotations

import errno
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.lowlevel
from hypothesis import given, settings
from hypothesis import strategies as st

from taktora_trio.errors import StoreError
from taktora_trio.store import Log, LogChannel, StoreFull, open_log
from tests.store.forgetting import ForgettingDisk
from tests.store.fuse import MountedDisk

FOLDER = Path("/var/store")
NAMES = ("one", "two", "three")

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.sampled_from(NAMES), st.integers(1, 40)),
        st.tuples(st.just("large"), st.sampled_from(NAMES), st.integers(1, 3)),
        st.tuples(st.just("settle"), st.sampled_from(NAMES), st.integers(0, 2**32)),
        st.tuples(st.just("done"), st.sampled_from(NAMES), st.integers(0, 2**32)),
        st.tuples(st.just("put"), st.sampled_from(NAMES), st.integers(0, 5)),
        st.tuples(st.just("commit"), st.just(""), st.just(0)),
        st.tuples(st.just("turn"), st.just(""), st.just(0)),
        st.tuples(st.just("read"), st.sampled_from(NAMES), st.integers(0, 2**32)),
        st.tuples(st.just("stop"), st.just(""), st.just(0)),
        st.tuples(st.just("kill"), st.just(""), st.just(0)),
        st.tuples(st.just("cut"), st.just(""), st.integers(1, 12)),
        st.tuples(st.just("fail"), st.just(""), st.integers(1, 3)),
    ),
    max_size=40,
)


WEIGHTS = {
    "append": 20, "large": 10, "settle": 6, "done": 10, "put": 3, "commit": 10, "turn": 10, "read": 5, "fail": 3,
    "stop": 1, "kill": 2, "cut": 4,
}  # fmt: skip


def a_life(chance: random.Random, steps: int) -> list[tuple[str, str, int]]:
    """Return many steps, in which the log gets full, is compacted, and goes through many ends."""
    kinds = chance.choices(list(WEIGHTS), list(WEIGHTS.values()), k=steps)
    slow = chance.choice(NAMES)  # little of it is ever settled
    life = []
    for kind in kinds:
        name = slow if chance.random() < 0.1 else chance.choice(NAMES)
        if kind == "done" and name != slow:
            life.append(("settle all", name, 0))
        else:
            number = {"append": 40, "large": 3, "fail": 3, "put": 5}.get(kind, 2**32)
            life.append((kind, name, chance.randint(1, number)))
    return life


class Model:
    """What was appended to a channel, and what of it was promised."""

    def __init__(self) -> None:
        self.content: dict[int, bytes] = {}
        self.settled: set[int] = set()  # with or without a commit
        self.forgotten: set[int] = set()  # settled, and that is on the disk
        self.stored = 0
        self.value = self.promised = 0
        self.values: set[int] = {0}  # those that may be there after a kill


class Run:
    """One disk, and the logs that are opened on it one after another."""

    def __init__(
        self, chance: random.Random, disk: ForgettingDisk | MountedDisk | None = None, folder: Path = FOLDER
    ) -> None:
        self.disk = disk or ForgettingDisk()
        self.folder = folder
        self.chance = chance
        self.models = {name: Model() for name in NAMES}
        self.failures = 0
        self.disk.tree.before = self.fail

    def fail(self, operation: str) -> None:
        if self.failures and operation in ("write", "sync", "create", "remove", "rename"):
            self.failures -= 1
            raise OSError(self.chance.choice((errno.ENOSPC, errno.EIO, errno.EROFS)), "as the test wants it")

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Log]:
        async with open_log(self.folder, identity="me", max_bytes=2**17, close_timeout=0.02, disk=self.disk) as log:
            yield log

    async def steps(self, steps: list[tuple[str, str, int]]) -> None:
        """Do these, each run of the log up to the step that ends it."""
        while steps:
            async with self.opened() as log:
                await self.check(log)
                ended, steps = await self.until_end(log, steps)
                if ended == "stop":
                    await log.commit()
                    self.committed(log, everything=True)
                if ended == "cut":
                    self.disk.tree.cut_at = self.disk.tree.operations + self.chance.randrange(1, 9)
                    with trio.move_on_after(0.005):
                        await log.commit()
                    self.promise(log)
                    self.disk.tree.cut_at = 0
                if ended == "kill":
                    self.promise(log)
                    self.disk.tree.before = self.dead
            while self.disk.locks:  # noqa: ASYNC110 - a thread that the log gave up still runs, and has no event
                await trio.sleep(0.001)
            self.disk.tree.before = self.fail
            self.failures = 0
            if ended == "cut":
                self.disk.tree.cut(self.chance)
        async with self.opened() as log:
            await self.check(log)

    def dead(self, operation: str) -> None:
        raise OSError(errno.EIO, "a killed process does nothing")

    async def until_end(self, log: Log, steps: list[tuple[str, str, int]]) -> tuple[str, list[tuple[str, str, int]]]:
        for at, (step, name, number) in enumerate(steps):
            if step in ("stop", "kill", "cut"):
                return step, steps[at + 1 :]
            if step == "fail":
                self.failures = number
            elif step == "commit":
                await log.commit()
                self.committed(log, everything=True)
            elif step == "turn":
                await trio.lowlevel.checkpoint()
            else:
                await self.touch(log.channel(name), self.models[name], step, number)
            self.promise(log)
        return "stop", []

    async def touch(self, channel: LogChannel, model: Model, step: str, number: int) -> None:
        if step in ("append", "large"):
            try:
                for _ in range(number if step == "append" else 1):
                    content = self.chance.randbytes(self.chance.randrange(20) if step == "append" else number * 7000)
                    used = channel.append(content, epoch=3, sequence=channel.last + 1)
                    assert used not in model.content, "a number was given twice"
                    model.content[used] = content
            except StoreFull:
                pass
        elif step == "put":
            channel.put("value", number)
            model.value = number
            model.values.add(number)
        elif step == "read":
            await self.read(channel, model, after=number % (channel.last + 1))
        elif step == "settle all":
            channel.settle(1, channel.last)
            model.settled.update(range(1, channel.last + 1))
        else:
            first = number % (channel.last + 2)
            last = first if step == "settle" else first + number % 30
            channel.settle(first, last)
            model.settled.update(range(first, min(last, channel.last) + 1))

    def promise(self, log: Log) -> None:
        """Note what the log says of itself."""
        for name, model in self.models.items():
            model.stored = log.channel(name).stored

    def committed(self, log: Log, *, everything: bool) -> None:
        self.promise(log)
        for name, model in self.models.items():
            assert model.stored == log.channel(name).last == max(model.content, default=0)
            model.forgotten = set(model.settled)
            model.values = {model.value}

    async def read(self, channel: LogChannel, model: Model, after: int = 0) -> list[int]:
        numbers: list[int] = []
        while True:
            try:
                records = await channel.read(after, 7)
            except StoreError:
                continue
            if not records:
                return numbers
            for record in records:
                assert record.content == model.content[record.number]
                assert (record.epoch, record.sequence) == (3, record.number)
                assert record.number > after
                after = record.number
            numbers += [record.number for record in records]

    async def check(self, log: Log) -> None:
        """What is there is what was promised, and nothing that was never appended, in order."""
        for name, model in self.models.items():
            channel = log.channel(name)
            numbers = set(await self.read(channel, model))
            promised = {number for number in model.content if number <= model.stored} - model.settled
            assert promised <= numbers, "lost"
            assert not numbers & model.forgotten, "there again, though settled"
            assert channel.count == len(numbers)
            assert channel.values.get("value", 0) in model.values
            assert channel.last >= model.stored
            # What was never stored is gone; from here on, what is there is what there was.
            for number in [number for number in model.content if number > channel.last]:
                del model.content[number]
            model.settled = set(model.content) - numbers
            model.forgotten = set(model.settled)
            model.stored = channel.stored
            model.value = channel.values.get("value", 0)
            model.values = {model.value}
        assert log.damage == ""
        assert log.used == sum(channel.size for channel in log.channels.values())


@pytest.fixture(scope="module", autouse=True)
def _no_patience() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("taktora_trio.store.log._RETRY_AFTER", 0.001)
        yield


@settings(max_examples=50)
@given(STEPS, st.randoms(use_true_random=False))
def test_what_is_promised_is_there_after_any_failure(steps: list[tuple[str, str, int]], chance: random.Random) -> None:
    trio.run(Run(chance).steps, steps)


@settings(max_examples=6)
@given(st.randoms(use_true_random=True))
def test_what_is_promised_is_there_after_a_long_life(chance: random.Random) -> None:
    run = Run(chance)
    trio.run(run.steps, a_life(chance, 150))
