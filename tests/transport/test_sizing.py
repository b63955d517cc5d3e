from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

import msgspec
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from taktora_trio import ConfigError, Inbound, MqttConnector, MqttOptions, MqttRouting, Outbound, RawCodec
from taktora_trio.connectors.gateway import open_connector_gateway
from taktora_trio.connectors.plan import specs_of
from taktora_trio.host.open import open_connector_host
from taktora_trio.transport.domain import Domain
from taktora_trio.transport.node import open_node
from taktora_trio.transport.segments import PAGE, SHM
from taktora_trio.transport.services import open_services
from taktora_trio.transport.sizing import MemoryPlan, check_plan, plan_memory
from taktora_trio.transport.snapshot import page_bytes

MIB = 2**20


def connectors_of(*sizes: tuple[int, int], pairs: int = 1, metadata: int = 0) -> list[MqttConnector]:
    """A connector for each (window, max_payload), with so many channels in each direction."""
    return [
        MqttConnector(
            [
                channel
                for pair in range(pairs)
                for channel in (
                    Outbound(
                        f"out{pair}",
                        bytes,
                        MqttRouting("a/out"),
                        window=window,
                        max_payload=max_payload,
                        max_metadata=metadata,
                    ),
                    Inbound(
                        f"in{pair}",
                        bytes,
                        MqttRouting("a/in/#"),
                        window=window,
                        max_payload=max_payload,
                        max_metadata=metadata,
                    ),
                )
            ],
            codec=RawCodec(),
            name=f"mqtt{number}",
            options=MqttOptions(protocol="5"),
        )
        for number, (window, max_payload) in enumerate(sizes)
    ]


def in_pages(path: Path) -> int:
    return -(-path.lstat().st_size // PAGE) * PAGE


async def measured(domain: Domain, connectors: list[MqttConnector]) -> int:
    """Bytes of all files of a deployment with every port of both halves open, and the three nodes of a split one."""
    with trio.fail_after(60), domain.hold("owner", "plugin", "gateway"):
        async with contextlib.AsyncExitStack() as stack:
            owner, plugin, gateway = [
                await stack.enter_async_context(open_node(domain, name)) for name in ("supervisor", "plugin", "gateway")
            ]
            await stack.enter_async_context(open_services(owner, specs_of(connectors)))
            domain.announce_ready()
            host = await stack.enter_async_context(open_connector_host(plugin, connectors))
            await stack.enter_async_context(open_connector_gateway(gateway, connectors, incarnation=1, name="gateway"))
            for connector in connectors:
                for channel in connector.channels:
                    if isinstance(channel, Outbound):
                        await stack.enter_async_context(host.open_writer(channel))
                    elif isinstance(channel, Inbound):
                        await stack.enter_async_context(host.open_reader(channel))
            channels = sum(len(connector.channels) for connector in connectors)
            page = gateway.map_snapshot("gateway", page_bytes(len(connectors), channels))  # as one that runs
            stack.callback(page.close)
            await wait_all_tasks_blocked()  # the host opens its end of the health services by itself
            return sum(in_pages(path) for path in domain.files())


@pytest.mark.parametrize(
    "connectors",
    [
        connectors_of((1, 1)),
        connectors_of((64, 4096)),
        connectors_of((4, 1_048_576)),
        connectors_of((1024, 64)),
        connectors_of((64, 100), (16, 65_536)),
        connectors_of((20_000, 8)),
        connectors_of((1, 1), pairs=12),
        connectors_of((64, 100), metadata=2000),
    ],
    ids=["smallest", "default", "images", "many small", "two connectors", "a long window", "many channels", "metadata"],
)
async def test_the_plan_is_what_exists_with_a_little_to_spare(domain: Domain, connectors: list[MqttConnector]) -> None:
    planned = plan_memory(specs_of(connectors)).total_bytes
    actual = await measured(domain, connectors)
    assert actual <= planned <= 1.5 * actual
    assert domain.files() == []
    assert not domain.root.exists()


def test_every_channel_is_in_the_plan() -> None:
    plan = plan_memory(specs_of(connectors_of((64, 4096), (1, 1))))
    assert [channel.name for channel in plan.channels] == [
        "taktora.connector.mqtt0.out0.out",
        "taktora.connector.mqtt0.in0.in",
        "taktora.connector.mqtt1.out0.out",
        "taktora.connector.mqtt1.in0.in",
    ]
    out, inbound = plan.channels[:2]
    assert out.envelopes == 64 + 2  # the window, and what is on loan
    assert out.envelope_bytes == 80 + 4096
    assert inbound.envelope_bytes == 80 + 4096 + 512  # and the concrete topic
    assert plan_memory(specs_of(connectors_of((1, 1000), metadata=600))).channels[0].envelope_bytes == 80 + 1000 + 600
    assert plan.total_bytes == sum(channel.total_bytes for channel in plan.channels) + plan.overhead_bytes
    assert all(channel.total_bytes > channel.envelopes * channel.envelope_bytes for channel in plan.channels)


def test_what_is_free_is_what_the_file_system_says() -> None:
    free = plan_memory(specs_of(connectors_of((1, 1)))).free_bytes
    stat = os.statvfs(SHM)
    assert 0 < free <= stat.f_blocks * stat.f_frsize


def small_shm(free_bytes: int) -> MemoryPlan:
    return msgspec.structs.replace(plan_memory(specs_of(connectors_of((64, 65_536)))), free_bytes=free_bytes)


def test_what_does_not_fit_is_refused_with_the_table() -> None:
    plan = small_shm(8 * MIB)
    assert not plan.fits
    with pytest.raises(ConfigError) as caught:
        check_plan(plan)
    message, table = str(caught.value).split("\n", 1)
    assert "of shared memory and /dev/shm has 8.0 MiB free" in message
    assert "lower max_payload or window, or enlarge /dev/shm" in message
    assert table == plan.table()


def test_it_fits_to_the_last_byte() -> None:
    needed = small_shm(0).total_bytes
    check_plan(small_shm(needed))
    with pytest.raises(ConfigError):
        check_plan(small_shm(needed - 1))


def test_the_table_has_a_line_for_each_channel_and_what_they_come_to() -> None:
    plan = small_shm(3 * 2**30)
    lines = plan.table().splitlines()
    assert lines[0].split() == ["channel", "envelopes", "bytes", "each", "total"]
    rows = [line for line in lines[1:] if not line.startswith("-")]
    assert [row.split()[0] for row in rows[:2]] == [channel.name for channel in plan.channels]
    out = plan.channels[0]
    assert rows[0].split()[1:] == ["66", "65,616", f"{out.total_bytes / MIB:.1f}", "MiB"]
    assert rows[-2].split() == ["total", f"{plan.total_bytes / MIB:.1f}", "MiB"]
    assert rows[-1].split() == ["free", "in", "/dev/shm", "3.0", "GiB"]
    assert len({len(line) for line in lines if line.startswith("-")}) == 1


def test_the_json_says_the_same_in_bytes() -> None:
    plan = small_shm(8 * MIB)
    document = json.loads(plan.to_json())
    assert (document["total_bytes"], document["free_bytes"], document["fits"]) == (plan.total_bytes, 8 * MIB, False)
    assert [channel["total_bytes"] for channel in document["channels"]] == [c.total_bytes for c in plan.channels]
