"""Outbound through the bridge: order, acknowledgements, draining, expiry, refusals, packet identifiers."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from taktora_trio import Header, Metadata, MqttRouting, Outbound
from taktora_trio.channels import Envelope
from taktora_trio.connectors.mqtt.sessions.session import ConnectFailed, Message, OnDone
from taktora_trio.connectors.mqtt.wire.limits import NO_LIMITS, BrokerLimits, limits_of
from taktora_trio.errors import TransportError
from tests.mqtt.rig import Fake, FakeSession, Memory, inbound, numbered, open_bridge, outbound


async def test_each_channel_keeps_its_order(memory: Memory, autojump_clock: MockClock) -> None:
    broker, options = memory
    channels = [outbound("a"), outbound("b"), inbound("all", "topic/#")]
    async with open_bridge(*channels, **options) as running:
        for number in numbered(100):
            running.sources["a"].put(b"a" + number)
            running.sources["b"].put(b"b" + number)
        await wait_all_tasks_blocked()
        arrived = running.sinks["all"].take()
    for name in (b"a", b"b"):
        assert [payload for payload in arrived if payload[:1] == name] == [name + number for number in numbered(100)]
    assert broker.connects == 1


async def test_a_message_has_the_topic_qos_and_retain_of_its_routing(fake: Fake, autojump_clock: MockClock) -> None:
    session = FakeSession()
    fake(session)
    channel = Outbound("out", bytes, MqttRouting("a/b", qos=2, retain=True))
    async with open_bridge(channel) as running:
        running.sources["out"].put(b"x")
        await wait_all_tasks_blocked()
    assert session.published == [Message("a/b", b"x", 2, retained=True)]


async def test_no_more_than_max_inflight_are_on_their_way(fake: Fake, autojump_clock: MockClock) -> None:
    session = FakeSession(acknowledges=False)
    fake(session)
    async with open_bridge(outbound(), max_inflight=3) as running:
        running.sources["out"].put(*numbered(10))
        await wait_all_tasks_blocked()
        assert session.payloads == numbered(3)
        session.finish(1)  # what comes after an unacknowledged one still counts: order is kept by a queue
        await wait_all_tasks_blocked()
        assert session.payloads == numbered(3)
        session.finish(0)
        await wait_all_tasks_blocked()
        assert session.payloads == numbered(5)
        session.finish(2, 3, 4)
        await wait_all_tasks_blocked()
        assert session.payloads == numbered(8)
        session.acknowledges = True
        session.finish(5, 6, 7)
        await wait_all_tasks_blocked()
        assert session.payloads == numbered(10)


@pytest.mark.parametrize(
    ("limits", "parts"),
    [
        (NO_LIMITS, {"a": 64, "b": 9, "c": 9}),
        (limits_of({0x21: 7}), {"a": 64, "b": 3, "c": 3}),
        (limits_of({0x21: 1}), {"a": 64, "b": 1, "c": 1}),
        (limits_of({}), {"a": 64, "b": 64, "c": 64}),
    ],
    ids=["3.1.1", "5", "fewer than channels", "5, none announced"],
)
async def test_channels_of_qos_2_share_what_the_broker_takes(
    limits: BrokerLimits,
    parts: dict[str, int],
    fake: Fake,
    autojump_clock: MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    session = FakeSession(acknowledges=False)
    session.limits = limits
    fake(session)
    twice = [Outbound(name, bytes, MqttRouting(f"topic/{name}", qos=2)) for name in ("b", "c")]
    async with open_bridge(outbound("a"), *twice, drain_timeout=0.1) as running:
        for source in running.sources.values():
            source.put(*numbered(100))
        await wait_all_tasks_blocked()
        assert Counter(message.topic[-1] for message in session.published) == parts
    assert ("2 channels of QoS 2" in caplog.text) == (limits.of_qos_2 == 1)


async def test_work_that_does_not_move_is_named(fake: Fake, autojump_clock: MockClock) -> None:
    session = FakeSession(acknowledges=False)
    fake(ConnectFailed("no route"), session)
    async with open_bridge(outbound(), max_inflight=4) as running:
        source, stalled = running.sources["out"], running.bridge.stalled
        source.put(b"0")
        assert [stalled(), stalled()] == [None, None], "without a connection it can do nothing"
        await trio.sleep(2)
        assert [stalled(), stalled()] == [None, None], "all is published"
        source.put(*numbered(100, start=1))
        await wait_all_tasks_blocked()
        assert [stalled(), stalled()] == [None, None], "as many are on their way as may be"
        session.acknowledges = True
        session.finish(0, 1, 2, 3)
        await wait_all_tasks_blocked()
        assert source.queue == deque()
        source.queue.append(b"of which nobody was told")
        assert [stalled(), stalled()] == [None, "mqtt: channel out: messages wait, and none is taken"]
        source.put()
        await wait_all_tasks_blocked()
        assert stalled() is None


async def test_a_channel_that_is_not_acknowledged_does_not_hold_up_another(
    fake: Fake, autojump_clock: MockClock
) -> None:
    class Deaf(FakeSession):
        def publish(self, message: Message, packet_id: int, on_done: OnDone) -> None:
            super().publish(message, packet_id, on_done if message.topic == "topic/b" else lambda *_: None)

    session = Deaf()
    fake(session)
    async with open_bridge(outbound("a"), outbound("b"), max_inflight=2) as running:
        running.sources["a"].put(*numbered(5))
        running.sources["b"].put(*numbered(5))
        await wait_all_tasks_blocked()
        assert [m.payload for m in session.published if m.topic == "topic/a"] == numbered(2)
        assert [m.payload for m in session.published if m.topic == "topic/b"] == numbered(5)


@pytest.mark.parametrize("acknowledges", [False, True], ids=["acknowledged later", "acknowledged at once"])
async def test_what_was_not_acknowledged_is_published_first_on_the_next_session(
    fake: Fake, acknowledges: bool, autojump_clock: MockClock
) -> None:
    first, second = FakeSession(acknowledges=False), FakeSession(acknowledges=acknowledges)
    fake(first, second)
    async with open_bridge(outbound()) as running:
        running.sources["out"].put(*numbered(5))
        await wait_all_tasks_blocked()
        first.finish(0, 1)
        first.lose()
        await wait_all_tasks_blocked()
        running.sources["out"].put(*numbered(3, start=5))
        await trio.sleep(10)
        assert first.payloads == numbered(5)
        assert second.payloads == numbered(6, start=2)
        second.finish(*range(len(second.unacknowledged)))


async def test_what_was_acknowledged_out_of_order_is_not_published_twice(fake: Fake, autojump_clock: MockClock) -> None:
    first, second = FakeSession(acknowledges=False), FakeSession(acknowledges=False)
    fake(first, second)
    async with open_bridge(outbound()) as running:
        running.sources["out"].put(*numbered(4))
        await wait_all_tasks_blocked()
        first.finish(1, 3)
        first.lose()
        await trio.sleep(10)
        assert second.payloads == [b"0", b"2"]
        second.finish(0, 1)


async def test_nothing_is_taken_from_the_app_without_a_connection(fake: Fake, autojump_clock: MockClock) -> None:
    fake(ConnectFailed("no route"))
    async with open_bridge(outbound()) as running:
        running.sources["out"].put(*numbered(5))
        await trio.sleep(100)
        assert list(running.sources["out"].queue) == numbered(5)


async def test_a_corrupt_envelope_is_logged_and_the_next_one_published(
    fake: Fake, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    session = FakeSession()
    fake(session)
    async with open_bridge(outbound()) as running:
        running.sources["out"].put(b"0", TransportError("lengths that can't be true"), b"1")
        await wait_all_tasks_blocked()
    assert session.payloads == numbered(2)
    assert "channel out: lengths that can't be true" in caplog.text


# Stopping


async def test_a_stop_drains_what_is_queued(fake: Fake, autojump_clock: MockClock) -> None:
    session = FakeSession(acknowledges=False)
    fake(session)
    async with open_bridge(outbound(), max_inflight=2, drain_timeout=60) as running:
        running.sources["out"].put(*numbered(5))
        await wait_all_tasks_blocked()
        assert session.payloads == numbered(2)
        running.stop.set()
        await trio.sleep(1)
        session.finish(0, 1)
        await trio.sleep(1)
        session.finish(2, 3)
        await trio.sleep(1)
        assert session.payloads == numbered(5)
        assert running.ended_at is None  # what is published is not yet acknowledged
        session.finish(4)
        await wait_all_tasks_blocked()
        assert [running.ended_at, session.closed_at] == [3, 3]


@pytest.mark.parametrize(
    ("app_is_there", "level", "end"),
    [
        (True, logging.INFO, "they wait for the next gateway, as long as the app runs"),
        (False, logging.WARNING, "they are lost"),
    ],
)
async def test_the_drain_is_bounded_and_says_what_is_left(
    app_is_there: bool,
    level: int,
    end: str,
    fake: Fake,
    caplog: pytest.LogCaptureFixture,
    autojump_clock: MockClock,
) -> None:
    caplog.set_level(logging.INFO)
    session = FakeSession(acknowledges=False)
    fake(session)
    async with open_bridge(outbound(), drain_timeout=1.5, max_inflight=3) as running:
        running.sources["out"].put(*numbered(5))
        running.sources["out"].has_writer = app_is_there
        await trio.sleep(10)
        session.finish(1)  # behind one that is not
        assert await running.stopped() == 11.5
    told = [(record.levelno, record.getMessage()) for record in caplog.records if "stopped with" in record.msg]
    text = f"channel out: stopped with 5 messages not acknowledged by the other side, 2 of them published: {end}"
    assert told == [(level, text)]
    assert running.health == [("Up", 0), ("Down (the gateway was stopped)", 11.5)]


async def test_a_stop_without_a_connection_says_what_is_left(
    fake: Fake, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    session = FakeSession(acknowledges=False)
    fake(session, ConnectFailed("no route"))
    async with open_bridge(outbound()) as running:
        running.sources["out"].has_writer = False
        running.sources["out"].put(*numbered(3))
        await trio.sleep(1)
        session.lose()
        await trio.sleep(10)
    assert "channel out: stopped with 3 messages not acknowledged" in caplog.text


async def test_a_drain_ends_when_its_session_is_lost(fake: Fake, autojump_clock: MockClock) -> None:
    session = FakeSession(acknowledges=False)
    broker = fake(session)
    async with open_bridge(outbound(), drain_timeout=60) as running:
        running.sources["out"].put(b"0")
        await wait_all_tasks_blocked()
        running.stop.set()
        await trio.sleep(2)
        session.lose()
        assert await running.stopped() == 2
    assert broker.connects == [0]


# Message expiry


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_a_message_is_published_with_what_is_left_of_its_life(
    qos: Any, fake: Fake, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Like a broker's expiry (MQTT 5, section 3.3.2.3.3): that it waited in shared memory, or here, is time too.

    Whatever the clock on the wall says, which may be set in between.
    """
    now, wall = 1_000 * 10**9, 0
    monkeypatch.setattr(time, "clock_gettime_ns", lambda clock: {time.CLOCK_BOOTTIME: now}[clock])
    monkeypatch.setattr(time, "time_ns", lambda: wall)
    first, second = FakeSession(acknowledges=False), FakeSession()
    fake(first, second)

    def sent(number: int, ago: float, expiry: int | None) -> Envelope:
        metadata = Metadata("text/plain", message_expiry=expiry)
        return Envelope(b"%d" % number, Header(number, wall, now - int(ago * 1e9)), "", metadata)

    def expiries(session: FakeSession) -> dict[bytes, int | None]:
        return {message.payload: (message.metadata or Metadata()).message_expiry for message in session.published}

    late = {b"3": 1} if qos == 2 else {}  # which may be half done
    channel = Outbound("out", bytes, MqttRouting("topic/out", qos=qos))
    async with open_bridge(channel, protocol="5") as running:
        source = running.sources["out"]
        source.put(sent(1, 0, 10), sent(2, 3.9, 10), sent(3, 20, 10), sent(4, 20, None), sent(5, 20, 0), sent(6, -5, 9))
        await wait_all_tasks_blocked()
        assert expiries(first) == {b"1": 10, b"2": 7, b"4": None, b"5": 0, b"6": 9} | late
        assert source.acknowledged == []
        now, wall = now + 8 * 10**9, 10**18
        first.lose()
        await trio.sleep(10)
        late |= {b"2": 1} if qos == 2 else {}
        assert expiries(second) == {b"1": 2, b"4": None, b"5": 0, b"6": 6} | late
        assert source.acknowledged[-1] == 6, "what has expired is done with"
    told = [record.args for record in caplog.records if "expired" in record.msg]
    assert told == ([] if qos == 2 else [("out", 1), ("out", 2)])


# Refusals


async def test_what_the_broker_refuses_is_counted_and_shown_and_not_tried_again(
    fake: Fake, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    first, second = FakeSession(refusal="Quota exceeded"), FakeSession()
    fake(first, second)
    async with open_bridge(outbound()) as running:
        running.sources["out"].put(*numbered(5))
        await trio.sleep(1)
        assert running.sources["out"].acknowledged == [1, 2, 3, 4, 5]
        first.lose()
        await trio.sleep(10)
        assert second.published == []
    shown = "Degraded (channel out: the other side refuses messages: Quota exceeded)"
    assert running.health[:2] == [("Up", 0), (shown, 0)]
    counts = [record.args[1] for record in caplog.records if isinstance(record.args, tuple) and "refused" in record.msg]
    assert counts == [1, 2, 4]


# Packet identifiers


async def test_identifiers_follow_from_the_sequence_number_and_never_meet(
    fake: Fake, autojump_clock: MockClock
) -> None:
    first, second = FakeSession(acknowledges=False), FakeSession(session_present=True)
    fake(first, second)
    async with open_bridge(outbound("a"), outbound("b"), max_inflight=4) as running:
        for name in ("a", "b"):
            running.sources[name].put(*numbered(6))
        await wait_all_tasks_blocked()
        ids = {
            (message.topic, message.payload): number for message, number in zip(first.published, first.ids, strict=True)
        }
        assert len(set(ids.values())) == 8
        assert all(1 <= number < 65_533 for number in ids.values())
        first.lose()
        await trio.sleep(10)
        again = {(m.topic, m.payload): number for m, number in zip(second.published, second.ids, strict=True) if m.dup}
        assert again == ids


@pytest.mark.parametrize(
    ("sent", "together"),
    [
        ([1, 3, 4, 5], [1, 3, 4]),  # one was never sent
        ([1, 2, 3, 9], [1, 2, 3]),
        ([1, 6, 7], [1]),  # more are missing than may be on their way
        ([1, 2, 2, 3], [1, 2]),  # no writer of ours does that
        ([5, 1, 2], [5]),
    ],
)
async def test_numbers_that_do_not_follow_on_each_other_never_share_an_identifier(
    sent: list[int], together: list[int], fake: Fake, autojump_clock: MockClock
) -> None:
    session = FakeSession(acknowledges=False)
    fake(session)
    async with open_bridge(outbound(), max_inflight=4) as running:
        running.sources["out"].put(*[Envelope(b"%d" % number, Header(number, 0), "") for number in sent])
        await wait_all_tasks_blocked()
        assert session.payloads == [b"%d" % number for number in together]
        assert len(set(session.ids)) == len(together)
        session.acknowledges = True
        session.finish(*range(len(together)))
        await wait_all_tasks_blocked()
        assert session.payloads == [b"%d" % number for number in sent]
        assert running.sources["out"].acknowledged[-1] == sent[-1]


async def test_with_very_many_channels_the_identifiers_still_suffice(fake: Fake, autojump_clock: MockClock) -> None:
    session = FakeSession()
    fake(session)
    channels = [outbound(f"c{number}", window=1) for number in range(1200)]
    async with open_bridge(*channels) as running:
        for source in running.sources.values():
            source.put(b"x")
        await wait_all_tasks_blocked()
    assert len(set(session.ids)) == 1200
    assert max(session.ids) < 65_533


EXACTLY_ONCE = Outbound("out", bytes, MqttRouting("a/b", qos=2))


async def test_what_an_app_that_is_gone_left_half_done_is_completed_before_anything_new_is_published(
    fake: Fake, autojump_clock: MockClock
) -> None:
    session = FakeSession(session_present=True)
    session.completes = False
    fake(session)
    async with open_bridge(EXACTLY_ONCE, max_inflight=4) as running:
        source = running.sources["out"]
        source.put(*numbered(7))
        await wait_all_tasks_blocked()
        assert (session.released, session.published, source.begun) == ([1, 2, 3, 4], [], [])
        for complete in session.uncompleted[:3]:
            complete()
        await wait_all_tasks_blocked()
        assert (session.published, source.begun) == ([], [])
        session.uncompleted[3]()
        await wait_all_tasks_blocked()
        assert session.payloads == numbered(7)
        assert not any(message.dup for message in session.published)
        assert source.begun == [1, 2, 3, 4, 5, 6, 7]
        assert session.released == [1, 2, 3, 4], "once"


async def test_what_a_gateway_that_is_gone_had_begun_is_published_again_and_not_completed(
    fake: Fake, autojump_clock: MockClock
) -> None:
    session = FakeSession(session_present=True)
    fake(session)
    async with open_bridge(EXACTLY_ONCE, max_inflight=4, begun_before=2) as running:
        source = running.sources["out"]
        source.put(*numbered(7))
        await wait_all_tasks_blocked()
        assert session.payloads == numbered(7)
        assert [message.payload for message in session.published if message.dup] == numbered(2)
        assert sorted(session.released) == sorted(set(range(1, 5)) - set(session.ids[:2]))
        assert source.begun == [3, 4, 5, 6, 7]


@pytest.mark.parametrize("present", [True, False])
async def test_a_connection_that_is_lost_before_all_is_completed(
    present: bool, fake: Fake, autojump_clock: MockClock
) -> None:
    first, second = FakeSession(session_present=True), FakeSession(session_present=present)
    first.completes = False
    fake(first, second)
    async with open_bridge(EXACTLY_ONCE, max_inflight=4) as running:
        running.sources["out"].put(*numbered(7))
        await wait_all_tasks_blocked()
        first.uncompleted[0]()
        first.lose()
        await trio.sleep(10)
        assert first.published == []
        assert second.released == ([2, 3, 4] if present else [])
        assert second.payloads == numbered(7)
        assert not any(message.dup for message in second.published)


async def test_what_was_begun_on_a_connection_that_is_lost_stays_begun(fake: Fake, autojump_clock: MockClock) -> None:
    first, second = FakeSession(acknowledges=False, session_present=True), FakeSession(session_present=True)
    fake(first, second)
    async with open_bridge(EXACTLY_ONCE, max_inflight=4) as running:
        running.sources["out"].put(*numbered(4))
        await wait_all_tasks_blocked()
        first.lose()
        await trio.sleep(10)
        assert [message.dup for message in second.published] == [True] * 4
        assert second.released == []
        assert running.sources["out"].begun == [1, 2, 3, 4], "never a lower one"
