"""What is read of a run from outside, whatever state it is in, and whatever is in its files."""

from __future__ import annotations

import os
import time
import uuid
from contextlib import aclosing

import msgspec
import pytest

from taktora_trio import Domain, vitals
from taktora_trio.errors import NoSuchDomain
from taktora_trio.transport.domain import Role
from taktora_trio.transport.pulse import open_pulse
from taktora_trio.transport.snapshot import SnapshotWriter, read_snapshot, snapshot_bytes
from taktora_trio.vitals.reading import page_name

from .pages import change, channel, down, open_run, page, up, write


@pytest.fixture
def domain() -> Domain:
    return Domain(f"v{uuid.uuid4().hex[:8]}")


def test_both_halves_are_read_as_one_run(domain: Domain) -> None:
    plugin = page(domain, "plugin", channels=[channel(messages=7, payload_bytes=70, done=5, in_use=2)])
    gateway = page(
        domain, "gateway", channels=[channel(messages=7, payload_bytes=None, done=5, in_use=2, backlog=1, expired=3)]
    )
    with open_run(domain, plugin, gateway):
        seen = vitals.read(domain.name)
    assert (seen.domain, seen.app, seen.mode, seen.owner) == (domain.name, "greenhouse", "in-process", os.getpid())
    assert seen.problems == []
    (north,) = seen.channels
    assert (north.messages, north.payload_bytes, north.backlog, north.expired, north.window) == (7, 70, 1, 3, 64)
    assert seen.connectors["mqtt"].peer == "mqtt://broker:1883"
    half = seen.halves["plugin"]
    assert half is not None
    assert (half.state, half.pid, half.restarts) == ("runs", os.getpid(), 0)
    assert half.memory != 40_000_000  # as /proc has it now
    assert 60 <= (half.uptime or 0) < 120
    msgspec.json.encode(seen)


@pytest.mark.parametrize("last", ["plugin", "gateway"])
def test_the_order_is_that_of_the_deployment_whoever_has_written_last(domain: Domain, last: str) -> None:
    names = ["b", "a", "c"]
    plugin = page(domain, "plugin", channels=[channel(name) for name in names], connectors=[up("y"), up("x")])
    gateway = page(domain, "gateway", channels=[channel("c"), channel("b")], connectors=[up("x")])
    with open_run(domain, *sorted([plugin, gateway], key=lambda one: one.name == last)):
        seen = vitals.read(domain)
    assert [one.name for one in seen.channels] == names
    assert list(seen.connectors) == ["y", "x"]


def test_where_there_is_no_run_those_that_there_are_are_named(domain: Domain) -> None:
    other = Domain(f"{domain.name}-with-a-long-name")
    with open_run(other), pytest.raises(NoSuchDomain, match=f"no run in domain '{domain.name}'.*{other.name}"):
        vitals.read(domain)
    with open_run(other):
        assert other.name in vitals.domains()
    assert other.name not in vitals.domains()


@pytest.mark.parametrize("damage", ["cut", "torn", "version", "other", "empty", "content"])
def test_a_page_that_cannot_be_read_is_said_in_a_line(domain: Domain, damage: str) -> None:
    with open_run(domain):
        path = domain.present().path / page_name("gateway")
        content = bytearray(path.read_bytes())
        said = {"version": "format 99", "other": "none of ours", "content": "can't be read", "empty": "is cut"}
        if damage == "cut":
            del content[len(content) // 2 :]
        elif damage == "empty":
            content.clear()
        elif damage == "torn":
            content[len(content) // 2 + 100] ^= 1
        elif damage == "version":
            content[8] = 99
        elif damage == "other":
            content[0] ^= 1
        if damage == "content":
            writer = SnapshotWriter(bytearray(snapshot_bytes(100)))
            writer.write(msgspec.msgpack.encode(["nonsense"]))
            content[:] = writer._memory
        path.write_bytes(content)
        seen = vitals.read(domain)
    gateway, plugin = seen.halves["gateway"], seen.halves["plugin"]
    assert gateway is not None
    assert plugin is not None
    assert (gateway.state, plugin.state) == ("unreadable", "runs")
    assert said.get(damage, f"is {damage}") in gateway.problem
    assert "\n" not in gateway.problem
    assert len(seen.problems) == 1


def test_a_half_that_has_written_nothing_for_long_hangs(domain: Domain) -> None:
    with open_run(domain):
        path = domain.present().path / page_name("plugin")
        content = read_snapshot(path)
        assert content is not None
        memory = bytearray(path.read_bytes())
        SnapshotWriter(memory).write(content.content, monotonic_ns=time.monotonic_ns() - 60 * 10**9)
        path.write_bytes(memory)
        seen = vitals.read(domain)
    half = seen.halves["plugin"]
    assert half is not None
    assert (half.state, half.is_well) == ("hangs", False)
    assert half.age == pytest.approx(60, abs=5)
    assert (half.loop_lag or 0) > 50


def test_a_half_whose_process_has_ended_is_gone(domain: Domain) -> None:
    with open_run(domain, page(domain, "plugin"), page(domain, "gateway", pid=2**22), roles=("owner", "plugin")):
        seen = vitals.read(domain)
    assert seen.mode == "separate"
    half = seen.halves["gateway"]
    assert half is not None
    assert (half.state, half.memory, half.uptime) == ("gone", None, None)


def test_a_half_that_has_said_nothing_yet_starts_and_one_that_is_not_there_is_none(domain: Domain) -> None:
    with open_run(domain, page(domain, "plugin"), roles=("owner", "plugin")):
        seen = vitals.read(domain)
        assert seen.halves["gateway"] is None
        assert seen.problems == ["there is no gateway"]
        with domain.hold("gateway"):
            half = vitals.read(domain).halves["gateway"]
            assert half is not None
            assert half.state == "starts"


def test_a_half_that_takes_the_place_of_one_that_has_ended_starts(domain: Domain) -> None:
    for before in (page(domain, "gateway", pid=2**22), page(domain, "gateway", pid=1, has_ended=True)):
        with open_run(domain, page(domain, "plugin"), before):
            half = vitals.read(domain).halves["gateway"]
        assert half is not None
        assert (half.state, half.pid, half.is_well) == ("starts", os.getpid(), True)


def test_gateways_of_single_connectors_are_halves_of_their_own(domain: Domain) -> None:
    plugin = page(domain, "plugin", connectors=[up("a"), down("b")], channels=[channel(connector="a")])
    pages = [page(domain, "gateway:a", connectors=[up("a")]), page(domain, "gateway:b", connectors=[down("b")])]
    with open_run(domain, plugin, *pages):
        seen = vitals.read(domain)
    assert list(seen.halves) == ["plugin", "gateway:a", "gateway:b"]
    assert seen.problems == ["connector b is Down: connection refused"]
    pages[1] = page(domain, "gateway:b", pid=2**22)
    with open_run(domain, page(domain, "plugin"), *pages):
        states = {name: half and half.state for name, half in vitals.read(domain).halves.items()}
    assert states == {"plugin": "runs", "gateway:a": "runs", "gateway:b": "gone"}


def test_the_health_is_the_plugins_which_knows_of_a_gateway_that_has_ended(domain: Domain) -> None:
    plugin = page(domain, "plugin", connectors=[down(reason="killed by SIGKILL")], history=[change("Down")])
    with open_run(domain, plugin, page(domain, "gateway")):
        seen = vitals.read(domain)
    assert seen.connectors["mqtt"].health == "Down"
    assert seen.connectors["mqtt"].peer == "mqtt://broker:1883"
    assert [one.after for one in seen.history] == ["Down"]


def test_a_page_that_is_too_small_loses_the_oldest_of_the_history_first(domain: Domain) -> None:
    history = [change("Down", at=float(at), reason="x" * 1000, cause="y" * 1000) for at in range(32)]
    with open_run(domain, page(domain, "plugin", history=history)):
        seen = vitals.read(domain)
    assert 0 < len(seen.history) < 32
    assert seen.history[-1].at == 31.0
    assert len(seen.channels) == 2


def test_channels_with_long_names_lose_their_addresses_rather_than_their_figures(domain: Domain) -> None:
    channels = [
        channel(f"{number:064}", connector="c" * 64, address="ü" * 120, payload_bytes=2**60) for number in range(300)
    ]
    with open_run(domain, page(domain, "plugin", channels=channels), page(domain, "gateway", channels=[])):
        seen = vitals.read(domain)
    assert len(seen.channels) == 300
    assert {(one.address, one.payload_bytes) for one in seen.channels} == {("", 2**60)}


def test_rates_are_of_two_readings_and_a_counter_may_begin_anew(domain: Domain) -> None:
    with open_run(domain):
        before = vitals.read(domain)
    after = msgspec.structs.replace(
        before,
        read_at=before.read_at + 2,
        channels=[
            msgspec.structs.replace(before.channels[0], messages=1500, payload_bytes=500, done=1400),
            before.channels[1],
        ],
    )
    rates = vitals.rates(before, after)
    north = rates.of(after.channels[0])
    assert (north.messages, north.done, north.payload_bytes) == (250.0, 200.0, 250.0)
    assert rates.of(after.channels[1]).messages == 0.0
    assert vitals.rates(after, after).channels == {}


async def test_watch_yields_again_and_again_until_the_run_has_ended(domain: Domain, autojump_clock: object) -> None:
    seen = []
    with pytest.raises(NoSuchDomain):  # noqa: PT012
        with open_run(domain):
            async with aclosing(vitals.watch(domain, every=5)) as readings:
                async for reading in readings:
                    seen.append(reading.channels[0].messages)
                    write(domain, page(domain, "plugin", channels=[channel(messages=len(seen))]))
                    write(domain, page(domain, "gateway", channels=[]))
                    if len(seen) == 3:
                        break
        vitals.read(domain)
    assert seen == [1000, 1, 2]


def test_a_page_with_a_time_that_no_calendar_has_is_unreadable(domain: Domain) -> None:
    with open_run(domain, page(domain, "plugin", history=[change("Down", at=1e300)]), page(domain, "gateway")):
        seen = vitals.read(domain)
    plugin = seen.halves["plugin"]
    assert plugin is not None
    assert plugin.state == "unreadable"
    assert "can't be read" in plugin.problem


@pytest.mark.parametrize(
    ("mode", "processes"),
    [
        ("in-process", [("owner", "plugin", "gateway")]),
        ("separate", [("owner", "plugin"), ("gateway",)]),
        ("split", [("owner",), ("plugin",), ("gateway",)]),
    ],
)
def test_a_run_that_was_killed_is_shown_as_what_it_was_and_its_connectors_as_down(
    domain: Domain, mode: str, processes: list[tuple[Role, ...]]
) -> None:
    pids = {role: 2**22 + number for number, roles in enumerate(processes) for role in roles}
    with domain.hold("owner", "plugin", "gateway"):
        for half in ("plugin", "gateway"):
            bad = [down("other")] if half == "plugin" else []
            write(domain, page(domain, half, pid=pids[half], connectors=[up(reconnects=3), *bad]))
        for roles in processes:
            with open_pulse(domain, *roles):
                pass
        with pytest.MonkeyPatch.context() as killed:
            killed.setattr(Domain, "holder", lambda self, role: None)
            seen = vitals.read(domain)
    assert (seen.mode, seen.owner) == (mode, None)
    assert [half and half.state for half in seen.halves.values()] == ["gone", "gone"]
    mqtt, other = seen.connectors["mqtt"], seen.connectors["other"]
    assert (mqtt.health, mqtt.reason, mqtt.reconnects) == ("Down", "both halves are gone; it was Up before", 3)
    assert mqtt.since == pytest.approx(time.time(), abs=60)
    assert (other.health, other.reason) == ("Down", "connection refused")
