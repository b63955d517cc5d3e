"""What mosquitto does with the order of queued messages, seen by a client that is not ours: see docs/brokers.md."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import trio

from tests.brokers.listener import open_talker
from tests.brokers.packets import CONNECT, PUBACK, PUBLISH, SUBACK, SUBSCRIBE, Packet, packet, split, text
from tests.mosquitto import find_mosquitto, open_mosquitto

QUEUED = 300
QUIET = 0.2  # seconds in which nothing comes


class Reader:
    """Answers at QoS 1 at once, and at QoS 2 not at all, as if its app had the first such message in hand."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.heard: list[int] = []
        """Of QoS 1."""
        self._rest = b""

    async def receive(self) -> list[Packet]:
        packets, self._rest = split(self._rest + await self.stream.receive_some())
        return packets

    async def until_quiet(self) -> None:
        quiet = False
        while not quiet:
            with trio.move_on_after(QUIET) as scope:
                for found in await self.receive():
                    if found.kind == PUBLISH and (message := found.published()).qos == 1:
                        self.heard.append(int(message.payload))
                        await self.stream.send_all(packet(PUBACK, message.packet_id))
            quiet = scope.cancelled_caught


async def connect(port: int) -> Reader:
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    await stream.send_all(packet(CONNECT, text("MQTT") + bytes([4, 0, 0, 0]) + text("reader")))
    return Reader(stream)


async def version() -> tuple[int, ...]:
    told = await trio.run_process([find_mosquitto(), "-h"], capture_stdout=True, stderr=subprocess.STDOUT, check=False)
    found = re.search(rb"version (\d+)\.(\d+)\.(\d+)", told.stdout)
    assert found is not None
    return tuple(map(int, found.groups()))


@pytest.mark.parametrize("limit", [20, 0])
async def test_where_mosquitto_has_a_limit_in_flight_a_new_message_can_come_before_queued_ones(
    limit: int, tmp_path: Path
) -> None:
    with trio.fail_after(20):
        async with (
            open_mosquitto(tmp_path, [f"max_inflight_messages {limit}"]) as broker,
            open_talker(broker.port) as talker,
        ):
            reader = await connect(broker.port)
            async with reader.stream:
                await reader.stream.send_all(packet(SUBSCRIBE, b"\0\1" + text("t/#") + b"\2"))
                while not any(found.kind == SUBACK for found in await reader.receive()):
                    pass
            for number in range(QUEUED):
                talker.say("t/1", b"%d" % number, 1 + number % 2)
            await talker.until_acknowledged()
            reader = await connect(broker.port)
            async with reader.stream:
                await reader.until_quiet()
                talker.say("t/1", b"%d" % QUEUED, 1)
                await talker.until_acknowledged()
                await reader.until_quiet()
    assert QUEUED in reader.heard
    in_order = reader.heard == sorted(reader.heard)
    assert in_order == (limit == 0 or await version() >= (2, 0, 13))
