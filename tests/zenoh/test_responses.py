"""The gateway of whoever answers: queries that wait for their replies, whatever comes in them."""

from __future__ import annotations

import attrs
import pytest
import trio
import trio.testing

from taktora_trio import Envelope, Header, Incoming, Metadata, RawCodec, ZenohRouting
from taktora_trio.channels.signs import failure, interim
from taktora_trio.connectors.zenoh.metadata import Carrier, attached
from taktora_trio.connectors.zenoh.queries import responses as responses_module
from taktora_trio.connectors.zenoh.queries.responses import ResponseChannel
from taktora_trio.connectors.zenoh.session import Question


@attrs.define(eq=False)
class Asked(Question):
    """A query, and what was said to it."""

    key: str = "work"
    payload: bytes = b"?"
    encoding: str = ""
    attachment: bytes = b""
    said: list[object] = attrs.field(factory=list)

    def reply(self, key: str, payload: bytes, encoding: str = "", attachment: bytes = b"", timestamp: str = "") -> None:
        self.said.append((key, payload))

    def fail(self, payload: bytes) -> None:
        self.said.append(payload.decode())

    def close(self) -> None:
        self.said.append("end")


def channel(key: str = "work") -> ResponseChannel:
    return ResponseChannel(ZenohRouting(key), ZenohRouting("replies/*"), Carrier(RawCodec()))


def answer(to: ResponseChannel, request: Incoming, payload: bytes, metadata: Metadata | None = None) -> None:
    assert request.metadata is not None
    done: list[tuple[int, str]] = []
    header = Header(7, 0, 0, request.correlation_id)
    to.publish(
        Envelope(payload, header, request.metadata.response_topic, metadata),
        lambda *told: done.append(told),
        again=True,
    )
    assert done == [(7, "")]


def taken(to: ResponseChannel, question: Asked) -> Incoming:
    request = to.take(question)
    assert request is not None
    assert request.reliable
    return request


async def test_replies_go_to_the_query_that_they_are_for(autojump_clock: trio.testing.MockClock) -> None:
    responses, one, other = channel(), Asked(), Asked()
    requests = [taken(responses, question) for question in (one, other)]
    assert requests[0].correlation_id != requests[1].correlation_id  # each is a request of its own
    answer(responses, requests[1], b"begun", Metadata(user_properties=interim(1)))
    answer(responses, requests[0], b"", Metadata(user_properties=failure("no", 1024)))
    answer(responses, requests[1], b"done")
    answer(responses, requests[1], b"done")  # for nobody
    assert one.said == ["no", "end"]
    assert other.said == [("work", b"begun"), ("work", b"done"), "end"]


async def test_a_request_that_comes_again_is_answered_where_it_came_last(
    autojump_clock: trio.testing.MockClock,
) -> None:
    beside = attached(Metadata(response_topic="replies/me", message_expiry=5), b"id", [(".again", b"")])
    responses, first, again = channel(), Asked(attachment=beside), Asked(attachment=beside)
    request = taken(responses, first)
    assert request.redelivered
    assert not request.delivery_id  # else the app's reader would leave it out, and nobody would answer
    assert taken(responses, again).metadata == request.metadata
    answer(responses, request, b"!")
    assert first.said == ["end"]
    assert again.said == [("work", b"!"), "end"]


@pytest.mark.parametrize("response", ["elsewhere/me", "replies/a/b", "replies/*", "replies//a", "\udcff/x"])
async def test_a_response_key_that_is_none_of_the_exchange_is_refused(
    response: str, autojump_clock: trio.testing.MockClock
) -> None:
    if "\udcff" in response:
        question = Asked(attachment=attached(Metadata(), b"id", [(".response", b"\xff/x")]))
    else:
        question = Asked(attachment=attached(Metadata(response_topic=response), b"id"))
    assert channel().take(question) is None
    [reason, end] = question.said
    assert str(reason).startswith("the response key: ")
    assert end == "end"


async def test_a_query_of_several_keys_is_for_the_one_that_there_is(autojump_clock: trio.testing.MockClock) -> None:
    responses, several = channel(), Asked(key="wor$*")
    answer(responses, taken(responses, several), b"!")
    assert several.said == [("work", b"!"), "end"]
    values = Asked(key="**", payload=b"")
    assert responses.take(values) is None
    assert values.said == ["end"]
    unclear = Asked(key="work/*")
    assert channel("work/*").take(unclear) is None
    assert unclear.said == ["ask on one key: 'work/*' stands for several", "end"]


async def test_only_so_many_wait_for_their_replies(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(responses_module, "_MOST", 20)
    monkeypatch.setattr(responses_module, "_LOOK_AFTER", 10)
    responses = channel()
    late = attached(Metadata(message_expiry=1), b"")
    over = [Asked(attachment=late) for _ in range(9)]
    for question in over:
        taken(responses, question)
    await trio.sleep(2)
    waiting = [Asked() for _ in range(21)]
    for question in waiting:
        taken(responses, question)
    assert len(responses._open) == 20
    assert [question.said for question in waiting] == [["end"], *[[]] * 20]
    assert all(question.said == ["end"] for question in over)
