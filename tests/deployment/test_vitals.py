"""What a third process sees of real halves, which it does not ask: such as run, hang, are stopped, and were killed."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable

import trio

from taktora_trio import (
    ConnectorHost,
    Deployment,
    Domain,
    Inbound,
    MqttConnector,
    MqttRouting,
    Outbound,
    RawCodec,
    vitals,
)
from taktora_trio.vitals import ChannelVitals, DomainVitals
from tests.client import open_client
from tests.command import Command, open_command, open_run
from tests.mosquitto import Mosquitto
from tests.patience import PATIENCE

ORDERS = Inbound("orders", bytes, MqttRouting("test/orders", qos=1))
DONE = Outbound("done", bytes, MqttRouting("test/done", qos=1))


async def obey(host: ConnectorHost) -> None:
    """Answer each order; one has the app block its loop."""
    async with host.open_reader(ORDERS) as orders, host.open_writer(DONE) as done:
        async for order in orders:
            if order.value == b"block":
                time.sleep(PATIENCE)  # noqa: ASYNC251 - that is what is told
            await done.send(order.value)


obeying = Deployment("obeying", obey, [MqttConnector([ORDERS, DONE], codec=RawCodec())])


def open_half(half: str, broker: Mosquitto, domain: Domain) -> contextlib.AbstractAsyncContextManager[Command]:
    options = ("--broker", broker.url, "--domain", domain.name)
    return open_command(half, "tests.deployment.test_vitals:obeying", *options)


async def seen(domain: Domain, fits: Callable[[DomainVitals], bool]) -> DomainVitals:
    """Look until what there is to see is as it should be, and return it."""
    last = None
    with trio.move_on_after(PATIENCE):
        async with contextlib.aclosing(vitals.watch(domain, every=0.05)) as readings:
            async for last in readings:
                if fits(last):
                    return last
    raise AssertionError(f"last seen: {last}")


def channel(of: DomainVitals, name: str) -> ChannelVitals:
    return next(one for one in of.channels if one.name == name)


def state(of: DomainVitals, half: str) -> str:
    there = of.halves[half]
    return "" if there is None else there.state


async def test_a_half_is_seen_whatever_it_does(broker: Mosquitto, domain: Domain) -> None:
    async with open_client(broker.port, "test/done") as client, open_half("plugin", broker, domain) as plugin:
        await plugin.until_event("waiting-for-gateway")
        alone = await seen(domain, lambda now: state(now, "plugin") == "runs")
        assert (alone.halves["gateway"], alone.app, alone.mode) == (None, "obeying", "separate")
        async with open_half("gateway", broker, domain) as gateway:
            await plugin.until_event("health-up")
            for payload in (b"one", b"three"):
                client.publish("test/orders", payload, qos=1)
                await client.receive()
            both = {("done", 8, 2), ("orders", 8, 2)}
            now = await seen(
                domain, lambda now: now.is_well and {(c.name, c.payload_bytes, c.done) for c in now.channels} == both
            )
            done, orders = channel(now, "done"), channel(now, "orders")
            assert (done.messages, done.payload_bytes, done.in_use, done.refused, done.expired) == (2, 8, 0, 0, 0)
            assert (orders.messages, orders.payload_bytes, orders.done, orders.discarded) == (2, 8, 2, 0)
            assert 0 < (done.latency or 0) < PATIENCE
            assert 0 <= (done.age or 0) < PATIENCE
            assert now.connectors["mqtt"].peer == broker.url
            half = now.halves["gateway"]
            assert half is not None
            assert (half.pid, half.restarts) == (gateway.pid, 0)

            gateway.signal(signal.SIGSTOP)
            now = await seen(domain, lambda now: state(now, "gateway") == "stopped")
            assert f"kill -CONT {gateway.pid}" in now.problems[0]
            gateway.signal(signal.SIGCONT)
            await seen(domain, lambda now: now.is_well)

            gateway.signal(signal.SIGKILL)
            await gateway.wait(PATIENCE)
            now = await seen(domain, lambda now: now.connectors["mqtt"].health == "Down")
            assert state(now, "gateway") == "gone"
            assert [(one.before, one.after) for one in now.history[-2:]] == [("Connecting", "Up"), ("Up", "Down")]
            assert (
                now.connectors["mqtt"].cause
                == now.history[-1].cause
                == f"the gateway process (pid {gateway.pid}) ended"
            )
            assert channel(now, "orders").discarded == 0  # as it has said last
        async with open_half("gateway", broker, domain) as gateway:
            now = await seen(domain, lambda now: now.is_well and now.halves["gateway"].restarts == 1)  # type: ignore[union-attr]
            client.publish("test/orders", b"block", qos=1)
            now = await seen(domain, lambda now: state(now, "plugin") == "hangs")
            assert state(now, "gateway") == "runs"
            assert f"process {plugin.pid} has not turned its loop" in now.problems[0]
            assert channel(now, "orders").in_use == 1  # says the gateway, which lives
            plugin.signal(signal.SIGKILL)
            await plugin.wait(PATIENCE)
            assert state(vitals.read(domain), "plugin") == "gone"
            gateway.signal(signal.SIGTERM)
            assert await gateway.wait(5) == 0
        assert domain.name not in vitals.domains()


async def test_a_run_in_two_processes_and_its_restarts(broker: Mosquitto, domain: Domain) -> None:
    async with open_run("tests.deployment.test_vitals:obeying", "split", broker, domain) as run:
        await run.until_event("health-up")
        now = await seen(domain, lambda now: now.is_well and len(now.connectors) == 1)
        assert (now.mode, now.owner, now.app) == ("split", run.pid, "obeying")
        run.signal(signal.SIGKILL, run.half("gateway"))
        now = await seen(domain, lambda now: now.is_well and bool(now.halves["gateway"].restarts))  # type: ignore[union-attr]
        half = now.halves["gateway"]
        assert half is not None
        assert (half.incarnation, half.restarts, half.pid) == (2, 1, run.half("gateway"))
        now = await seen(domain, lambda now: [one.after for one in now.history[-2:]] == ["Connecting", "Up"])
        assert any(one.after == "Down" and "killed by SIGKILL" in one.reason for one in now.history)
        run.signal(signal.SIGTERM)
        assert await run.wait(5) == 0
    assert domain.name not in vitals.domains()


async def test_a_run_in_one_process(broker: Mosquitto, domain: Domain) -> None:
    async with open_run("tests.deployment.test_vitals:obeying", "in-process", broker, domain) as run:
        await run.until_event("health-up")
        now = await seen(domain, lambda now: now.is_well and len(now.connectors) == 1)
        assert now.mode == "in-process"
        assert {half.pid for half in now.halves.values() if half is not None} == {run.pid}
        run.signal(signal.SIGTERM)
        assert await run.wait(5) == 0
