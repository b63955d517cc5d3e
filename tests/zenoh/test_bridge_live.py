"""The bridge of the examples between a real broker and a real router, with plain programs on both sides."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import AsyncIterator

import pytest
import trio

from taktora_trio.testing.zenoh.router import ZenohRouter
from taktora_trio.transport.domain import Domain
from tests.client import open_client
from tests.command import MODES, Command, open_command
from tests.hosts.network import Host
from tests.mosquitto import Mosquitto
from tests.patience import PATIENCE
from tests.zenoh.networks.nodes import Node, open_node

pytestmark = pytest.mark.zenoh


@contextlib.asynccontextmanager
async def open_bridge(mode: str, broker: Mosquitto, router: ZenohRouter, domain: Domain) -> AsyncIterator[Command]:
    options = ("--domain", domain.name, "--broker", broker.url, "--connect", router.endpoint)
    async with open_command("run", "examples.bridge:deployment", "--mode", mode, *options) as run:
        await run.until_event("health-up", count=3)
        yield run
        run.signal(signal.SIGTERM)
        assert await run.wait() == 0


async def value_of(node: Node, key: str) -> str:
    """Ask until somebody has the value: what is retained at the broker comes when the bridge is up."""
    with trio.fail_after(PATIENCE):
        while True:
            rounds, replies = len(node.told("asked")), len(node.told("reply"))
            await node.do("ask", key=key)
            await node.until("asked", rounds + 1)
            for reply in node.told("reply")[replies:]:
                assert reply["ok"]
                return str(reply["text"])


@pytest.mark.parametrize("mode", MODES)
async def test_messages_and_values_cross_it_also_those_that_are_older_than_it(
    mode: str, broker: Mosquitto, router: ZenohRouter, domain: Domain
) -> None:
    async with (
        open_client(broker.port, "plant/from/#", "state/from/#") as client,
        open_node(Host("here"), "client", connect__endpoints=[router.endpoint]) as node,
    ):
        await node.do("subscribe", key="plant/to/**")
        client.publish("state//mode", b"auto", retain=True)
        await client.publish_acknowledged("elsewhere", b"")
        for _ in range(2):  # the second one has a session at the broker already, and nothing in Zenoh
            async with open_bridge(mode, broker, router, domain):
                assert await value_of(node, "state/%2F/mode") == "auto"
                await node.do("put", key="plant/from/+zenoh", text="1")
                message = await client.receive()
                assert (message.topic, message.payload, message.retained) == ("plant/from/%2Bzenoh", b"1", False)
                await node.do("put", key="state/from/zenoh", text="2")
                message = await client.receive()
                assert (message.topic, message.payload) == ("state/from/zenoh", b"2")
                client.publish("plant/to/zenoh*", b"3")
                sample = await node.until("sample", len(node.told("sample")) + 1)
                assert (sample["key"], sample["text"]) == ("plant/to/zenoh%2A", "3")
    async with open_client(broker.port, "state/from/#") as later:
        message = await later.receive()
        assert (message.payload, message.retained) == (b"2", True)
