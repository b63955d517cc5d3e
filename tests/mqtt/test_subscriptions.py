"""What the session at the broker is subscribed to, over connections and over versions of a deployment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

import pytest
import trio

from taktora_trio.channels import ChannelDescriptor
from taktora_trio.connectors.mqtt.filters import ChannelFilters
from taktora_trio.connectors.mqtt.options import MqttOptions
from taktora_trio.connectors.mqtt.record import SubscriptionRecord
from taktora_trio.connectors.mqtt.sessions import open_session
from taktora_trio.connectors.mqtt.subscriptions import Subscriptions
from taktora_trio.connectors.mqtt.wire.message import Message
from tests.client import open_client
from tests.mosquitto import Mosquitto
from tests.mqtt.rig import FakeSession, inbound, open_bridge, outbound


class Disk:
    """In place of a record; `happened` has what was written, in its order among what was asked of the broker."""

    def __init__(self, content: set[str], happened: list[object], *, fails: bool = False) -> None:
        self.content, self.happened, self.fails = content, happened, fails

    def read(self) -> set[str]:
        return self.content

    def write(self, filters: Iterable[str]) -> None:
        if self.fails:
            raise OSError("the disk is full")
        self.content = set(filters)
        self.happened.append(self.content)


class Broker(FakeSession):
    def __init__(self, happened: list[object], *, present: bool, keeps: dict[str, str] | None = None) -> None:
        super().__init__(session_present=present)
        self.happened, self.keeps = happened, keeps or {}

    async def subscribe(self, filters: Mapping[str, int]) -> dict[str, str]:
        refused = await super().subscribe(filters)
        self.happened.append(("subscribe", dict(filters)))
        return refused

    async def unsubscribe(self, filters: Iterable[str]) -> dict[str, str]:
        await trio.lowlevel.checkpoint()
        self.happened.append(("unsubscribe", list(filters)))
        return self.keeps


def subscriptions(wanted: dict[str, int], disk: Disk | None) -> Subscriptions:
    return Subscriptions("mqtt", filters_of(wanted), cast("SubscriptionRecord | None", disk))


def filters_of(wanted: dict[str, Any]) -> ChannelFilters:
    return ChannelFilters(inbound(f"c{number}", name, qos) for number, (name, qos) in enumerate(wanted.items()))


async def test_once_a_session() -> None:
    happened: list[object] = []
    ours = subscriptions({"a": 1, "b": 2}, None)
    for present in (True, True, False, True):  # the first one may have been made by another process
        await ours.renew(Broker(happened, present=present))
    assert happened == [
        ("subscribe", {"a": 1, "b": 2}),
        ("subscribe", {"a": 1, "b": 2}),
    ]


async def test_what_an_earlier_version_has_left_is_unsubscribed_and_nothing_is_forgotten_on_the_way(
    caplog: pytest.LogCaptureFixture,
) -> None:
    happened: list[object] = []
    ours = subscriptions({"a": 1, "data/#": 1}, Disk({"a", "data/a", "$share/g/jobs/+"}, happened))
    with caplog.at_level("INFO"):
        await ours.renew(Broker(happened, present=True))
        await ours.renew(Broker(happened, present=True))
    assert happened == [
        {"a", "data/#", "data/a", "$share/g/jobs/+"},
        ("subscribe", {"a": 1, "data/#": 1}),
        ("unsubscribe", ["$share/g/jobs/+", "data/a"]),
        {"a", "data/#"},
    ]
    assert caplog.messages == ["mqtt: unsubscribed 2 filters that no channel needs: '$share/g/jobs/+', 'data/a'"]


async def test_a_session_that_the_broker_has_forgotten_has_nothing_left_over() -> None:
    happened: list[object] = []
    await subscriptions({"a": 1}, Disk({"b"}, happened)).renew(Broker(happened, present=False))
    assert happened == [{"a"}, ("subscribe", {"a": 1})]


async def test_where_nothing_has_changed_nothing_is_written() -> None:
    happened: list[object] = []
    await subscriptions({"a": 1}, Disk({"a"}, happened)).renew(Broker(happened, present=True))
    assert happened == [("subscribe", {"a": 1})]


async def test_what_the_broker_does_not_give_up_is_tried_again_by_the_next_process() -> None:
    happened: list[object] = []
    disk = Disk({"a", "b", "c"}, happened)
    await subscriptions({"a": 1}, disk).renew(Broker(happened, present=True, keeps={"c": "Not authorized"}))
    assert disk.content == {"a", "c"}


async def test_what_covers_others_and_is_granted_late_takes_their_place() -> None:
    happened: list[object] = []
    broker = Broker(happened, present=False)
    broker.refused_filters = {"x/#": "Quota exceeded"}
    ours = subscriptions({"x/#": 0, "x/y": 2}, Disk(set(), happened))
    await ours.renew(broker)
    broker.refused_filters = {}
    await ours.ask_again(broker)
    assert happened == [
        {"x/#"},
        ("subscribe", {"x/#": 2}),
        {"x/#", "x/y"},
        ("subscribe", {"x/y": 2}),
        ("subscribe", {"x/#": 2}),
        ("unsubscribe", ["x/y"]),
        {"x/#"},
    ]


async def test_a_disk_that_fails_is_told_of_once_and_no_reason_to_be_without_the_broker(
    caplog: pytest.LogCaptureFixture,
) -> None:
    happened: list[object] = []
    ours = subscriptions({"a": 1}, Disk({"b"}, happened, fails=True))
    await ours.renew(Broker(happened, present=True))
    await ours.renew(Broker(happened, present=False))
    assert happened == [("subscribe", {"a": 1}), ("unsubscribe", ["b"]), ("subscribe", {"a": 1})]
    assert len(caplog.messages) == 1
    assert "what is subscribed can't be remembered: the disk is full" in caplog.messages[0]


@pytest.mark.parametrize("session", ["native", "aiomqtt"])
@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
async def test_a_later_version_gets_no_messages_of_channels_that_it_has_no_more(
    session: Any, protocol: Any, broker: Mosquitto
) -> None:
    """The same client, twice, at a real broker; the session is there in between."""
    options = MqttOptions(broker=broker.url, client_id="lasting", persistent=True, session=session, protocol=protocol)
    put, take = trio.open_memory_channel[Message](10)
    for wanted in ({"kept/#": 1, "gone/#": 1}, {"kept/#": 1}):
        record = SubscriptionRecord("lasting", broker.url)
        with trio.fail_after(10):
            async with open_session(options, put.send_nowait) as opened:
                await Subscriptions("mqtt", filters_of(wanted), record).renew(opened)
                assert record.read() == set(wanted)
                assert opened.session_present == ("gone/#" not in wanted)
                for number, topic in enumerate(("gone/x", "kept/x")):
                    opened.publish(Message(topic, b"x", 1), number + 1, lambda *_: None)
                came = []
                while "kept/x" not in came:
                    message = await take.receive()
                    opened.acknowledge(message)
                    came.append(message.topic)
        assert came == [name.replace("#", "x") for name in sorted(wanted)]


async def test_the_bridge_remembers_for_the_next_version_what_it_has_subscribed(
    broker: Mosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    kept, gone = inbound("kept", "kept/#", 1), inbound("gone", "gone/#", 1)
    versions: list[list[ChannelDescriptor[Any]]] = [[outbound(), kept, gone], [outbound(), kept]]
    async with open_client(broker.port, "topic/out") as other:
        for channels in versions:
            with caplog.at_level("INFO"):
                async with open_bridge(*channels, broker=broker.url, client_id="bridge") as running:
                    running.sources["out"].put(b"x")
                    await other.receive()  # which it sends once it has subscribed
    assert [message for message in caplog.messages if "unsubscribed" in message] == [
        "mqtt: unsubscribed 1 filters that no channel needs: 'gone/#'"
    ]
    assert SubscriptionRecord("bridge", f"127.0.0.1:{broker.port}").read() == {"kept/#"}
