"""The outbox alone: what a batch and a drain do."""

from __future__ import annotations

from typing import Any, cast

import trio
from trio.testing import MockClock

from taktora_trio.channels import Envelope
from taktora_trio.connectors.connection import OnDone
from taktora_trio.connectors.outbox import Outbox
from tests.connectors.rig import FakeConnection, Source, numbered


async def test_an_app_that_goes_on_sending_does_not_keep_the_drain_going(autojump_clock: MockClock) -> None:
    source = Source()

    class Feeding(FakeConnection):
        def publish(self, channel: str, envelope: Envelope, on_done: OnDone, *, again: bool = False) -> None:
            super().publish(channel, envelope, on_done)
            source.put(b"more")

    connection = Feeding()
    outbox = Outbox("out", cast(Any, source), 64, window=7)
    source.put(b"first")
    with trio.fail_after(10):
        await outbox.drain(connection)
    assert len(connection.published) == 7


async def test_room_that_comes_just_before_the_pump_looks_again_is_not_missed(autojump_clock: MockClock) -> None:
    """What waits in shared memory then was announced before, and is not announced again."""
    source, connection = Source(*numbered(4)), FakeConnection(acknowledges=False)
    outbox = Outbox("out", cast(Any, source), 2, window=64)
    with outbox.publishing(connection), trio.fail_after(1):
        for _ in range(2):  # two are on their way, and the second time it finds itself full
            await outbox.publish_batch(None)
        connection.finish(0, 1)
        await outbox.wait()
        await outbox.publish_batch(None)
    assert connection.payloads == numbered(4)
