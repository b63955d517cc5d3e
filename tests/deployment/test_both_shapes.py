"""The main job, in both shapes: one unchanged app, real processes, a real broker."""

from __future__ import annotations

import json
import signal

import pytest
import trio

from taktora_trio.transport.domain import Domain
from tests.client import open_client
from tests.command import MODES, open_run
from tests.mosquitto import Mosquitto

pytestmark = pytest.mark.parametrize("mode", MODES)


async def test_round_trip_through_the_broker(mode: str, broker: Mosquitto, domain: Domain) -> None:
    async with (
        open_run("examples.echo:deployment", mode, broker, domain) as run,
        open_client(broker.port, "taktora/echo/reply") as client,
    ):
        await run.until_event("health-up")
        client.publish("taktora/echo/request/me", b"\x00 any bytes \xff")
        assert (await client.receive()).payload == b"\x00 any bytes \xff"
        run.signal(signal.SIGTERM)
        assert await run.wait(5) == 0


async def test_ten_thousand_requests_are_answered_once_each_and_in_order(
    mode: str, broker: Mosquitto, domain: Domain
) -> None:
    count = 10_000
    async with (
        open_run("examples.echo:deployment", mode, broker, domain) as run,
        open_client(broker.port, "taktora/echo/reply") as client,
    ):
        await run.until_event("health-up")
        for number in range(count):
            client.publish("taktora/echo/request/me", b"%d" % number)
        with trio.fail_after(60):
            replies = [int((await client.receive()).payload) for _ in range(count)]
        assert replies == list(range(count))
        run.signal(signal.SIGTERM)
        assert await run.wait(5) == 0
        assert client.messages.statistics().current_buffer_used == 0, "answered more than once"


async def test_sigint_in_the_middle_of_traffic(mode: str, broker: Mosquitto, domain: Domain) -> None:
    async with (
        open_client(broker.port, "taktora/echo/reply") as client,
        open_run("examples.echo:deployment", mode, broker, domain) as run,
        trio.open_nursery() as nursery,
    ):
        await run.until_event("health-up")

        async def send_for_ever() -> None:
            while True:
                client.publish("taktora/echo/request/me", b"x" * 100)
                await trio.sleep(0.0005)

        nursery.start_soon(send_for_ever)
        for _ in range(100):
            await client.receive()
        tree = run.tree()
        assert len(tree) == {"in-process": 1, "split": 3}[mode]
        run.signal(signal.SIGINT)
        assert await run.wait(5) == 0
        nursery.cancel_scope.cancel()
    assert not any(process.is_running() for process in tree)
    assert "Traceback" not in "\n".join(run.stderr)
    # (the fixture looks for files)


async def test_the_same_app_and_who_runs_it(mode: str, broker: Mosquitto, domain: Domain) -> None:
    async with (
        open_client(broker.port, "test/identity") as client,
        open_run("tests.deployment.apps:identifying", mode, broker, domain) as run,
    ):
        identity = json.loads((await client.receive(20)).payload)
        assert identity["app"] == "tests.deployment.apps.identify"
        if mode == "in-process":
            assert identity["pid"] == run.pid
        else:
            assert identity["pid"] == run.half("plugin")
            assert identity["protocol_stack"] == []
        run.signal(signal.SIGTERM)
        assert await run.wait(5) == 0


async def test_what_is_sent_last_is_still_published(mode: str, broker: Mosquitto, domain: Domain) -> None:
    async with (
        open_client(broker.port, "test/ticks") as client,
        open_run("tests.deployment.apps:finishing", mode, broker, domain) as run,
    ):
        assert await run.wait() == 0
        ticks = [json.loads((await client.receive()).payload)["number"] for _ in range(3)]
    assert ticks == [0, 1, 2]


async def test_bad_messages_are_errors_where_they_belong_and_the_channel_goes_on(
    mode: str, broker: Mosquitto, domain: Domain
) -> None:
    async with (
        open_client(broker.port, "test/answers") as client,
        open_run("tests.deployment.apps:complaining", mode, broker, domain) as run,
    ):
        await run.until_event("health-up")
        client.publish("test/numbers/a", b"1")
        client.publish("test/numbers/b", b"{not json")
        client.publish("test/numbers/c/d", b"2")
        client.publish("test/numbers/e", b"1" * 65)  # larger than the channel: the gateway discards and says so
        client.publish("test/numbers/f", b"500")  # answered by a message that is too large
        client.publish("test/numbers", b"3")
        answers = [json.loads((await client.receive()).payload) for _ in range(5)]
        assert answers == [
            "1 test/numbers/a",
            "CodecError test/numbers/b",
            "2 test/numbers/c/d",
            "PayloadOverflow ",
            "3 test/numbers",
        ]
        await run.until_event("health-degraded", "Up -> Degraded", "channel numbers discards inbound messages")
        await run.until_event("inbound-discarded", "discarded 1 inbound messages", "test/numbers/e")
        run.signal(signal.SIGTERM)
        assert await run.wait(5) == 0


async def test_an_app_that_fails(mode: str, broker: Mosquitto, domain: Domain) -> None:
    """In-process that is the end; split, its process is started again by its policy, then given up."""
    async with open_run("tests.deployment.apps:failing", mode, broker, domain) as run:
        assert await run.wait() == 1
    errors = [entry for entry in run.log if "the app's own fault" in entry["message"] and "exception" in entry]
    assert len(errors) == {"in-process": 1, "split": 3}[mode]
    assert all("Traceback" in entry["exception"] for entry in errors)
    assert all(line.startswith("{") for line in run.stderr), "something went past the log"


async def test_for_seconds(mode: str, broker: Mosquitto, domain: Domain) -> None:
    async with open_run("examples.echo:deployment", mode, broker, domain, "--for", "1") as run:
        assert await run.wait(10) == 0


async def test_the_broker_goes_and_comes_back(mode: str, broker: Mosquitto, domain: Domain) -> None:
    async with open_run("examples.echo:deployment", mode, broker, domain) as run:
        await run.until_event("health-up", "Connecting -> Up")
        await broker.stop()
        await run.until_event("health-connecting", "Up -> Connecting")
        await broker.start()
        await run.until_event("health-up", "Connecting -> Up", count=2)
        async with open_client(broker.port, "taktora/echo/reply") as client:
            client.publish("taktora/echo/request/me", b"subscribed again")
            assert (await client.receive()).payload == b"subscribed again"
        run.signal(signal.SIGTERM)
        assert await run.wait(5) == 0


async def test_a_second_signal_ends_it_at_once(mode: str, broker: Mosquitto, domain: Domain) -> None:
    async with open_run("tests.deployment.apps:silent", mode, broker, domain) as run:
        await run.until_printed("deaf from now on")
        tree = run.tree()
        run.signal(signal.SIGTERM)
        run.signal(signal.SIGINT)
        code = await run.wait(3)
        assert code in (128 + signal.SIGINT, 128 + signal.SIGTERM)
        with trio.fail_after(5):
            for process in tree[1:]:
                await trio.to_thread.run_sync(process.wait)
