"""The gateway of whoever asks: queries that do not end, and replies that come late."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
import trio
import trio.testing

from taktora_trio import Envelope, Header, Incoming, Metadata, RawCodec, ZenohRouting
from taktora_trio.connectors.zenoh.metadata import Carrier, read_beside
from taktora_trio.connectors.zenoh.queries.numbering import AGAIN
from taktora_trio.connectors.zenoh.queries.requests import RequestChannel
from taktora_trio.connectors.zenoh.session import Sample, Session


class Lossy:
    """A session that ends a query by its timeout, and notes when each was asked."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.asked: list[tuple[float, bool]] = []
        """When, and whether it was said to come again."""
        self.replies: list[Callable[[Sample], None]] = []

    def ask(
        self,
        key: str,
        payload: bytes,
        quality: object,
        encoding: str,
        attachment: bytes,
        timeout: float,
        on_reply: Callable[[Sample], None],
        on_failure: Callable[[bytes], None],
        on_end: Callable[[], None],
    ) -> None:
        self.asked.append((trio.current_time(), AGAIN in read_beside(encoding, attachment).own))
        self.replies.append(on_reply)
        self.nursery.start_soon(self._end, timeout, on_end)

    async def _end(self, timeout: float, on_end: Callable[[], None]) -> None:
        await trio.sleep(timeout)
        on_end()


@pytest.mark.parametrize(("expiry", "times"), [(None, [0, 5, 15, 35]), (12, [0, 5])])
async def test_a_request_whose_query_does_not_end_is_asked_again_at_longer_and_longer_intervals(
    autojump_clock: trio.testing.MockClock, expiry: int | None, times: list[float]
) -> None:
    came: list[Any] = []
    done: list[tuple[int, str]] = []
    async with trio.open_nursery() as nursery:
        session = Lossy(nursery)
        requests = RequestChannel(
            ZenohRouting("work"), cast(Session, session), Carrier(RawCodec()), "replies/me", "replies/me", came.append
        )
        requests.matching(True)
        nursery.start_soon(requests.serve)
        metadata = None if expiry is None else Metadata(message_expiry=expiry)
        began = trio.current_time()
        requests.publish(Envelope(b"?", Header(1, 0, 0, b"id"), "work", metadata), lambda *told: done.append(told))
        await trio.sleep(40)
        assert [(round(at - began), again) for at, again in session.asked] == [(at, at > 0) for at in times]
        if expiry is None:
            session.replies[-1](Sample("work", b"!"))
            assert [cast(Incoming, reply).payload for reply in came] == [b"!"]
            requests.acknowledge(came[0])
            assert done == [(1, "")]
        else:
            assert [number for number, _ in done] == [1], "its time is over"
        nursery.cancel_scope.cancel()
