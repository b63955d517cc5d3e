"""A disk that is full, or a store that is damaged: messages flow, the health says why, and it heals by itself."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from taktora_trio import Degraded, MqttOptions, MqttRouting, Outbound, Store, Up
from taktora_trio.transport.domain import Domain
from tests.brokers.live import Live, open_live
from tests.client import Client, open_client
from tests.mosquitto import Mosquitto

OUT = Outbound("out", bytes, MqttRouting("bad-disk/out", qos=1), max_payload=1024, window=32)


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", folder]).returncode:
        pytest.skip("a file system can't be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


async def until_degraded(live: Live, part: str) -> str:
    """Wait until the health shows a reason with this part, and return the reason."""
    with trio.fail_after(20):
        while True:
            state = await live.host.wait_for_health(Degraded)
            assert isinstance(state, Degraded)
            if part in state.reason:
                return state.reason
            await trio.sleep(0.02)


async def flows(live: Live, client: Client, name: str) -> None:
    """Send more than a window, and see all of it arrive."""
    wanted = [b"%s %d" % (name.encode(), number) + bytes(900) for number in range(100)]
    async with live.host.open_writer(OUT) as writer:
        for payload in wanted:
            await writer.send(payload)
        with trio.fail_after(20):
            await writer.wait_acknowledged()
    assert [(await client.receive()).payload for _ in wanted] == wanted


async def test_a_disk_that_is_full_holds_up_nobody(broker: Mosquitto, domain: Domain, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        (disk / "ballast").write_bytes(bytes(8192))
        store = Store(policy="always", path=disk / "store", max_bytes=2**20)
        async with (
            open_client(broker.port, "bad-disk/out") as client,
            open_live([OUT], MqttOptions(broker=broker.url, presence=None), domain, store=store) as live,
        ):
            await live.until_up()
            await flows(live, client, "well")
            with contextlib.suppress(OSError), (disk / "ballast").open("ab") as ballast:
                while True:
                    ballast.write(bytes(4096))
                    ballast.flush()
            await flows(live, client, "full")
            await until_degraded(live, "the disk is full")
            (disk / "ballast").unlink()
            with trio.fail_after(20):
                await live.host.wait_for_health(Up)
            await flows(live, client, "well again")


async def test_a_store_that_can_not_be_read_is_put_aside_and_said(
    broker: Mosquitto, domain: Domain, tmp_path: Path
) -> None:
    folder = tmp_path / "store" / "outbound" / "mqtt"
    folder.mkdir(parents=True)
    (folder / "000000000001-00-0badc0de.log").write_bytes(os.urandom(5000))
    store = Store(policy="always", path=tmp_path / "store")
    async with (
        open_client(broker.port, "bad-disk/out") as client,
        open_live([OUT], MqttOptions(broker=broker.url, presence=None), domain, store=store) as live,
    ):
        assert "put aside" in await until_degraded(live, "the store was damaged")
        await flows(live, client, "anew")
    assert [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size == 5000], list(
        folder.rglob("*")
    )
