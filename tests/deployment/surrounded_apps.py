"""Apps that tell what they see of their surroundings; with the memory session, so that no broker is wanted."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import trio

from taktora_trio import ConnectorHost, Deployment, MqttConnector, MqttOptions, MqttRouting, Outbound

MEMORY = MqttOptions(session="memory")
FEW = [Outbound("few", int, MqttRouting("test/few"), window=1, max_payload=8)]
MANY = [Outbound(f"c{number}", int, MqttRouting(f"test/{number}"), window=1, max_payload=8) for number in range(20)]
LIMIT = "import resource; print(*resource.getrlimit(resource.RLIMIT_NOFILE))"


def tell(*words: object) -> None:
    print(*words, flush=True)  # noqa: T201 - the tests read it


async def work(host: ConnectorHost) -> None:
    """Say that it works, and whether it was stopped politely."""
    try:
        async with host.open_writer(FEW[0]) as writer:
            await writer.send(1)
            tell("works")
            await trio.sleep_forever()
    finally:
        tell("stopped politely")


async def fail(host: ConnectorHost) -> None:
    os._exit(3)


async def open_all(host: ConnectorHost) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for channel in MANY:
            await stack.enter_async_context(host.open_writer(channel))
        tell("all open")
        await tell_limits(host)


def fork() -> None:
    if os.fork() == 0:
        os.write(1, b"forked %d %d\n" % resource.getrlimit(resource.RLIMIT_NOFILE))
        os._exit(0)
    os.wait()


async def send_one(host: ConnectorHost) -> None:
    async with host.open_writer(FEW[0]) as writer:
        await writer.send(1)
    with contextlib.suppress(OSError):  # standard output may be anything
        tell("works")


async def leave_orphans(host: ConnectorHost) -> None:
    """Leave some to process 1, and have a child of its own; tell of both."""
    for _ in range(5):
        await trio.run_process(["sh", "-c", "sleep 0.05 & exit 0"])
    own = await trio.run_process(["sh", "-c", "exit 7"], check=False)
    tell("own child", own.returncode)
    while any(zombies()):  # noqa: ASYNC110 - only process 1 is told of their end
        await trio.sleep(0.01)
    tell("no zombies")
    await trio.sleep_forever()


def zombies() -> Iterator[bool]:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            yield stat.read_text().rpartition(")")[2].split()[0] == "Z"


async def tell_limits(host: ConnectorHost) -> None:
    """The limit of descriptors: of this process, of a program that it starts, of a fork."""
    tell("own", *resource.getrlimit(resource.RLIMIT_NOFILE))
    started = await trio.run_process([sys.executable, "-c", LIMIT], capture_stdout=True)
    tell("started", started.stdout.decode().strip())
    fork()


deployment = Deployment("surrounded", send_one, [MqttConnector(FEW, options=MEMORY)])
working = Deployment("working", work, [MqttConnector(FEW, options=MEMORY)])
failing = Deployment("failing", fail, [MqttConnector(FEW, options=MEMORY)])
orphans = Deployment("orphans", leave_orphans, [MqttConnector(FEW, options=MEMORY)])
few = Deployment("few", tell_limits, [MqttConnector(FEW, options=MEMORY)])
many = Deployment(
    "many",
    open_all,
    [MqttConnector([channel], options=MEMORY, name=f"mqtt{number}") for number, channel in enumerate(MANY)],
)
