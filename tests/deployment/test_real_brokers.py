"""What the connector does with a real broker: one suite for every broker and every session, through a real gateway.

Where brokers differ, the difference is asserted, not skipped; docs/brokers.md has them in words.
"""

from __future__ import annotations

import itertools
import logging
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from taktora_trio.channels import Inbound, Outbound
from taktora_trio.connectors.mqtt.routing import MqttRouting
from taktora_trio.health import Connecting, Down, Up
from taktora_trio.supervision.backoff import Backoff
from taktora_trio.transport.domain import Domain
from tests.brokers.live import open_live
from tests.brokers.real import Broker, Traits, each_broker, open_broker
from tests.brokers.sessions import SESSIONS, Kind
from tests.brokers.tap import open_tap
from tests.client import open_client

pytestmark = each_broker(SESSIONS)

FAST = Backoff(initial=0.05, maximum=0.2, jitter=0)


@pytest.fixture
async def broker(kind: Traits, tmp_path: Path) -> AsyncIterator[Broker]:
    async with open_broker(kind, tmp_path) as running:
        yield running


def lasting(session: Kind, qos: int) -> bool | None:
    """Whether to ask for a persistent session: as always, unless this one can't have it at this QoS."""
    return None if qos <= session.lasting_qos else False


def out(name: str, topic: str, qos: int = 1, *, retain: bool = False) -> Outbound[bytes]:
    routing = MqttRouting(topic, qos=qos, retain=retain)  # type: ignore[arg-type]
    return Outbound(name, bytes, routing, max_payload=65_536)


def into(name: str, topic: str, qos: int = 1) -> Inbound[bytes]:
    return Inbound(name, bytes, MqttRouting(topic, qos=qos), max_payload=65_536)  # type: ignore[arg-type]


async def test_a_round_trip_at_each_qos_that_the_broker_has(
    session: Kind, kind: Traits, broker: Broker, domain: Domain
) -> None:
    levels = range(kind.highest_qos + 1)
    there = [out(f"out{qos}", f"test/{qos}", qos) for qos in levels]
    back = [into(f"in{qos}", f"test/{qos}", qos) for qos in levels]
    async with (
        open_client(broker.port, "test/+", qos=kind.highest_qos) as client,
        open_live([*there, *back], session.options(broker.url, persistent=lasting(session, 2)), domain) as live,
    ):
        await live.until_up()
        payloads = [b"", *(b"%d" % number for number in range(200)), bytes(range(256)), b"x" * 60_000]
        for qos in levels:
            async with live.host.open_writer(there[qos]) as writer, live.host.open_reader(back[qos]) as reader:
                with trio.fail_after(20):
                    async with trio.open_nursery() as nursery:

                        async def send(writer: trio.abc.SendChannel[bytes] = writer) -> None:
                            for payload in payloads:
                                await writer.send(payload)

                        nursery.start_soon(send)
                        came = [await reader.receive() for _ in payloads]
                    heard = [await client.receive() for _ in payloads]
            assert [received.value for received in came] == payloads
            assert {received.topic for received in came} == {f"test/{qos}"}
            assert [message.payload for message in heard] == payloads
            assert {message.qos for message in heard} == {qos}


async def test_a_qos_that_the_broker_does_not_have_is_lower_inbound_and_an_error_outbound(
    session: Kind, kind: Traits, broker: Broker, domain: Domain, caplog: pytest.LogCaptureFixture
) -> None:
    there, back = out("out", "test/two", 2), into("in", "test/+", 2)
    options = session.options(broker.url, reconnect=FAST, persistent=lasting(session, 2))
    async with open_client(broker.port) as client, open_live([there, back], options, domain) as live:
        await live.until_up()
        async with live.host.open_writer(there) as writer, live.host.open_reader(back) as reader:
            client.publish("test/one", b"one", qos=min(2, kind.highest_qos))
            with trio.fail_after(10):
                assert (await reader.receive()).value == b"one"
                await writer.send(b"two")
                if kind.highest_qos == 2:
                    assert (await reader.receive()).value == b"two"
                    assert [type(event.after) for event in live.events] == [Up]
                else:  # it closes the connection, each time: reported, and tried again without haste
                    events = await live.until_transitions(5)
                    assert [type(event.after) for event in events] == [Up, Connecting, Up, Connecting, Up]
                    assert all(event.cause is not None for event in events[1::2])
                    assert events[4].at - events[2].at >= FAST.initial, "no pause between two tries"


async def test_retained_messages(session: Kind, broker: Broker, domain: Domain) -> None:
    kept, cleared, passing = (
        out("kept", "test/kept", retain=True),
        out("cleared", "test/cleared", retain=True),
        out("passing", "test/passing"),
    )
    back = into("in", "test/#")
    async with open_live([kept, cleared, passing], session.options(broker.url), domain) as live:
        await live.until_up()
        async with (
            open_client(broker.port, "test/#") as client,
            live.host.open_writer(kept) as first,
            live.host.open_writer(cleared) as second,
            live.host.open_writer(passing) as third,
        ):
            for writer, payload in ((first, b"old"), (second, b"x"), (third, b"y"), (first, b"new"), (second, b"")):
                await writer.send(payload)
                message = await client.receive()
                assert (message.payload, message.retained) == (payload, False), "retained, though it was new"
        async with open_client(broker.port, "test/#") as late:
            message = await late.receive()
            assert (message.topic, message.payload, message.retained) == ("test/kept", b"new", True)
            assert late.messages.statistics().current_buffer_used == 0
    # A gateway that comes later gets what is kept, and only that.
    async with open_live([back, passing], session.options(broker.url), domain) as live:
        async with live.host.open_reader(back) as reader, live.host.open_writer(passing) as writer:
            await live.until_up()
            await writer.send(b"last")
            with trio.fail_after(10):
                came = [await reader.receive() for _ in range(2)]
        assert sorted((received.topic, received.value) for received in came) == [
            ("test/kept", b"new"),
            ("test/passing", b"last"),
        ]


# The examples of MQTT 3.1.1, section 4.7, and some of their edges.
TOPICS = [
    "sport",
    "sport/tennis",
    "sport/tennis/player1",
    "sport/tennis/player1/ranking",
    "sport/",
    "/finance",
    "a//b",
    "other",
]
FILTERS = ["sport/#", "+/+", "a/+/b"]


def matches(topic_filter: str, topic: str) -> bool:
    """As a regular expression, which is nobody else's way."""
    parts = [{"+": "[^/]*", "#": ".*"}.get(level, re.escape(level)) for level in topic_filter.split("/")]
    pattern = "/".join(parts).replace("/.*", "(/.*)?")
    return re.fullmatch(pattern, topic) is not None


@pytest.mark.parametrize("topic_filter", FILTERS)
async def test_each_wildcard_brings_what_it_should(
    session: Kind, topic_filter: str, broker: Broker, domain: Domain
) -> None:
    back, end = into("in", topic_filter), into("end", "the/end/of/it")
    async with (
        open_client(broker.port) as client,
        open_live([back, end], session.options(broker.url), domain) as live,
        live.host.open_reader(back) as reader,
        live.host.open_reader(end) as ends,
    ):
        await live.until_up()
        for topic in TOPICS:
            client.publish(topic, topic.encode())
        wanted = [topic for topic in TOPICS if matches(topic_filter, topic)]
        with trio.fail_after(10):
            came = [await reader.receive() for _ in wanted]
            client.publish("the/end/of/it", b"")
            await ends.receive()
        # In what order those of several topics come is the broker's choice (MQTT 3.1.1, section 4.6).
        assert sorted(received.topic for received in came) == sorted(wanted)
        assert all(received.value == received.topic.encode() for received in came)
        with pytest.raises(trio.WouldBlock):
            reader.receive_nowait()


async def test_overlapping_filters(session: Kind, kind: Traits, broker: Broker, domain: Domain) -> None:
    """Neither covers the other, so both are subscribed; how often one message comes then is the broker's choice."""
    first, second, end = into("first", "a/+/c"), into("second", "a/b/+"), into("end", "the/end")
    async with (
        open_client(broker.port) as client,
        open_live([first, second, end], session.options(broker.url), domain) as live,
        live.host.open_reader(first) as one,
        live.host.open_reader(second) as other,
        live.host.open_reader(end) as ends,
    ):
        await live.until_up()
        client.publish("a/b/c", b"both")
        with trio.fail_after(10):
            for reader in (one, other):
                for _ in range(kind.copies_for_overlapping_filters[session.level]):
                    assert (await reader.receive()).value == b"both"
            client.publish("the/end", b"")
            await ends.receive()
        for reader in (one, other):
            with pytest.raises(trio.WouldBlock):
                reader.receive_nowait()


async def test_characters_that_not_every_broker_takes(
    session: Kind, kind: Traits, broker: Broker, domain: Domain
) -> None:
    there = {name: out(name, f"test/a{sign}b") for name, sign in (("dot", "."), ("space", " "), ("dollar", "$"))}
    options = session.options(broker.url, reconnect=FAST)
    for channel in there.values():
        sign = channel.routing.address[6]
        async with open_client(broker.port, "test/#") as client, open_live([channel], options, domain) as live:
            await live.until_up()
            async with live.host.open_writer(channel) as writer:
                await writer.send(b"x")
                if sign in kind.forbidden_in_topics:
                    with trio.fail_after(10):
                        await live.host.wait_for_health(Connecting)
                else:
                    assert (await client.receive()).topic == channel.routing.address


async def test_the_broker_is_restarted(session: Kind, broker: Broker, domain: Domain) -> None:
    there, back = out("out", "test/out"), into("in", "test/in")
    options = session.options(broker.url, reconnect=FAST)
    async with (
        open_live([there, back], options, domain) as live,
        live.host.open_writer(there) as writer,
        live.host.open_reader(back) as reader,
    ):
        await live.until_up()
        await broker.stop(signal.SIGKILL)
        with trio.fail_after(10):
            await live.host.wait_for_health(Connecting)
        for number in range(10):  # with nobody there to take them
            writer.send_nowait(b"%d" % number)
        # On its port is nobody now. Who listens first hears everything: so it has to know us before the gateway does.
        await broker.start()
        async with open_client(broker.port, "test/out") as client:
            await live.until_up()
            await writer.send(b"10")
            while (await client.receive()).payload != b"10":
                pass
            client.publish("test/in", b"back")
            with trio.fail_after(10):
                assert (await reader.receive()).value == b"back"
        assert [type(event.after) for event in live.events] == [Up, Connecting, Up]


async def test_a_second_client_of_the_same_name_takes_over(
    session: Kind, kind: Traits, broker: Broker, domain: Domain, caplog: pytest.LogCaptureFixture
) -> None:
    """Two gateways by one client id throw each other out for ever: seen in health, and without haste."""
    there = out("out", "test/out")
    options = session.options(broker.url, client_id="same", reconnect=FAST)
    other = Domain(f"{domain.name}-b")
    with caplog.at_level(logging.WARNING):
        async with open_live([there], options, domain) as first:
            await first.until_up()
            async with open_live([there], options, other) as second:
                await first.until_transitions(3)
        for live in (first, second):
            assert not any(isinstance(event.after, Down) for event in live.events[:-1])
            ups = [event.at for event in live.events if isinstance(event.after, Up)]
            assert all(later - earlier >= FAST.initial for earlier, later in itertools.pairwise(ups))
    assert other.files() == []


async def test_a_session_that_lasts(session: Kind, kind: Traits, broker: Broker, domain: Domain) -> None:
    """What is published while no gateway is there waits at the broker, also over a restart of it."""
    back = into("in", "test/#", min(session.lasting_qos, kind.highest_qos))
    options = session.options(broker.url, client_id="lasting", reconnect=FAST)
    async with open_client(broker.port) as client:
        async with open_live([back], options, domain) as live, live.host.open_reader(back) as reader:
            await live.until_up()
            client.publish("test/before", b"before")
            with trio.fail_after(10):
                assert (await reader.receive()).value == b"before"
        for number in range(10):
            client.publish("test/while", b"%d" % number)
        client.publish("test/while", b"not kept", qos=0)
        # No subscriber may be there when the broker ends: NATS server 2.9 then keeps the messages, and delivers none.
        await client.publish_acknowledged("test/last", b"last")
    await broker.stop(signal.SIGTERM)
    await broker.start()
    async with open_live([back], options, domain) as live, live.host.open_reader(back) as reader:
        came: list[bytes] = []
        with trio.move_on_after(30):
            while len(came) < 11:
                came.append((await reader.receive()).value)
        kept = [*(b"%d" % number for number in range(10)), b"last"]
        # What is published before the broker has read our DISCONNECT is handed to that connection. Where it then comes
        # again, it comes after newer ones.
        assert (sorted(came) if kind.redelivers_after else came) == kept
        # A broker that sends again what it does not know to be acknowledged would do so now.
        await trio.sleep(1.5 if kind.redelivers_after else 0.1)
        with pytest.raises(trio.WouldBlock):
            reader.receive_nowait()


async def test_a_reader_that_is_slower_than_the_brokers_patience(
    session: Kind, kind: Traits, broker: Broker, domain: Domain
) -> None:
    """The gateway acknowledges what is in shared memory, and holds back the rest: some brokers then send that again."""
    back = Inbound("in", bytes, MqttRouting("test/in", qos=1), window=4, max_payload=100)
    async with (
        open_client(broker.port) as client,
        open_live([back], session.options(broker.url), domain) as live,
        live.host.open_reader(back) as reader,
    ):
        await live.until_up()
        for number in range(12):
            client.publish("test/in", b"%d" % number)
        await trio.sleep(1.5)  # three times the patience of the one that has so little
        came: list[int] = []
        with trio.move_on_after(3):
            while len(came) < 12 or kind.redelivers_after:
                came.append(int((await reader.receive()).value))
    assert list(dict.fromkeys(came)) == list(range(12)), "lost, or out of order"
    if not kind.redelivers_after:
        assert len(came) == 12


async def test_the_last_will_and_the_farewell(session: Kind, kind: Traits, broker: Broker, domain: Domain) -> None:
    """Of the connector's own presence: `Up` while it is connected, `Down` after a farewell and after none, retained."""
    there = out("out", "test/out")
    topic = "presence/of-it"
    async with open_client(broker.port, topic) as client, open_tap(broker.port) as tap:
        options = session.options(tap.url, presence=topic, client_id="present", reconnect=FAST)
        async with open_live([there], options, domain) as live:
            await live.until_up()
            said = [(await client.receive()).payload]
            tap.cut()
            said += [(await client.receive()).payload for _ in range(2)]
        said += [(await client.receive()).payload]
        assert said == [b"Up", b"Down", b"Up", b"Down"]
    async with open_client(broker.port, topic) as late:
        message = await late.receive()
        assert (message.payload, message.retained) == (b"Down", True)


async def test_a_client_id_that_can_stand_in_no_topic(
    session: Kind, kind: Traits, broker: Broker, domain: Domain, caplog: pytest.LogCaptureFixture
) -> None:
    """NATS 2.9 ends a connection whose last will has a '.' in its topic, where the presence has the client id."""
    options = session.options(broker.url, client_id="a.b", reconnect=FAST, connect_timeout=0.5)
    async with open_live([out("out", "test/out")], options, domain) as live:
        if "." in kind.forbidden_in_client_ids:
            with trio.fail_after(10):
                refused = await live.host.wait_for_health(Down)
            assert "Client identifier not valid" in str(refused)
            return
        await live.until_up()
        if "." in kind.forbidden_in_topics:
            await live.until_transitions(3)
            assert "no presence on 'taktora/a.b/health'" in caplog.text


async def test_a_protocol_that_the_broker_does_not_speak(
    session: Kind, kind: Traits, broker: Broker, domain: Domain
) -> None:
    if session.downgrades:  # paho tries again with an older one by itself, and says nothing of it
        return
    there = out("out", "test/out")
    async with open_live([there], session.options(broker.url, protocol="5", reconnect=FAST), domain) as live:
        [event] = await live.until_transitions(1)
        if 5 in kind.protocols:
            assert isinstance(event.after, Up)
        else:
            assert isinstance(event.after, Down)
            assert "Unsupported protocol version" in event.after.reason
