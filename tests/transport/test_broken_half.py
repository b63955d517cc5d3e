"""A broken half writes any number into any word that both share: the channels go on, and nothing is lost."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncIterator, Callable

import pytest
import trio

from taktora_trio import Inbound, MqttConnector, MqttRouting, Outbound, RawCodec
from taktora_trio.connectors.plan import trunk_spec
from taktora_trio.supervision.backoff import Backoff
from taktora_trio.transport import reconnection
from taktora_trio.transport.cursor import DONE
from taktora_trio.transport.domain import Domain
from taktora_trio.transport.ports import Node
from taktora_trio.transport.publisher import EnvelopePublisher
from taktora_trio.transport.reconnection import Reconnection
from taktora_trio.transport.spec import End, TrunkSpec
from taktora_trio.transport.subscriber import EnvelopeSubscriber, NotSent
from taktora_trio.transport.trunk import Trunk, open_trunk
from tests.patience import PATIENCE
from tests.transport.rig import open_domain, reading, writing

WINDOW = 4
CONNECTOR = MqttConnector(
    [
        Outbound("out", bytes, MqttRouting("t"), max_payload=100, window=WINDOW),
        Inbound("in", bytes, MqttRouting("u"), max_payload=100, window=WINDOW),
    ],
    codec=RawCodec(),
)


class Flow:
    """Messages that flow through one channel. Each has the number of its sending as its payload."""

    def __init__(self, port: EnvelopePublisher, reader: EnvelopeSubscriber) -> None:
        self.port, self.reader = port, reader
        self.sent, self.got = 0, list[int]()

    def send(self) -> bool:
        if self.port.send(b"%d" % (self.sent + 1)):
            self.sent += 1
            return True
        return False

    async def send_some(self, count: int) -> None:
        for _ in range(count):
            while not self.send():
                self.port.space.clear()
                if not self.port.has_room:
                    await self.port.space.wait()
        await self.port.flush()

    async def read(self) -> None:
        while True:
            self.reader.data.clear()
            while (place := self.reader.take()) is not None:
                with contextlib.suppress(NotSent):
                    self.got.append(int(bytes(self.reader.open(place)[1])))
                    if self.reader.spec.direction == "out":
                        self.reader.acknowledge_receipt(self.reader.taken)
                    else:
                        self.reader.done_with(self.reader.taken)
            self.reader.tell_done()
            await self.reader.data.wait()


@contextlib.asynccontextmanager
async def open_halves(node: Node, spec: TrunkSpec) -> AsyncIterator[tuple[dict[End, Trunk], list[Flow]]]:
    """Open both halves, with what keeps them connected. Each has the other one look as real ones do."""
    async with open_trunk(node, spec, "app") as app, open_trunk(node, spec, "gateway") as gateway:
        halves: dict[End, Trunk] = {"app": app, "gateway": gateway}
        keepers: dict[End, Reconnection] = {}

        def announcing(other: End) -> Callable[[], object]:
            async def announce() -> None:
                await trio.lowlevel.checkpoint()
                keepers[other].look()

            return announce

        keepers["app"] = Reconnection(app, announcing("gateway"))  # type: ignore[arg-type]
        keepers["gateway"] = Reconnection(gateway, announcing("app"))  # type: ignore[arg-type]
        for _ in range(2):
            app.update_connections()
            gateway.update_connections()
        with contextlib.ExitStack() as stack:
            flows = [
                Flow(
                    halves[writing(channel)].publisher(channel.name),
                    stack.enter_context(halves[reading(channel)].open_subscriber(channel.name)),
                )
                for channel in spec.channels
            ]
            async with trio.open_nursery() as nursery:
                for keeper in keepers.values():
                    nursery.start_soon(keeper.serve)
                yield halves, flows
                nursery.cancel_scope.cancel()


def values_for(now: int) -> list[int]:
    return [*dict.fromkeys([0, 1, max(0, now - 1), now + 1, now + WINDOW + 1, now + 2**32, 2**62, 2**63, 2**64 - 1])]


HEAD = range(2, 8)  # the words at the head of the file that change, and then those of each channel
WORDS = [*[("head", word) for word in HEAD], *[(name, word) for name in ("out", "in") for word in range(7)]]


@pytest.mark.parametrize("word", WORDS, ids=lambda word: f"{word[0]}{word[1]}")
async def test_whatever_a_broken_half_writes_the_channels_go_on(
    word: tuple[str, int], domain: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconnection, "_PAUSES", Backoff(initial=0.002, maximum=0.01, jitter=0))
    monkeypatch.setattr(reconnection, "_WAITS", Backoff(initial=0.002, maximum=0.01, jitter=0))
    spec = trunk_spec(CONNECTOR)
    where, index = word
    async with open_domain(domain, CONNECTOR) as node, open_halves(node, spec) as (halves, flows):
        cursors = halves["app"]._cursors
        if where == "head":
            words = cursors._head
        else:
            words = cursors.cursor(next(name for name in spec.by_name if name.endswith(where))).counters
        lost = 0
        for untaken, position in itertools.product([0, 1, WINDOW], range(9)):
            for flow in flows:
                for _ in range(untaken):
                    assert flow.send()
            values = values_for(words[index])
            value = values[position % len(values)]
            # What is said to be done with, and is not, is written over: the reader's word for that is all there is.
            last = max(flow.sent for flow in flows)
            says_too_much = where != "head" and index == DONE and last - untaken < value <= last + 2 * WINDOW
            lost += WINDOW * says_too_much
            words[index] = value
            with trio.fail_after(PATIENCE):
                async with trio.open_nursery() as readers:
                    async with trio.open_nursery() as senders:
                        for flow in flows:
                            readers.start_soon(flow.read)
                            senders.start_soon(flow.send_some, 2 * WINDOW + 1)
                    readers.cancel_scope.cancel()
            for flow in flows:
                missing = set(range(1, flow.sent + 1)).difference(flow.got)
                assert flow.got == sorted(set(flow.got)), (untaken, value)
                assert len(missing) <= (lost if flow.reader.spec.name.endswith(where) else 0), (untaken, value)
                assert flow.reader.released == flow.reader.taken == flow.port.last_sent
