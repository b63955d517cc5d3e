"""Brokers that come from a package, as they come: what holds with each of them, and where they differ."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import trio

from taktora_trio import Inbound, Metadata, MqttRouting, Outbound
from taktora_trio.chaos.proxy import open_proxy
from taktora_trio.supervision.backoff import Backoff
from taktora_trio.transport.domain import Domain
from tests.brokers.live import open_live
from tests.brokers.packaged import PACKAGED, Packaged, open_packaged
from tests.brokers.sessions import SESSIONS, Kind

QUICK: dict[str, Any] = {"client_id": "app", "reconnect": Backoff(initial=0.02, maximum=0.1)}

each_broker = pytest.mark.parametrize(
    ("kind", "session"),
    [
        pytest.param(kind, session, id=f"{kind}-{session}", marks=kind.marks)
        for kind in PACKAGED
        for session in SESSIONS[:2]
        if session.level in kind.levels
    ],
)


def out(name: str, topic: str, qos: Any, **more: Any) -> Outbound[bytes]:
    return Outbound(name, bytes, MqttRouting(topic, qos=qos), **more)


def into(name: str, topic: str, qos: Any, **more: Any) -> Inbound[bytes]:
    return Inbound(name, bytes, MqttRouting(topic, qos=qos), **more)


@each_broker
async def test_round_trips_come_in_order_and_once(
    kind: Packaged, session: Kind, domain: Domain, tmp_path: Path
) -> None:
    levels = range(kind.highest_qos + 1)
    there, back = (
        [out(f"o{qos}", f"t/{qos}", qos) for qos in levels],
        [into(f"i{qos}", f"t/{qos}", qos) for qos in levels],
    )
    payloads = [b"%d" % number for number in range(300)]
    async with (
        open_packaged(kind, session.level, tmp_path) as url,
        open_live([*there, *back], session.options(url, client_id="app"), domain) as live,
    ):
        await live.until_up()
        for qos in levels:
            async with live.host.open_writer(there[qos]) as writer, live.host.open_reader(back[qos]) as reader:

                async def send(writer: Any = writer) -> None:
                    for payload in payloads:
                        await writer.send(payload)
                    await writer.wait_acknowledged()

                with trio.fail_after(20):
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(send)
                        came = [(await reader.receive()).value for _ in payloads]
                assert came == payloads


@each_broker
async def test_a_session_that_lasts(kind: Packaged, session: Kind, domain: Domain, tmp_path: Path) -> None:
    other = Domain(f"{domain.name}-other")
    channel = into("in", "wait", 1)
    async with open_packaged(kind, session.level, tmp_path) as url:
        async with open_live([channel], session.options(url, client_id="app"), domain) as live:
            await live.until_up()
        sender = out("out", "wait", 1)
        async with (
            open_live([sender], session.options(url, client_id="sender"), other) as live,
            live.host.open_writer(sender) as writer,
        ):
            for number in range(50):
                await writer.send(b"%d" % number)
            with trio.fail_after(20):
                await writer.wait_acknowledged()
        async with open_live([channel], session.options(url, client_id="app"), domain) as live:
            with trio.fail_after(20):
                async with live.host.open_reader(channel) as reader:
                    came = [(await reader.receive()).value for _ in range(50)]
        assert came == [b"%d" % number for number in range(50)]


@each_broker
async def test_metadata_of_mqtt_5(kind: Packaged, session: Kind, domain: Domain, tmp_path: Path) -> None:
    if session.level != 5:
        return
    there, back = out("out", "meta", 1, max_metadata=500), into("in", "meta", 1, max_metadata=500)
    said = Metadata(content_type="a/b", response_topic="c", user_properties=(("d", "e"), ("d", "f")))
    async with (
        open_packaged(kind, session.level, tmp_path) as url,
        open_live([there, back], session.options(url, client_id="app"), domain) as live,
    ):
        await live.until_up()
        async with live.host.open_writer(there) as writer, live.host.open_reader(back) as reader:
            await writer.send(b"x", metadata=said, correlation_id=b"\0\1")
            with trio.fail_after(10):
                received = await reader.receive()
            assert (received.metadata, received.header.correlation_id) == (said, b"\0\1")


@each_broker
async def test_over_cut_connections(kind: Packaged, session: Kind, domain: Domain, tmp_path: Path) -> None:
    qos = kind.qos_over_cuts
    channels = [out(name, f"cut/{name}", qos) for name in "abc"]
    echo = into("echo", "cut/+", qos)
    count, came = 100, list[bytes]()
    async with open_packaged(kind, session.level, tmp_path) as url:
        port = int(url.rpartition(":")[2])
        async with (
            open_proxy(port) as proxy,
            open_live(
                [*channels, echo], session.options(f"mqtt://{kind.login}{proxy.address}", **QUICK), domain
            ) as live,
            live.host.open_reader(echo) as reader,
            trio.open_nursery() as nursery,
        ):
            await live.until_up()

            async def send(channel: Outbound[bytes]) -> None:
                async with live.host.open_writer(channel) as writer:
                    for number in range(count):
                        await writer.send(b"%s%d" % (channel.name.encode(), number))
                    with trio.fail_after(20):
                        await writer.wait_acknowledged()

            for channel in channels:
                nursery.start_soon(send, channel)
            with trio.fail_after(30):
                while len(set(came)) < 3 * count:
                    came.append((await reader.receive()).value)
                    if len(came) in (50, 120):
                        proxy.cut()
    counts = Counter(came)
    assert qos < 2 or set(counts.values()) == {1}
    assert set(counts) == {b"%s%d" % (name.encode(), number) for name in "abc" for number in range(count)}
