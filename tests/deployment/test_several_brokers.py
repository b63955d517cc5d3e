"""Several real brokers: the first dies, hangs or is stopped under load, the second takes over, the first comes back."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio

from taktora_trio import Inbound, MqttOptions, MqttRouting, Outbound, Up
from taktora_trio.transport.domain import Domain
from tests.brokers.listener import Listener, Talker, open_listener, open_talker
from tests.brokers.live import Live, open_live
from tests.brokers.sessions import SESSIONS, Kind
from tests.command import open_command
from tests.deployment.lossless import TARGET
from tests.deployment.lossless_apps import Plan, variable
from tests.mosquitto import Mosquitto, open_mosquitto

OUT_1 = Outbound("out1", bytes, MqttRouting("out/1", qos=1), window=200)
OUT_2 = Outbound("out2", bytes, MqttRouting("out/2", qos=2), window=200)
OUT_2B = Outbound("out2b", bytes, MqttRouting("out/2b", qos=2), window=200)
STOCK = ["max_inflight_messages 20", "max_queued_messages 1000"]  # while 20 of QoS 2 are half done, it drops others
IN = Inbound("in", bytes, MqttRouting("in", qos=1), window=200)
NATIVE = SESSIONS[:2]


def quick(session: Kind, urls: list[str], **more: Any) -> MqttOptions:
    options: dict[str, Any] = {
        "keepalive": 2,
        "connect_timeout": 1.0,
        "return_to_first": 0.5,
        "client_id": "app",
        **more,
    }
    return session.options(",".join(urls), **options)


@contextlib.asynccontextmanager
async def open_two(folder: Path, more: Sequence[str] = ()) -> AsyncIterator[tuple[Mosquitto, Mosquitto]]:
    async with contextlib.AsyncExitStack() as stack:
        brokers = []
        for name in ("first", "second"):
            kept = folder / name
            kept.mkdir()
            lines = [*more, "persistence true", f"persistence_location {kept}/"]
            brokers.append(await stack.enter_async_context(open_mosquitto(kept, lines)))
        yield brokers[0], brokers[1]


async def until_up_at(live: Live, broker: Mosquitto, seconds: float = 20) -> None:
    with trio.fail_after(seconds):
        state = await live.host.wait_for_health(Up)
        for event in reversed(live.events):
            if isinstance(event.after, Up):
                state = event.after
                break
        seen = 0
        while not (isinstance(state, Up) and str(broker.port) in state.at):
            seen = max(seen + 1, len(live.events))
            state = (await live.until_transitions(seen + 1))[-1].after


def first_times(heard: list[bytes]) -> list[int]:
    return [int(number) for number in dict.fromkeys(heard)]


@pytest.mark.parametrize(
    ("session", "fault"),
    [
        pytest.param(NATIVE[0], signal.SIGKILL, id="native-SIGKILL"),
        pytest.param(NATIVE[0], signal.SIGSTOP, id="native-SIGSTOP", marks=pytest.mark.chaos),
        pytest.param(NATIVE[1], signal.SIGKILL, id="native-5-SIGKILL", marks=pytest.mark.chaos),
        pytest.param(SESSIONS[2], signal.SIGKILL, id="aiomqtt-SIGKILL", marks=pytest.mark.chaos),
    ],
)
async def test_outbound_nothing_is_lost_and_each_broker_hears_it_in_order(
    session: Kind, fault: signal.Signals, domain: Domain, tmp_path: Path
) -> None:
    channels = [OUT_1, OUT_2, OUT_2B] if session.lasting_qos == 2 else [OUT_1]
    sent = 0
    # A broker that is killed loses what it still has for a subscriber, as it has with the stock one's 20 in flight.
    more = STOCK if fault == signal.SIGSTOP else []
    async with open_two(tmp_path, more) as (first, second), contextlib.AsyncExitStack() as stack:
        filters = {"out/1": 1, "out/2": 2, "out/2b": 2}
        listeners = [await stack.enter_async_context(open_listener(one.port, filters)) for one in (first, second)]
        options = quick(session, [first.url, second.url], persistent=True)
        live = await stack.enter_async_context(open_live(channels, options, domain))
        writers = [await stack.enter_async_context(live.host.open_writer(channel)) for channel in channels]

        async def send(count: int) -> None:
            nonlocal sent
            for _ in range(count):
                for writer in writers:
                    await writer.send(b"%d" % sent)
                sent += 1
                await trio.sleep(0.001)

        await until_up_at(live, first)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, 400)
            await listeners[0].changes.wait_value(lambda _: any(len(got) > 50 for got in listeners[0].heard.values()))
            if fault == signal.SIGSTOP:
                os.kill(first.pid, fault)
            else:
                await first.stop(fault)
        await until_up_at(live, second)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, 400)
            if fault == signal.SIGSTOP:
                os.kill(first.pid, signal.SIGCONT)
            else:
                await first.start()
            await until_up_at(live, first)
        await send(100)
        for channel, writer in zip(channels, writers, strict=True):
            with trio.fail_after(20):
                await writer.wait_acknowledged()
            await listeners[0].until_heard(channel.routing.address, b"%d" % (sent - 1))
    for channel in channels:
        check(listeners, channel.routing.address, sent)


def check(listeners: list[Listener], topic: str, sent: int) -> None:
    heard = [listener.heard[topic] for listener in listeners]
    assert set(first_times(heard[0])) | set(first_times(heard[1])) == set(range(sent))
    for at_one in heard:
        assert at_one
        assert first_times(at_one) == sorted(first_times(at_one))


async def test_inbound_messages_wait_at_the_broker_that_they_were_published_at(domain: Domain, tmp_path: Path) -> None:
    async with open_two(tmp_path) as (first, second), contextlib.AsyncExitStack() as stack:
        options = quick(NATIVE[0], [first.url, second.url])
        at_first = await stack.enter_async_context(open_talker(first.port))
        at_second = await stack.enter_async_context(open_talker(second.port))
        live = await stack.enter_async_context(open_live([IN], options, domain))
        reader = await stack.enter_async_context(live.host.open_reader(IN))

        taken: list[bytes] = []

        async def take_until(number: int) -> None:
            with trio.fail_after(20):
                while taken[-1:] != [b"%d" % number]:
                    taken.append((await reader.receive()).value)

        def say(talker: Talker, numbers: range) -> None:
            for number in numbers:
                talker.say("in", b"%d" % number, 1)

        await until_up_at(live, first)
        say(at_first, range(100))
        await take_until(99)
        await at_first.until_acknowledged()
        await first.stop(signal.SIGTERM)
        await until_up_at(live, second)
        say(at_first, range(200, 300))  # it gets through when the first is back, and that is before the app is
        say(at_second, range(100, 200))
        await take_until(199)
        await first.start()
        await take_until(299)
        await until_up_at(live, first)
        assert first_times(taken) == list(range(300))  # a broker that ends may not have read all acknowledgements


async def test_a_first_broker_that_accepts_and_says_nothing(domain: Domain, tmp_path: Path) -> None:
    async def say_nothing(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery, open_mosquitto(tmp_path) as second:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, say_nothing, [listener])
        hung = f"mqtt://127.0.0.1:{listener.socket.getsockname()[1]}"
        options = quick(NATIVE[0], [hung, second.url], connect_timeout=0.2, return_to_first=0.2)
        async with open_live([OUT_1], options, domain) as live:
            await until_up_at(live, second, seconds=5)
            async with live.host.open_writer(OUT_1) as writer:
                for number in range(100):  # it is tried again meanwhile, and nothing is noticed of that
                    await writer.send(b"%d" % number)
                    await trio.sleep(0.01)
                await writer.wait_acknowledged()
            assert [event for event in live.events if not isinstance(event.after, Up)] == []
        nursery.cancel_scope.cancel()


@pytest.mark.chaos
async def test_gateways_are_killed_at_either_broker(domain: Domain, tmp_path: Path) -> None:
    options: dict[str, object] = {"keepalive": 2, "connect_timeout": 1.0, "return_to_first": 0.5, "persistent": True}
    plan = Plan(options=options, out=(1, 2), rate=300, window=200)
    async with open_two(tmp_path, STOCK) as (first, second), contextlib.AsyncExitStack() as stack:
        # One for each QoS: a subscriber of both may hear a new message of one before queued ones (docs/brokers.md).
        heard_at = {
            qos: [
                await stack.enter_async_context(open_listener(one.port, {f"lossless/out/{qos}": qos}))
                for one in (first, second)
            ]
            for qos in (1, 2)
        }
        talker = await stack.enter_async_context(open_talker(first.port))
        urls = ("--mode", "split", "--broker", f"{first.url},{second.url}", "--domain", domain.name)
        run = await stack.enter_async_context(open_command("run", TARGET, *urls, env=variable(plan)))

        @contextlib.asynccontextmanager
        async def ends_up_at(broker: Mosquitto) -> AsyncIterator[None]:
            """Wait until the log says that the connector is up there, after the block has begun: it may be in it."""
            before = len(run.log)
            yield
            wanted = f"-> Up (at {broker.url})"
            await run.until(lambda: next((e for e in run.log[before:] if wanted in e["message"]), None), wanted, 40)

        async def kill_gateway(broker: Mosquitto) -> None:
            async with ends_up_at(broker):
                run.signal(signal.SIGKILL, run.half("gateway"))

        await run.until_event("health-up", f"(at {first.url})")
        for _ in range(2):
            await kill_gateway(first)
        async with ends_up_at(second):
            await first.stop(signal.SIGTERM)
        for _ in range(2):
            await kill_gateway(second)
        async with ends_up_at(first):
            await first.start()
        await kill_gateway(first)
        talker.say("lossless/stop", b"", 1)
        for qos in (1, 2):
            [said] = re.findall(rf"sent {qos} (\d+)", await run.until_printed(f"sent {qos} "))
            sent = int(said)
            await heard_at[qos][0].until_heard(f"lossless/out/{qos}", b"%d" % (sent - 1))
            check(heard_at[qos], f"lossless/out/{qos}", sent)
        heard = [listener.heard["lossless/out/2"] for listener in heard_at[2]]
        assert [len(at_one) - len(set(at_one)) for at_one in heard] == [0, 0]
        run.signal(signal.SIGTERM)
        assert await run.wait() == 0
