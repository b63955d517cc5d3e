"""MQTT's client in a bridge, with fakes on both sides, in virtual time: subscriptions, presence, metadata."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from taktora_trio import Backoff, Header, Metadata
from taktora_trio.channels import Envelope
from taktora_trio.connectors import reconnect
from taktora_trio.connectors.mqtt.options import LastWill
from taktora_trio.connectors.mqtt.sessions.session import ConnectFailed, ConnectRefused, SessionLost
from taktora_trio.connectors.mqtt.wire.message import Message, OnDone
from tests.mqtt.rig import Fake, FakeSession, Memory, Sink, inbound, open_bridge, outbound

# Connecting


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
async def test_two_clients_of_one_name_leave_each_other_more_and_more_time_and_are_told(
    protocol: str, memory: Memory, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    broker, options = memory
    backoff = Backoff(initial=1, maximum=64, factor=2, jitter=0.2)
    options |= {"protocol": protocol, "client_id": "one", "presence": None, "reconnect": backoff}
    async with open_bridge(outbound(), **options), open_bridge(outbound(), **options):
        await trio.sleep(500)
        assert broker.connects < 2 * 14
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    if protocol == "5":
        assert all("another client uses the client id 'one'" in line for line in told)
    assert any("the client id 'one'" in line for line in told)


async def test_a_refused_subscription_takes_down_its_channel_and_no_other(
    fake: Fake, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconnect, "REFUSED", attrs.evolve(reconnect.REFUSED, jitter=0))
    first, second = FakeSession(), FakeSession()
    first.refused_filters = second.refused_filters = {"a/#": "Not authorized"}
    broker = fake(first, second)
    channels = [inbound("a", "a/#"), inbound("b", "a/b", 1), inbound("c", "c", 2), outbound()]
    complaint = "channel a: the broker refuses the subscription to 'a/#' (Not authorized)"
    async with open_bridge(*channels) as running:
        await trio.sleep(29)
        assert running.health == [(f"Degraded ({complaint})", 0)]
        # What the refused one would have covered is asked for itself.
        assert first.subscribed == [{"a/#": 1, "c": 2}, {"a/b": 1}]
        assert broker.on_message is not None
        broker.on_message(Message("a/b", b"x"))
        running.sources["out"].put(b"y")
        await trio.sleep(2)
        assert running.sinks["b"].take() == [b"x"]
        assert first.payloads == [b"y"]
        assert first.subscribed[2:] == [{"a/#": 1}]  # and the refused one again after 30 s
        first.lose()
        await trio.sleep(10)
        assert second.subscribed == first.subscribed[:2]
        second.refused_filters = {}
        running.bridge.revive()
        await trio.sleep(1)
        assert second.subscribed[2:] == [{"a/#": 1}]
        assert [state for state, _ in running.health[1:]] == ["Connecting", f"Degraded ({complaint})", "Up"]
        await trio.sleep(500)
        assert len(second.subscribed) == 3
    assert f"mqtt: {complaint}" in caplog.text


async def test_of_very_many_refused_subscriptions_some_are_named_and_once(
    fake: Fake, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    session = FakeSession()
    session.refused_filters = {f"topic/{number}": "Quota exceeded" for number in range(1000)}
    fake(session)
    async with open_bridge(*[inbound(f"c{number}", f"topic/{number}") for number in range(1000)]) as running:
        await trio.sleep(300)
        [(shown, _)] = running.health
    assert shown.endswith("; and 990 more channels)")
    assert len(session.subscribed) > 3
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 11


async def test_a_connection_that_is_lost_while_it_is_asked_again(fake: Fake, autojump_clock: MockClock) -> None:
    class Losing(FakeSession):
        async def subscribe(self, filters: Mapping[str, int]) -> dict[str, str]:
            if self.subscribed:
                raise SessionLost("reset")
            return await super().subscribe(filters)

    first, second = Losing(), FakeSession()
    first.refused_filters = {"a": "Quota exceeded"}
    broker = fake(first, second)
    async with open_bridge(inbound("a", "a")) as running:
        await trio.sleep(5)
        running.bridge.revive()
        await trio.sleep(5)
        assert broker.connects == [0, 6]
        assert running.health[-1] == ("Up", 6)


async def test_lost_while_subscribing(fake: Fake, autojump_clock: MockClock) -> None:
    class Losing(FakeSession):
        async def subscribe(self, filters: Mapping[str, int]) -> dict[str, str]:
            raise SessionLost("reset")

    broker = fake(Losing(), FakeSession())
    async with open_bridge(inbound("in", "a/#")) as running:
        await trio.sleep(10)
        assert broker.connects == [0, 1]
        assert running.health == [("Up", 1)]


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
            running.sources["out"].put(Envelope(b"x", Header(number, 0, 0, correlation_id), "", of_it))
        await wait_all_tasks_blocked()
        assert sink.take() == [b"x"] * 4
        assert sink.said == said


# A broker that has too much to do


async def test_a_broker_that_does_not_answer_in_time_is_given_more_of_it(fake: Fake, autojump_clock: MockClock) -> None:
    """Each attempt waits twice as long, up to the longest delay; one that ends otherwise begins anew."""

    class Silent(FakeSession):
        async def subscribe(self, filters: Mapping[str, int]) -> dict[str, str]:
            raise SessionLost("no answer to a subscription", silent=True)

    overdue = ConnectFailed("timed out", overdue=True)
    session = FakeSession()
    broker = fake(
        overdue, Silent(), overdue, overdue, overdue, overdue, ConnectFailed("refused"), session, FakeSession()
    )
    reconnect = Backoff(initial=1, maximum=20, factor=2, jitter=0)
    async with open_bridge(inbound("in", "in"), connect_timeout=1.0, reconnect=reconnect) as running:
        await trio.sleep(200)
        assert running.health[-1][0] == "Up"
        assert broker.timeouts == [1, 2, 4, 8, 16, 20, 20, 1]
        session.lose()
        await trio.sleep(10)
        assert broker.timeouts[8:] == [1]


# Presence


def presence(session: FakeSession) -> list[tuple[bytes, int, bool]]:
    return [(m.payload, m.qos, m.retained) for m in session.published if m.topic.startswith("taktora/")]


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
        assert broker.connects == [0, 1, 3]
    assert [len(session.published) for session in sessions] == [1, 1, 0]


async def test_nor_one_that_refuses_the_will_with_the_login(fake: Fake, autojump_clock: MockClock) -> None:
    session, again = FakeSession(), FakeSession()
    broker = fake(ConnectRefused("refused", 0x87), session, again)
    async with open_bridge(outbound(), client_id="one") as running:
        await trio.sleep(1)
        assert broker.connects == [0], "one attempt is one login"
        await trio.sleep(36)
        for connected in (session, again):
            await trio.sleep(9)
            assert broker.options is not None
            assert broker.options.will is None
            assert running.health[-1][0] == "Up"
            connected.lose()
    assert session.published == again.published == []


@pytest.mark.parametrize("code", [0x86, 0x87])
async def test_a_login_that_is_refused_without_the_will_too_is_not_the_wills_fault(
    code: int, fake: Fake, autojump_clock: MockClock
) -> None:
    session = FakeSession()
    broker = fake(*[ConnectRefused("refused", code)] * 4, session)
    wills = []
    async with open_bridge(outbound(), client_id="one") as running:
        for seconds in (1, 36, 72, 144, 288):
            await trio.sleep(seconds)
            assert broker.options is not None
            wills.append(broker.options.will is not None)
        assert len(broker.connects) == 5
        assert running.health[-1][0] == "Up"
    assert wills == [True, code == 0x86, True, True, True]
    assert presence(session)[0] == (b"Up", 1, True)


async def test_who_asks_for_a_login_may_have_mended_it_so_it_has_the_will_again(
    fake: Fake, autojump_clock: MockClock
) -> None:
    session = FakeSession()
    broker = fake(ConnectRefused("refused", 0x87), session)
    async with open_bridge(outbound(), client_id="one") as running:
        await trio.sleep(1)
        running.bridge.revive()
        await trio.sleep(1)
        assert broker.options is not None
        assert broker.options.will is not None
    assert presence(session)[0] == (b"Up", 1, True)


def closed() -> ConnectFailed:
    return ConnectFailed("the broker closed the connection before it answered", answered=False)


async def test_nor_one_that_ends_the_connection_because_of_the_will(
    fake: Fake, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    class Touchy(FakeSession):
        def publish(self, message: Message, packet_id: int, on_done: OnDone) -> None:
            self.published.append(message)
            self.lose()

    session, last = Touchy(), FakeSession()
    broker = fake(closed(), closed(), session, last)
    async with open_bridge(outbound(), client_id="a.b") as running:
        await trio.sleep(100)
        assert len(broker.connects) == 4
        assert broker.options is not None
        assert broker.options.will is None
        assert running.health[-1][0] == "Up"
        last.lose()
        await trio.sleep(100)
        assert broker.options.will is None
    assert presence(session) == [(b"Up", 1, True)]
    assert last.published == []
    [told] = [message for message in caplog.messages if "no presence on 'taktora/a.b/health'" in message]
    assert "perhaps for a sign in the client_id" in told


async def test_a_broker_that_was_not_well_for_a_while_has_the_presence_again(
    fake: Fake, autojump_clock: MockClock
) -> None:
    session, again = FakeSession(), FakeSession()
    broker = fake(*[closed()] * 5, session, again)
    wills: list[bool] = []
    async with open_bridge(outbound(), client_id="one") as running:
        while len(broker.connects) < 6:
            await trio.sleep(0.1)
            if len(broker.connects) > len(wills):
                assert broker.options is not None
                wills.append(broker.options.will is not None)
        await trio.sleep(1)
        session.lose()
        await trio.sleep(20)
        assert broker.options is not None
        assert broker.options.will is not None
        assert running.health[-1][0] == "Up"
    assert wills == [True, True, False] * 2
    assert presence(again)[0] == (b"Up", 1, True)


async def test_a_broker_that_never_acknowledges_the_presence_does_not_hold_up_a_stop(
    fake: Fake, autojump_clock: MockClock
) -> None:
    session = FakeSession(acknowledges=False)
    fake(session)
    async with open_bridge(outbound(), client_id="one") as running:
        await trio.sleep(1)
        assert await running.stopped() == 1.5
