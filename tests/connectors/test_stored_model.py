"""A stored channel against a model of the other side: sends, cuts, kills, power cuts, in any order (hypothesis).

What is released is where its owner says it is, what is acknowledged the other side has, and nothing goes out of order.
Where a message is to come once, it always has the same number, and no other message ever has that number.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial
from typing import Literal, TypeAlias

import attrs
import pytest
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from taktora_trio import Store
from taktora_trio.channels import Envelope
from taktora_trio.connectors.connection import Guarantee
from taktora_trio.connectors.storing.message import decode
from taktora_trio.connectors.storing.outbound import StoredSource
from tests.connectors.memory_log import MemoryLog
from tests.connectors.test_stored import WINDOW, SharedMemory, stored

Step: TypeAlias = tuple[
    Literal["send", "publish", "acknowledge", "connect", "cut", "write", "pass", "kill gateway", "power cut"], int
]
STEPS = st.tuples(
    st.sampled_from(
        [*["send", "publish", "acknowledge"] * 2, "connect", "cut", "write", "pass", "kill gateway", "power cut"]
    ),
    st.integers(1, 5),
)


@attrs.define
class Model:
    """The app, the disk, and the other side; what a gateway has in memory is not in it."""

    policy: Store
    guarantee: Guarantee
    log: MemoryLog = attrs.field(factory=lambda: MemoryLog(commits=False))
    shared: SharedMemory = attrs.field(factory=lambda: SharedMemory(epoch=1))
    sent: list[bytes] = attrs.field(factory=list)
    """By the present app."""
    count: int = 0
    there: list[bytes] = attrs.field(factory=list)
    """What the other side has taken, in order."""
    known: dict[int, bytes] = attrs.field(factory=dict)
    """By number, what it was given."""
    promised: set[bytes] = attrs.field(factory=set)
    in_flight: list[Envelope] = attrs.field(factory=list)

    def send(self, count: int) -> None:
        for _ in range(min(count, WINDOW - self.shared.waiting)):
            self.sent.append(b"%d" % self.count)
            self.count += 1
            self.shared.send(self.sent[-1])

    def take(self, envelope: Envelope) -> None:
        """Be given a message, and keep it."""
        number = envelope.header.sequence_number
        if self.guarantee == "exactly once":
            assert self.known.setdefault(number, envelope.payload) == envelope.payload, "another under its number"
            if envelope.payload in self.there:
                assert envelope.payload in [self.known[number]]
                numbers = [other for other, payload in self.known.items() if payload == envelope.payload]
                assert numbers == [number], "it came again as another one"
        if envelope.payload not in self.there:
            newest = max((int(payload) for payload in self.there), default=-1)
            assert int(envelope.payload) > newest, "behind a newer one"
        self.there.append(envelope.payload)
        self.in_flight.append(envelope)

    def check(self) -> None:
        """Whatever a receipt says is true now."""
        records = self.log.power_cut().channel("out").records.values()
        on_disk = {decode(one.content, one.number, one.timestamp, "topic").payload for one in records}
        there = set(self.there)
        for number, payload in enumerate(self.sent, 1):
            if number <= self.shared.released:
                assert payload in on_disk | there, "released, and nobody has it"
                self.promised.add(payload)
            if number <= self.shared.acknowledged:
                assert payload in there, "acknowledged, and the other side has it not"

    def next_gateway(self) -> None:
        self.log = self.log.power_cut()
        after = self.shared.taken_over()
        count, after.sent = after.sent, after.released
        after.send(*self.sent[after.released : count])
        self.shared = after
        self.in_flight.clear()

    def next_run(self) -> None:
        self.log = self.log.power_cut()
        self.shared = SharedMemory(self.shared.epoch + 1)
        self.sent.clear()
        self.in_flight.clear()


async def _publish(model: Model, source: StoredSource, count: int) -> None:
    for _ in range(count):
        try:
            envelope = source.receive_nowait()
        except trio.WouldBlock:
            return
        if model.guarantee == "exactly once":
            source.begin(envelope.header, partial(model.take, envelope))
            await wait_all_tasks_blocked()
        else:
            model.take(envelope)


async def _acknowledge(model: Model, source: StoredSource, count: int) -> None:
    for envelope in model.in_flight[:count]:
        source.acknowledge(envelope.header)
    del model.in_flight[:count]


async def _run(steps: list[Step], policy: Store, guarantee: Guarantee) -> None:
    async with AsyncExitStack() as stack:
        await _steps(stack, Model(policy, guarantee), steps)


async def _steps(stack: AsyncExitStack, model: Model, steps: list[Step]) -> None:
    async def start() -> StoredSource:
        return await stack.enter_async_context(stored(model.policy, model.shared, model.log, guarantee=model.guarantee))

    source, is_connected = await start(), False
    for what, count in [*steps, ("power cut" if len(steps) % 2 else "kill gateway", 1)]:
        if what == "send":
            model.send(count)
        elif what == "publish" and is_connected:
            await _publish(model, source, count)
        elif what == "acknowledge" and is_connected:
            await _acknowledge(model, source, count)
        elif what in ("connect", "cut"):
            is_connected = what == "connect"
            source.connected(is_connected)
        elif what == "write":
            model.log.write()
        elif what == "pass":
            await trio.sleep(count / 5)
        elif what in ("kill gateway", "power cut"):
            await stack.aclose()
            model.check()
            model.next_gateway() if what == "kill gateway" else model.next_run()
            source, is_connected = await start(), False
        await wait_all_tasks_blocked()
        model.check()
    # All is well from now on: everything that lives comes.
    model.promised.update(model.sent)
    model.log.commits = True
    model.log.write()
    source.connected(True)
    for _ in range(20):
        await wait_all_tasks_blocked()
        model.log.write()
        await _publish(model, source, WINDOW)
        await _acknowledge(model, source, WINDOW)
        await trio.sleep(1)
    model.check()
    assert model.promised <= set(model.there), "lost"
    assert model.shared.acknowledged == model.shared.sent
    assert model.log.channel("out").count == 0


@pytest.mark.parametrize("guarantee", ["at least once", "exactly once"])
@pytest.mark.parametrize("policy", ["always", "when-behind"])
@settings(max_examples=40, deadline=None)
@given(steps=st.lists(STEPS, max_size=30))
@example(steps=[("send", 1), ("send", 1), ("connect", 1), ("publish", 2)])  # one on its way to disk, one not
@example(
    steps=[("connect", 1), ("send", 1), ("publish", 1), ("power cut", 1), ("send", 1), ("connect", 1), ("publish", 1)]
)
@example(steps=[("send", 3), ("connect", 1), ("publish", 1), ("acknowledge", 1), ("kill gateway", 1)])
def test_what_a_receipt_says_is_true(
    steps: list[Step], policy: Literal["always", "when-behind"], guarantee: Guarantee
) -> None:
    trio.run(_run, steps, Store(policy=policy), guarantee, clock=MockClock(autojump_threshold=0))
