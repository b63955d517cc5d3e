"""A cluster of three NATS servers under load both ways: whichever node is killed, nothing is lost at QoS 1."""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path

import pytest
import trio

from taktora_trio import Inbound, MqttOptions, MqttRouting, Outbound, Up
from taktora_trio.transport.domain import Domain
from tests.brokers.listener import open_listener, open_talker
from tests.brokers.live import Live, open_live
from tests.brokers.nats_cluster import NatsCluster, NatsNode, needs_cluster, open_nats_cluster

OUT = Outbound("out", bytes, MqttRouting("load/out", qos=1), window=500)
IN = Inbound("in", bytes, MqttRouting("load/in", qos=1), window=500)


async def in_use(cluster: NatsCluster, live: Live) -> NatsNode:
    state = await live.host.wait_for_health(Up)
    assert isinstance(state, Up)
    return cluster.at(state.at)


async def leader(cluster: NatsCluster, live: Live) -> NatsNode:
    return await cluster.leader()


async def stream_leader(cluster: NatsCluster, live: Live) -> NatsNode:
    return await cluster.leader("$MQTT_msgs")


@pytest.mark.chaos
@needs_cluster
async def test_any_node_of_a_cluster_may_be_killed_in_turn(domain: Domain, tmp_path: Path) -> None:
    sent, taken = 0, list[int]()
    changed = trio.Event()
    async with contextlib.AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(open_nats_cluster(tmp_path))
        # An independent subscriber and publisher, which go to another node as the gateway does.
        listener = await stack.enter_async_context(open_listener(cluster.ports[::-1], {"load/out": 1}))
        heard = listener.heard["load/out"]
        talker = await stack.enter_async_context(open_talker(cluster.ports))
        options = MqttOptions(
            broker=cluster.urls, brokers_are="cluster", client_id="app", keepalive=4, connect_timeout=2
        )
        live = await stack.enter_async_context(open_live([OUT, IN], options, domain))
        writer = await stack.enter_async_context(live.host.open_writer(OUT))
        reader = await stack.enter_async_context(live.host.open_reader(IN))
        await live.until_up()

        async def send(until: trio.Event) -> None:
            nonlocal sent
            while not until.is_set():
                await writer.send(b"%d" % sent)
                talker.say("load/in", b"%d" % sent, 1)
                sent += 1
                await trio.sleep(0.005)

        async def take() -> None:
            nonlocal changed
            async for received in reader:
                taken.append(int(received.value))
                changed.set()
                changed = trio.Event()

        async def until_there(numbers: set[int], seconds: float) -> None:
            with trio.fail_after(seconds):
                await listener.changes.wait_value(lambda _: numbers <= set(map(int, heard)))
                while not numbers <= set(taken):
                    await changed.wait()

        done = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, done)
            nursery.start_soon(take)
            await until_there({100}, 20)
            for choose in (in_use, leader, stream_leader):
                node = await choose(cluster, live)
                await node.stop(signal.SIGKILL)
                await until_there({sent + 1}, 40)  # 10 s mostly: the others choose another leader by then
                await node.start()
                await cluster.until_healthy()
            done.set()
            with trio.fail_after(40):
                await writer.wait_acknowledged()
                await talker.until_acknowledged()
            await until_there(set(range(sent)), 40)
            nursery.cancel_scope.cancel()
    assert set(map(int, heard)) == set(taken) == set(range(sent))
