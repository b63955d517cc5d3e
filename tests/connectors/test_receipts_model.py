"""Sends, receipts, and kills of either half between any two lines that count, against a model of the other side.

Shared memory, ports, writer, outbox and receipts are the real ones. A kill is an exception out of a store into what
both halves have mapped; then all that the half had is gone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import attrs
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taktora_trio import BackPressure, ChannelWriter, JsonCodec, MessageRefused
from taktora_trio.connectors.outbox import Outbox
from taktora_trio.connectors.pump import Pump
from taktora_trio.host.receipts import Receipt, _ForReceipt
from taktora_trio.transport import publisher
from taktora_trio.transport.domain import Domain
from taktora_trio.transport.source import PayloadSource
from tests.connectors.rig import FakeConnection
from tests.host.rig import writer_of
from tests.transport.rig import declare, open_domain, open_taking

WINDOW, MAX_INFLIGHT = 6, 3
RECEIPTS: tuple[Receipt, ...] = ("stored", "acknowledged")


class Killed(Exception):
    """The process ends here."""


@attrs.define
class Doom:
    """Kills at the store that is so many ahead; 0 never."""

    left: int = 0

    def step(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise Killed


class Doomed:
    """Mapped memory, of which every store may be the last thing that its process meant to do."""

    def __init__(self, memory: memoryview, doom: Doom) -> None:
        self._memory, self._doom = memory, doom

    def __getitem__(self, index: Any) -> Any:
        return self._memory[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        self._doom.step()
        self._memory[index] = value

    def __len__(self) -> int:
        return len(self._memory)

    def release(self) -> None:
        self._memory.release()


def doomed(doom: Doom, write: Callable[..., None]) -> Callable[..., None]:
    """Before an envelope is whole, and nobody may read it."""

    def write_or_die(*arguments: Any) -> None:
        doom.step()
        write(*arguments)

    return write_or_die


ANSWERS = st.tuples(st.sampled_from(["acknowledge", "refuse"]), st.sampled_from([0, 0, 1, 2]), st.integers(0, 9))
STEP = st.one_of(
    st.tuples(st.just("send and publish"), st.just(0), st.just(0)),
    st.tuples(st.just("send"), st.just(0), st.integers(0, 4)),
    ANSWERS,
    ANSWERS,
    st.tuples(st.just("acknowledge together"), st.sampled_from([1, 2]), st.integers(0, 9)),
    st.tuples(st.sampled_from(["cycle", "connect", "lose", "kill writer", "kill gateway"]), st.just(0), st.just(0)),
)
"""What happens, to which of those in flight, and which store of it is the last; 0 for none."""


class Model:
    """Both halves, the other side, and what is true."""

    def __init__(self, node: Any, connector: Any, spec: Any) -> None:
        self._node, self._connector, self._spec = node, connector, spec
        self.writer: ChannelWriter[int]
        self._writer_stack, self._gateway_stack = contextlib.AsyncExitStack(), contextlib.AsyncExitStack()
        self._lent = contextlib.ExitStack()
        self.connection: FakeConnection | None = None
        self.doom = Doom()
        self.sent: dict[int, int] = {}  # value by number, of what `send` has returned for
        self.of_this_writer: list[int] = []
        self.may_be_lost: set[int] = set()
        self.arrived: list[tuple[int, int]] = []
        self.acknowledged: set[int] = set()
        self.refused: set[int] = set()
        self._next = 0

    async def open_writer(self) -> None:
        self.writer = await self._writer_stack.enter_async_context(writer_of(self._node, self._connector))
        self.of_this_writer = []
        port: Any = self.writer._port
        port._counters = Doomed(port._counters, self.doom)

    async def open_gateway(self) -> None:
        source = await self._gateway_stack.enter_async_context(open_taking(self._node, self._spec, "t"))
        self.source: PayloadSource = source
        self.pump = Pump()
        self.outbox = Outbox("c", source, MAX_INFLIGHT, self.pump, window=WINDOW)
        port: Any = source._port
        port._counters = Doomed(port._counters, self.doom)
        receipts = port._cursor.receipts
        receipts._words, receipts._slots = Doomed(receipts._words, self.doom), Doomed(receipts._slots, self.doom)

    async def kill_writer(self) -> None:
        self.doom.left = 0
        self.source.attach()  # the gateway was woken as the writer came
        await self._writer_stack.aclose()
        await self.open_writer()
        self.source.attach()

    async def kill_gateway(self) -> None:
        self.doom.left = 0
        self.lose()
        # What the living app did not send was in the memory of both that are dead now.
        self.may_be_lost |= self.sent.keys() - set(self.of_this_writer)
        await self._gateway_stack.aclose()
        await self.open_gateway()

    async def close(self) -> None:
        self.lose()
        await self._gateway_stack.aclose()
        await self._writer_stack.aclose()

    async def step(self, what: str, index: int, death: int) -> None:
        self.doom.left = death
        try:
            match what:
                case "send":
                    self.send()
                case "send and publish":
                    self.send()
                    self.outbox.step()
                case "cycle":
                    self.outbox.step()
                case "acknowledge" | "refuse":
                    self.answer(index, refuse=what == "refuse")
                case "acknowledge together":
                    self.answer_together(index)
                case "connect":
                    self.connect()
                case "lose":
                    self.lose()
                case "kill writer":
                    await self.kill_writer()
                case "kill gateway":
                    await self.kill_gateway()
        except Killed:
            await (self.kill_writer() if what == "send" else self.kill_gateway())
        self.doom.left = 0

    def send(self) -> None:
        value, self._next = self._next, self._next + 1
        with contextlib.suppress(BackPressure):
            number = self.writer.send_nowait(value)
            assert number not in self.sent
            self.sent[number] = value
            self.of_this_writer.append(number)

    def connect(self) -> None:
        self.lose()
        self.connection = FakeConnection(acknowledges=False)
        self._lent.enter_context(self.outbox.publishing(self.connection))
        self._notice()

    def lose(self) -> None:
        self._notice()
        self.connection = None
        self._lent.close()

    def answer(self, index: int, *, refuse: bool) -> None:
        """Acknowledge or refuse one of those in flight, not always the first."""
        self._notice()
        connection = self.connection
        if connection is None or index >= len(connection.unacknowledged):
            return
        done: Any = connection.unacknowledged[index]
        number = done.args[0]
        (self.refused if refuse else self.acknowledged).add(number)
        del connection.unacknowledged[index]
        done.func(number, "Quota exceeded" if refuse else "")

    def answer_together(self, last: int) -> None:
        """Acknowledge some in one batch, the last one before it is the turn of another. Who dies leaves no block."""
        self.pump.__enter__()
        for index in (0, last, 0):
            self.answer(index, refuse=False)
        self.pump.__exit__(None, None, None)

    def _notice(self) -> None:
        """What was published on the connection has arrived."""
        if self.connection is not None:
            published, self.connection.published = self.connection.published, []
            self.arrived += [(e.header.sequence_number, int(e.payload)) for _, e in published]

    def check(self) -> None:
        """No receipt says what is not so, and no number is used twice."""
        self._notice()
        for number in self.of_this_writer:
            for kind in RECEIPTS:
                if self.has_receipt(number, kind):
                    try:
                        self.writer._waiting._check(number)
                        assert number in self.acknowledged, f"{number} is not {kind}"
                    except MessageRefused:
                        assert number in self.refused, f"{number} was not refused"
        values = dict(self.arrived)
        assert all(values[number] == value for number, value in self.arrived), "a number was used for two messages"
        assert all(values.get(number, value) == value for number, value in self.sent.items())
        firsts = list(dict.fromkeys(number for number, _ in self.arrived))
        assert firsts == sorted(firsts), "out of order"

    def has_receipt(self, number: int, kind: Receipt) -> bool:
        return _ForReceipt(self.writer._port, number, kind, alone=True).look()

    async def finish(self) -> None:
        """The other side acknowledges everything from now on."""
        self.connect()
        while True:
            self.outbox.step()
            self._notice()
            if self.connection is None or not self.connection.unacknowledged:
                break
            while self.connection.unacknowledged:
                self.answer(0, refuse=False)
        self.check()
        assert self.sent.keys() - self.may_be_lost <= dict(self.arrived).keys(), "lost"
        assert all(self.has_receipt(number, kind) for number in self.of_this_writer for kind in RECEIPTS)
        assert self.writer._port.waiting == 0


@given(st.lists(STEP, min_size=10, max_size=60))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
async def test_no_receipt_lies_and_nothing_is_lost(domain: Domain, steps: list[tuple[str, int, int]]) -> None:
    connector, spec = declare(int, JsonCodec(), window=WINDOW)
    with pytest.MonkeyPatch.context() as patch, trio.fail_after(60):
        async with open_domain(domain, connector) as node:
            model = Model(node, connector, spec)
            patch.setattr(publisher, "_pack_plain", doomed(model.doom, publisher._pack_plain))
            try:
                await model.open_writer()
                await model.open_gateway()
                model.connect()
                for what, index, death in steps:
                    await model.step(what, index, death)
                    model.check()
                await model.finish()
            finally:
                model.doom.left = 0
                await model.close()
