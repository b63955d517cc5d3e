"""Outbound through the bridge: order, acknowledgements, draining, expiry, refusals, packet identifiers."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from taktora_trio import Header, Metadata, MqttRouting, Outbound
from taktora_trio.channels import Envelope
from taktora_trio.connectors.mqtt.wire.limits import NO_LIMITS, BrokerLimits, limits_of
from taktora_trio.connectors.mqtt.wire.message import Message
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


# Message expiry


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_a_message_is_published_with_what_is_left_of_its_life(
    qos: Any, fake: Fake, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Like a broker's expiry (MQTT 5, section 3.3.2.3.3): that it waited in shared memory, or here, is time too.

    Whatever the clock on the wall says, which may be set in between.
    """
    now, wall = 1_000 * 10**9, 0
    monkeypatch.setattr("taktora_trio.connectors.expiry.boottime_ns", lambda: now)
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
        again = {
            (m.topic, m.payload): number
            for m, number in zip(second.published, second.ids, strict=True)
            if m.redelivered
        }
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
        assert not any(message.redelivered for message in session.published)
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
        assert [message.payload for message in session.published if message.redelivered] == numbered(2)
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
        assert not any(message.redelivered for message in second.published)


async def test_what_was_begun_on_a_connection_that_is_lost_stays_begun(fake: Fake, autojump_clock: MockClock) -> None:
    first, second = FakeSession(acknowledges=False, session_present=True), FakeSession(session_present=True)
    fake(first, second)
    async with open_bridge(EXACTLY_ONCE, max_inflight=4) as running:
        running.sources["out"].put(*numbered(4))
        await wait_all_tasks_blocked()
        first.lose()
        await trio.sleep(10)
        assert [message.redelivered for message in second.published] == [True] * 4
        assert second.released == []
        assert running.sources["out"].begun == [1, 2, 3, 4], "never a lower one"
