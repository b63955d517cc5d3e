"""The bridge with fakes on both sides, in virtual time; whole systems are tested in tests/deployment."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from taktora_trio import Backoff, Header, Metadata, Received
from taktora_trio.mqtt.options import LastWill
from taktora_trio.mqtt.sessions.session import ConnectFailed, ConnectRefused, Message, OnDone, SessionLost
from tests.mqtt.rig import Fake, FakeSession, Memory, Sink, inbound, open_bridge, outbound

# Connecting


async def test_unreachable_is_tried_again_with_backoff(fake: Fake, autojump_clock: MockClock) -> None:
    session = FakeSession()
    broker = fake(*[ConnectFailed("no route")] * 5, session)
    async with open_bridge(outbound()) as running:
        await trio.sleep(100)
        assert broker.connects == [0, 1, 3, 7, 11, 15]
        assert running.health == [("Up", 15)]


async def test_a_lost_connection_is_renewed_and_the_backoff_starts_over(fake: Fake, autojump_clock: MockClock) -> None:
    first, second = FakeSession(), FakeSession()
    broker = fake(ConnectFailed("no route"), ConnectFailed("no route"), first, second)
    async with open_bridge(outbound()) as running:
        await trio.sleep(10)
        first.lose()
        await trio.sleep(10)
        assert broker.connects == [0, 1, 3, 11]
        assert running.health == [("Up", 3), ("Connecting", 10), ("Up", 11)]
        assert first.closed_at == 10
    assert running.health[3:] == [("Down (the gateway was stopped)", 20)]


async def test_a_refused_login_is_down_and_not_tried_again(
    fake: Fake, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    broker = fake(ConnectRefused("the broker refused the login: Not authorized"))
    async with open_bridge(outbound()) as running:
        await trio.sleep(500)
        assert broker.connects == [0]
        assert running.health == [("Down (the broker refused the login: Not authorized)", 0)]
        assert await running.stopped() == 500
    assert [record.levelno for record in caplog.records if record.levelno > logging.INFO] == [logging.ERROR]


async def test_a_refused_subscription_is_down_too(fake: Fake, autojump_clock: MockClock) -> None:
    class Refusing(FakeSession):
        async def subscribe(self, filters: Mapping[str, int]) -> None:
            raise ConnectRefused(f"the broker refused the subscription to {', '.join(filters)}")

    session = Refusing()
    broker = fake(session)
    async with open_bridge(inbound("in", "a/#")) as running:
        await trio.sleep(500)
        assert broker.connects == [0]
        assert running.health == [("Down (the broker refused the subscription to a/#)", 0)]
        assert session.closed_at == 0


async def test_lost_while_subscribing(fake: Fake, autojump_clock: MockClock) -> None:
    class Losing(FakeSession):
        async def subscribe(self, filters: Mapping[str, int]) -> None:
            raise SessionLost("reset")

    broker = fake(Losing(), FakeSession())
    async with open_bridge(inbound("in", "a/#")) as running:
        await trio.sleep(10)
        assert broker.connects == [0, 1]
        assert running.health == [("Up", 1)]


@pytest.mark.parametrize("answer", [None, ConnectFailed("no route")], ids=["hanging", "in the delay"])
async def test_a_stop_while_connecting_is_at_once(
    fake: Fake, answer: Exception | None, autojump_clock: MockClock
) -> None:
    fake(answer)
    async with open_bridge(outbound(), reconnect=Backoff(initial=60, maximum=60)) as running:
        await trio.sleep(7)
        assert await running.stopped() == 7
    assert running.health == [("Down (the gateway was stopped)", 7)]


async def test_an_error_that_nobody_expects_is_not_swallowed(fake: Fake, autojump_clock: MockClock) -> None:
    fake(ZeroDivisionError())
    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
        async with open_bridge(outbound()):
            await trio.sleep(1)


# Subscribing


async def test_each_filter_is_subscribed_once_at_its_highest_qos_and_again_after_a_reconnect(
    memory: Memory, autojump_clock: MockClock
) -> None:
    broker, options = memory
    channels = [
        inbound("a", "plant/+", 0),
        inbound("b", "plant/+", 2),
        inbound("c", "plant/+", 1),
        inbound("d", "plant/1", 0),
        inbound("e", "other/#", 1),
    ]
    async with open_bridge(*channels, **options) as running:
        wanted = {"plant/+": 2, "other/#": 1}
        assert broker.subscribed == [wanted]
        broker.drop_all()
        await trio.sleep(10)
        assert broker.subscribed == [wanted, wanted]
        assert broker.connects == 2
        broker.deliver(Message("plant/1", b"x"))
        assert {name: sink.take() for name, sink in running.sinks.items()} == {
            "a": [b"x"],
            "b": [b"x"],
            "c": [b"x"],
            "d": [b"x"],
            "e": [],
        }
        # The concrete topic travels only where the routing does not say it.
        assert [sink.topics for sink in running.sinks.values()] == [["plant/1"]] * 3 + [[""], []]
    assert broker.sessions == []


# Properties


async def test_metadata_and_correlation_ids_travel_both_ways(memory: Memory, autojump_clock: MockClock) -> None:
    _, options = memory
    metadata = Metadata("text/plain", user_properties=(("a", "b"),))
    sink = Sink()
    channels = [outbound("out"), inbound("in", "topic/#")]
    async with open_bridge(*channels, sinks={"in": sink}, protocol="5", **options) as running:
        said = [
            (b"id", metadata),
            (b"\0", None),
            (bytes(99), metadata),
            (b"", None),
        ]
        for number, (correlation_id, of_it) in enumerate(said, 1):
            running.sources["out"].put(Received(b"x", Header(number, 0, 0, correlation_id), "", of_it))
        await wait_all_tasks_blocked()
        assert sink.take() == [b"x"] * 4
        assert sink.said == said


# Presence


def presence(session: FakeSession) -> list[tuple[bytes, int, bool]]:
    return [(m.payload, m.qos, m.retain) for m in session.published if m.topic.startswith("taktora/")]


async def test_presence_is_up_when_connected_and_down_after_the_last_message(
    fake: Fake, autojump_clock: MockClock
) -> None:
    session = FakeSession()
    broker = fake(session)
    async with open_bridge(outbound(), client_id="one") as running:
        await wait_all_tasks_blocked()
        assert presence(session) == [(b"Up", 1, True)]
        assert broker.options is not None
        assert broker.options.will == LastWill("taktora/one/health", b"Down")
        running.sources["out"].put(b"last")
        await running.stopped()
    assert [message.payload for message in session.published] == [b"Up", b"last", b"Down"]


@pytest.mark.parametrize(
    "options", [{"presence": None, "client_id": "one"}, {"will": LastWill("a", b""), "client_id": "one"}, {}]
)
async def test_there_may_be_no_presence(fake: Fake, options: dict[str, Any], autojump_clock: MockClock) -> None:
    session = FakeSession()
    broker = fake(session)
    async with open_bridge(outbound(), **options):
        await wait_all_tasks_blocked()
        assert broker.options is not None
        assert broker.options.will == options.get("will")
    assert session.published == []


async def test_a_broker_that_does_not_take_the_presence_is_no_reason_to_fail(
    fake: Fake, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    caplog.set_level(logging.INFO)
    session = FakeSession(refusal="Not authorized")
    fake(session)
    async with open_bridge(outbound(), client_id="one") as running:
        await trio.sleep(1)
        assert running.health == [("Up", 0)]
    assert presence(session) == [(b"Up", 1, True)]
    assert "no presence on 'taktora/one/health': the broker does not take it: Not authorized" in caplog.text


async def test_nor_is_one_that_ends_the_connection_because_of_it(fake: Fake, autojump_clock: MockClock) -> None:
    class Touchy(FakeSession):
        def publish(self, message: Message, packet_id: int, on_done: OnDone) -> None:
            self.published.append(message)
            self.lose()

    sessions = [Touchy() for _ in range(3)]
    broker = fake(*sessions)
    async with open_bridge(outbound(), client_id="one") as running:
        await trio.sleep(100)
        assert running.health[-1][0] == "Up"
        assert broker.connects == [0, 1, 2]
    assert [len(session.published) for session in sessions] == [1, 1, 0]


async def test_nor_one_that_refuses_the_will_with_the_login(fake: Fake, autojump_clock: MockClock) -> None:
    session = FakeSession()
    broker = fake(ConnectRefused("refused", "Not authorized"), session)
    async with open_bridge(outbound(), client_id="one") as running:
        await trio.sleep(1)
        assert broker.connects == [0, 0]
        assert broker.options is not None
        assert broker.options.will is None
        assert running.health == [("Up", 0)]
    assert session.published == []


async def test_a_broker_that_never_acknowledges_the_presence_does_not_hold_up_a_stop(
    fake: Fake, autojump_clock: MockClock
) -> None:
    session = FakeSession(acknowledges=False)
    fake(session)
    async with open_bridge(outbound(), client_id="one") as running:
        await trio.sleep(1)
        assert await running.stopped() == 1.5
