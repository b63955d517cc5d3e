"""Work that many hosts' apps divide by a shared subscription: what becomes of it when one of them is killed."""

from __future__ import annotations

import contextlib
import signal
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import trio

from taktora_trio import MqttOptions
from taktora_trio.connectors.mqtt.sessions import open_session
from taktora_trio.connectors.mqtt.wire.message import Message
from taktora_trio.transport.domain import Domain
from tests.brokers.listener import open_talker
from tests.command import Command, open_command
from tests.mosquitto import Mosquitto, open_mosquitto

TARGET = "tests.deployment.worker_apps:worker"


async def until(is_so: Callable[[], bool], seconds: float) -> None:
    with trio.fail_after(seconds):
        while not is_so():  # noqa: ASYNC110 - several processes and sessions have their say in it
            await trio.sleep(0.02)


@contextlib.asynccontextmanager
async def open_worker(broker: Mosquitto, client_id: str, folder: Path) -> AsyncIterator[Command]:
    """Run a worker as on a host of its own: it shares nothing with the others but the broker."""
    domain = Domain(f"test-{uuid.uuid4().hex[:12]}")
    where = ("--mode", "in-process", "--broker", broker.url, "--domain", domain.name, "--client-id", client_id)
    try:
        async with open_command("run", TARGET, *where, env={"XDG_STATE_HOME": str(folder / domain.name)}) as run:
            await run.until_event("health-up")
            yield run
    finally:
        domain.remove_if_alone()
        domain.forget()


@pytest.mark.chaos
async def test_the_work_of_a_killed_host_is_done_by_the_one_that_takes_its_name(tmp_path: Path) -> None:
    count = 600
    async with open_mosquitto(tmp_path) as broker, contextlib.AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(open_worker(broker, f"worker-{i}", tmp_path)) for i in range(3)]
        talker = await stack.enter_async_context(open_talker(broker.port))
        for number in range(count // 2):
            talker.say("work", b"%d" % number, 1)
        killed = workers[1]
        await killed.until(lambda: killed.output[20:] or None, "work done", 20)
        killed.signal(signal.SIGKILL)
        await killed.wait(5)
        for number in range(count // 2, count):
            talker.say("work", b"%d" % number, 1)
        await talker.until_acknowledged()
        # Another host takes its name, as a StatefulSet has it.
        workers.append(await stack.enter_async_context(open_worker(broker, "worker-1", tmp_path)))

        def done() -> list[int]:
            return [int(line) for worker in workers for line in worker.output if line.isdecimal()]

        await until(lambda: len(set(done())) == count, 40)
    assert set(done()) == set(range(count))
    assert len(done()) - count <= 8  # what it had in hand
    assert all(len(worker.output) > 20 for worker in workers)


class Member:
    """One of a shared subscription, which acknowledges nothing unless it is told to."""

    def __init__(self, broker: Mosquitto, name: str, **options: object) -> None:
        self.got: list[bytes] = []
        self._options = MqttOptions(broker=broker.url, client_id=name, presence=None, **options)  # type: ignore[arg-type]

    @contextlib.asynccontextmanager
    async def open(self, *, acknowledges: bool) -> AsyncIterator[None]:
        def take(message: Message) -> None:
            self.got.append(message.payload)
            if acknowledges:
                session.acknowledge(message)

        async with open_session(self._options, take) as session:
            if not session.session_present:
                await session.subscribe({"$share/workers/work": 1})
            yield


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"persistent": False}, id="clean"),
        pytest.param({"persistent": True}, id="persistent"),
        pytest.param({"persistent": True, "protocol": "5", "session_expiry": 600}, id="persistent-5"),
        pytest.param({"persistent": True, "protocol": "5", "session_expiry": 0}, id="ends-at-once-5"),
    ],
)
async def test_what_mosquitto_does_with_the_work_of_a_member_that_is_gone(
    options: dict[str, object], broker: Mosquitto
) -> None:
    """It never hands on what a member had not acknowledged (MQTT 5, section 4.8.2, has that as SHOULD)."""
    lasts = bool(options["persistent"]) and options.get("session_expiry") != 0
    stays, leaves = Member(broker, "stays", **options), Member(broker, "leaves", **options)
    async with open_talker(broker.port) as talker, stays.open(acknowledges=True):

        async def say(numbers: range) -> None:
            for number in numbers:
                talker.say("work", b"%d" % number, 1)
            await talker.until_acknowledged()

        async with leaves.open(acknowledges=False):
            await say(range(10))
            await until(lambda: len(stays.got) + len(leaves.got) == 10, 5)
        await say(range(10, 20))
        leaves.got.clear()
        async with leaves.open(acknowledges=True):
            await say(range(20, 22))
            await until(lambda: len(stays.got) + len(leaves.got) == (22 if lasts else 17), 5)
    done = {int(number) for number in stays.got + leaves.got}
    if lasts:  # it gets its share also while it is away, and all of it when it is back
        assert done == set(range(22))
        assert len(leaves.got) == 11
    else:  # what is sent from then on goes to the others; what it had is lost
        assert done > set(range(10, 22))
        assert len(done) == 17
