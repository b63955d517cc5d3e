"""All channels of a connector in one memory and one file: none touches another, and who has others is refused."""

from __future__ import annotations

import contextlib
import random
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from taktora_trio import Inbound, MqttConnector, MqttOptions, MqttRouting, Outbound, RawCodec, ServiceMismatch
from taktora_trio.connectors.plan import channel_spec, specs_of, trunk_spec
from taktora_trio.errors import TransportError
from taktora_trio.transport import services
from taktora_trio.transport.cursor import cursors_at, cursors_size
from taktora_trio.transport.domain import Domain
from taktora_trio.transport.node import open_node
from taktora_trio.transport.services import open_services
from taktora_trio.transport.spec import ChannelSpec, TrunkSpec
from tests.transport.rig import declare, open_domain, open_half, reading, take_all, writing

CHANNEL = st.builds(
    lambda direction, payload, topic, metadata, window: ChannelSpec(
        name="",
        direction=direction,
        max_payload=payload,
        topic_space=topic,
        metadata_space=metadata,
        window=window,
        description="",
    ),
    st.sampled_from(["out", "in"]),
    st.integers(1, 10_000),
    st.integers(0, 100),
    st.integers(0, 100),
    st.integers(1, 300),
)


@given(st.lists(CHANNEL, min_size=1, max_size=20))
def test_no_two_channels_have_a_byte_in_common(channels: list[ChannelSpec]) -> None:
    named = [_named(channel, f"c{number}") for number, channel in enumerate(channels)]
    spec = TrunkSpec(name="t", channels=tuple(named))
    for direction in spec.directions:
        at = 64
        for name, place in spec.rings(direction).items():
            channel = spec.by_name[name]
            assert (place.at % 64, place.table_at, place.slots_at % 64) == (0, place.at + 64, 0)
            assert place.at >= at
            assert place.slots_at - place.table_at >= 4 * channel.window
            at = place.slots_at + channel.slots * channel.envelope_size
        assert at <= spec.rings_bytes(direction) < at + 64
        assert spec.rings_bytes(direction) % 8 == 0
    places = cursors_at(spec)
    ends = [places[channel.name] + channel.counters_bytes for channel in named]
    assert all(end <= at for end, at in zip(ends, [*list(places.values())[1:], cursors_size(spec)], strict=True))


def _named(channel: ChannelSpec, name: str) -> ChannelSpec:
    return ChannelSpec(
        name=name,
        direction=channel.direction,
        max_payload=channel.max_payload,
        topic_space=channel.topic_space,
        metadata_space=channel.metadata_space,
        window=channel.window,
        description="",
    )


async def test_many_channels_side_by_side(domain: Domain) -> None:
    """Each with another size and another pace; some are full, some are never used."""
    rng = random.Random(12)
    channels: list[Any] = [
        kind(f"c{number}", bytes, MqttRouting("t"), max_payload=10 + 7 * number, window=1 + number % 5)
        for number, kind in enumerate([Outbound, Inbound] * 10)
    ]
    connector = MqttConnector(channels, codec=RawCodec())
    specs = [channel_spec(connector, channel) for channel in channels]
    sent: dict[str, list[bytes]] = {spec.name: [] for spec in specs}
    got: dict[str, list[bytes]] = {spec.name: [] for spec in specs}
    async with open_domain(domain, connector) as node, contextlib.AsyncExitStack() as stack:
        halves = {end: await stack.enter_async_context(open_half(node, connector, end)) for end in ("app", "gateway")}
        readers = {
            spec.name: stack.enter_context(halves[reading(spec)].open_subscriber(spec.name)) for spec in specs[:-2]
        }
        for turn in range(2000):
            spec = rng.choice(specs)
            payload = bytes([turn % 256]) * rng.randint(0, spec.max_payload)
            if halves[writing(spec)].publisher(spec.name).send(payload):
                sent[spec.name].append(payload)
            spec = rng.choice(specs)
            if (reader := readers.get(spec.name)) is not None:
                got[spec.name] += [payload for _, payload in take_all(reader)]
                reader.acknowledge(reader.taken)
        for name, reader in readers.items():
            got[name] += [payload for _, payload in take_all(reader)]
    assert [got[spec.name] for spec in specs[:-2]] == [sent[spec.name] for spec in specs[:-2]]
    assert [len(sent[spec.name]) for spec in specs[-2:]] == [spec.window for spec in specs[-2:]]


async def test_a_ring_wakes_the_one_that_waits_for_that_channel(domain: Domain) -> None:
    channels = [Outbound(f"c{number}", bytes, MqttRouting("t")) for number in range(3)]
    connector = MqttConnector(channels, codec=RawCodec())
    names = [channel_spec(connector, channel).name for channel in channels]
    woken: list[int] = []
    async with (
        open_domain(domain, connector) as node,
        open_half(node, connector, "app") as app,
        open_half(node, connector, "gateway") as gateway,
        trio.open_nursery() as nursery,
    ):

        async def wait(number: int) -> None:
            with gateway.open_subscriber(names[number]) as reader:
                while reader.take() is None:
                    reader.data.clear()
                    if reader.take() is not None:
                        break
                    await reader.data.wait()
                woken.append(number)

        for number in range(3):
            nursery.start_soon(wait, number)
        await trio.testing.wait_all_tasks_blocked()
        with trio.fail_after(5):
            for number in (1, 2, 0):
                app.publisher(names[number]).send(b"x")
                while number not in woken:
                    await trio.lowlevel.checkpoint()
    assert woken == [1, 2, 0]


@pytest.mark.parametrize("others", ["one less", "one more", "another order"])
async def test_a_half_with_other_channels_is_refused(others: str, domain: Domain) -> None:
    a, b, c = (Outbound(name, bytes, MqttRouting("t")) for name in "abc")
    connector = MqttConnector([a, b], codec=RawCodec())
    channels = {"one less": [a], "one more": [a, b, c], "another order": [b, a]}[others]
    other = MqttConnector(channels, codec=RawCodec())
    says = {"one less": "mqtt.b.out", "one more": "mqtt.c.out.*no such channel", "another order": "another order"}
    async with open_domain(domain, connector) as node:
        with pytest.raises(ServiceMismatch, match=says[others]):
            async with open_half(node, other, "app"):
                pass
        async with open_half(node, connector, "app"):
            pass


async def test_each_channel_that_differs_is_named_but_not_a_hundred_of_them(domain: Domain) -> None:
    def declared(count: int, window: int) -> MqttConnector:
        names = (f"c{n}" for n in range(count))
        return MqttConnector(
            [Outbound(name, bytes, MqttRouting("t"), window=window) for name in names], codec=RawCodec()
        )

    here, there = declared(7, window=4), declared(8, window=8)
    async with open_domain(domain, there) as node:
        with pytest.raises(ServiceMismatch) as caught:
            async with open_half(node, here, "app"):
                pass
    said = str(caught.value)
    for n in range(5):
        assert f"channel taktora.connector.mqtt.c{n}.out: this half has window 4, the domain has window 8" in said
    assert "c5" not in said
    assert "and 3 more channels" in said


async def test_what_the_other_version_has_written_is_escaped(domain: Domain) -> None:
    connector, spec = declare(bytes, RawCodec())
    async with open_domain(domain, connector) as node:
        path = domain.root / "cursors" / trunk_spec(connector).name
        path.write_bytes(path.read_bytes().replace(b"codec raw", b"codec\\nxx"))
        with pytest.raises(ServiceMismatch, match=r"has codec raw, the domain has codec\\nxx\. The") as caught:
            async with open_half(node, connector, "app"):
                pass
    assert spec.name in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\xff" * 9000, b"CURSORS1" + bytes(9000), b"CURSORS1\x09" + bytes(9000)])
async def test_a_file_of_cursors_that_is_none(content: bytes, domain: Domain) -> None:
    connector, _ = declare(bytes, RawCodec())
    with domain.hold("owner"):
        async with open_node(domain, "test") as node:
            path = domain.root / "cursors" / trunk_spec(connector).name
            path.write_bytes(content)
            with pytest.raises(TransportError, match="stop everything in this domain and start again"):
                async with open_services(node, specs_of([connector])):
                    pass


async def test_a_domain_of_another_version_is_told_by_its_number(domain: Domain) -> None:
    connector, _ = declare(bytes, RawCodec())
    async with open_domain(domain, connector) as node:
        path = domain.root / "cursors" / trunk_spec(connector).name
        path.write_bytes(path.read_bytes().replace(b"CURSORS1", b"CURSORS2"))
        said = (
            "this half has format 1 of what lies in shared memory, the domain has format 2.*another version of taktora"
        )
        with pytest.raises(ServiceMismatch, match=said):
            async with open_half(node, connector, "app"):
                pass


async def test_a_service_of_another_version_is_told(domain: Domain, monkeypatch: pytest.MonkeyPatch) -> None:
    """What each version makes for itself differs in ways that iceoryx2 finds."""
    connector, _ = declare(bytes, RawCodec())
    async with open_domain(domain, connector) as node:
        with monkeypatch.context() as patch:
            patch.setattr(services, "MAX_NODES", services.MAX_NODES + 1)
            with pytest.raises(ServiceMismatch, match=r"another form \(DoesNotSupport.*stop both halves"):
                services.reports_service(node.iox, f"{trunk_spec(connector).name}.health")
        with monkeypatch.context() as patch:
            patch.setattr(services.Report, "type_name", lambda: "taktora.Report.of.another.version")
            with pytest.raises(ServiceMismatch, match=r"another form \(IncompatibleTypes\)"):
                services.reports_service(node.iox, f"{trunk_spec(connector).name}.health")


def test_options_that_are_not_of_a_channel_make_no_other_format() -> None:
    """Both halves of a run are given them, and a gateway may have others than the app."""
    channel = Outbound("a", bytes, MqttRouting("t"))
    one, two = MqttConnector([channel]), MqttConnector([channel], options=MqttOptions(broker="mqtt://elsewhere"))
    assert trunk_spec(one) == trunk_spec(two)
