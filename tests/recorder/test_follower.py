"""A follower has the decoded messages of a deployment that runs, and ends with it."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio

from taktora_trio import (
    CodecError,
    ConfigError,
    Deployment,
    JsonCodec,
    MqttConnector,
    MqttOptions,
    MqttRouting,
    MsgpackCodec,
    Outbound,
    PayloadCodec,
    RawCodec,
    ZstdCodec,
)
from taktora_trio.channels.codec import Buffer
from taktora_trio.errors import NoSuchDomain
from taktora_trio.recorder.follower import Message, open_follower
from taktora_trio.transport.domain import Domain
from tests.host.rig import open_channel, writer_of
from tests.transport.rig import open_domain


@attrs.frozen
class Reading:
    celsius: float
    tags: tuple[str, ...] = ()


class Backwards(PayloadCodec):
    """A codec of somebody's own."""

    name = "backwards"

    def encoder(self, message_type: type[Any]) -> Any:
        return lambda message: str(message.celsius)[::-1].encode()

    def decoder(self, message_type: type[Any]) -> Any:
        def decode(payload: Buffer) -> Any:
            if payload == b"?":
                raise CodecError("not a reading")
            return message_type(float(bytes(payload)[::-1]))

        return decode


def connector_of(codec: PayloadCodec, message_type: type[Any] = Reading, *names: str) -> MqttConnector:
    channels = [Outbound(name, message_type, MqttRouting(name), window=8) for name in names or ("readings",)]
    return MqttConnector(channels, codec=codec, options=MqttOptions(protocol="5"))


@pytest.mark.parametrize(
    ("codec", "message_type", "message", "value"),
    [
        (JsonCodec(), Reading, Reading(3.5, ("a",)), {"celsius": 3.5, "tags": ["a"]}),
        (MsgpackCodec(), Reading, Reading(3.5), {"celsius": 3.5, "tags": []}),
        (ZstdCodec(MsgpackCodec(), threshold=0), list[int], [7] * 200, [7] * 200),
        (RawCodec(), bytes, b"\xff\x00", b"\xff\x00"),
        (Backwards(), Reading, Reading(3.5), b"5.3"),
    ],
)
async def test_what_is_sent_is_decoded_by_the_name_of_its_codec(
    domain: Domain, codec: PayloadCodec, message_type: type[Any], message: object, value: object
) -> None:
    async with open_channel(domain, message_type, codec, max_payload=1000) as (writer, _):
        with open_follower(domain) as follower:
            await writer.send(message)
            [followed] = follower.take()
            assert (followed.value, followed.error, str(followed.channel)) == (value, "", "mqtt.c")


async def test_a_codec_of_somebodys_own_is_used_where_the_deployment_is_given(domain: Domain) -> None:
    connector = connector_of(Backwards())
    deployment = Deployment("greenhouse", None, [connector])
    async with open_domain(domain, connector) as node, writer_of(node, connector) as writer:
        with open_follower(domain, deployment=deployment) as follower:
            await writer.send(Reading(-2.25))
            assert [message.value for message in follower.take()] == [{"celsius": -2.25, "tags": ()}]


async def test_a_payload_that_cant_be_decoded_is_shown_as_it_is(domain: Domain) -> None:
    async with open_channel(domain, bytes, RawCodec()) as (writer, _):
        with open_follower(domain) as follower:
            follower.channels[0].decode = JsonCodec().decoder(int)
            await writer.send(b"{")
            [message] = follower.take()
            assert message.value == b"{"
            assert "not a json" in message.error


async def test_it_waits_for_messages_and_ends_with_the_run(domain: Domain, autojump_clock: Any) -> None:
    found: list[Message] = []

    async def follow(task_status: trio.TaskStatus[None]) -> None:
        with open_follower(domain, ["c"]) as follower:
            task_status.started()
            async for messages in follower.messages():
                found.extend(messages)
                seen.set()

    seen = trio.Event()
    async with trio.open_nursery() as nursery:
        async with open_channel(domain, int) as (writer, _):
            await nursery.start(follow)
            await writer.send(1)
            await seen.wait()
            await writer.send(2)
        nursery.cancel_scope.deadline = trio.current_time() + 1e6
    assert [message.value for message in found] == [1, 2], "what came last before the end is not missed"


async def test_one_channel_is_followed_or_all_and_another_is_told(domain: Domain) -> None:
    connector = connector_of(JsonCodec(), int, "a", "temperature")
    async with open_domain(domain, connector):
        with open_follower(domain) as follower:
            assert [channel.name for channel in follower.channels] == ["a", "temperature"]
        with open_follower(domain, ["mqtt.temperature"]) as follower:
            assert [str(channel) for channel in follower.channels] == ["mqtt.temperature"]
        for wrong, told in {
            "temprature": "did you mean 'temperature'",
            "zzz": "its channels are a, temperature",
        }.items():
            with pytest.raises(ConfigError, match=told), open_follower(domain, ["a", wrong]):
                pass


def test_a_domain_in_which_nothing_runs_is_told(domain: Domain) -> None:
    with pytest.raises(NoSuchDomain, match=f"no run in domain '{domain.name}'"), open_follower(domain):
        pass
