"""A /dev/shm that runs full: what is open goes on, what comes waits or is refused, and nobody is killed by SIGBUS.

Each scenario runs real processes in a mount namespace with a small /dev/shm of its own. This module is also the
program of these processes.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import pytest
import trio

from taktora_trio import MqttConnector, MqttRouting, Outbound, RawCodec, TransportError
from taktora_trio.connectors.plan import channel_spec, specs_of, trunk_spec
from taktora_trio.transport import pages, reservation, turn
from taktora_trio.transport.domain import Domain
from taktora_trio.transport.node import config_of, open_node
from taktora_trio.transport.reservation import reserve
from taktora_trio.transport.segments import PAGE, SHM, Segment, examine, free_bytes
from taktora_trio.transport.services import open_services
from taktora_trio.transport.sizing import plan_memory
from tests.patience import PATIENCE
from tests.transport.rig import declare, meet, open_domain, open_publisher, open_subscriber
from tests.transport.test_sizing import connectors_of, measured

MIB = 2**20
WINDOW, PAYLOAD = 16, 64 * 1024
CONNECTOR = MqttConnector(
    [Outbound("c", bytes, MqttRouting("t"), window=WINDOW, max_payload=PAYLOAD)], codec=RawCodec()
)
SPEC = channel_spec(CONNECTOR, CONNECTOR.channels[0])
TRUNK = trunk_spec(CONNECTOR)
SEGMENT = TRUNK.segment_bytes("out")
DOMAIN = Domain("full")
FILLER = SHM / "filler"


@functools.cache
def private_mount() -> list[str] | None:
    """Return the command that runs another in a mount namespace of its own, as root or as a user; if one works."""
    for command in (["unshare", "-m"], ["unshare", "-Urm"]):
        with contextlib.suppress(FileNotFoundError):
            mount = [*command, "mount", "-t", "tmpfs", "tmpfs", str(SHM)]
            if subprocess.run(mount, capture_output=True, timeout=10, check=False).returncode == 0:
                return command
    return None


def run_scenario(name: str, *arguments: int, size: int = 20 * MIB) -> None:
    """Run a function of this module in a process that has a /dev/shm of `size` bytes for itself."""
    command = private_mount()
    if command is None:
        pytest.skip("a private /dev/shm is needed, and `unshare -m` and `unshare -Urm` both are refused here")
    script = f'mount -t tmpfs -o size={size} tmpfs {SHM} && exec "$@"'
    program = [sys.executable, "-m", __name__, name, *map(str, arguments)]
    done = subprocess.run([*command, "sh", "-c", script, "sh", *program], capture_output=True, text=True, timeout=80)
    assert done.returncode == 0, f"{name} ended with {done.returncode}:\n{done.stdout}{done.stderr}"


def fill(leave: int = 0) -> None:
    """Take what is free, but for so many pages."""
    fd = os.open(FILLER, os.O_RDWR | os.O_CREAT)
    while (excess := free_bytes() - leave * PAGE) > 0:
        os.posix_fallocate(fd, os.fstat(fd).st_size, excess)
    os.close(fd)


def make_room() -> None:
    FILLER.unlink(missing_ok=True)


# The processes


class End:
    """A process with one end of the channel: it is told what to do, and answers."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self._answers: trio.abc.ReceiveStream = process.stdout  # type: ignore[assignment]
        self._rest = b""

    async def answer(self) -> Any:
        with trio.fail_after(20):
            while b"\n" not in self._rest:
                chunk = await self._answers.receive_some()
                assert chunk, f"it ended with {await self.process.wait()}"
                self._rest += chunk
        line, _, self._rest = self._rest.partition(b"\n")
        return json.loads(line)

    async def tell(self, command: str, count: int = 0) -> Any:
        assert self.process.stdin is not None
        await self.process.stdin.send_all(f"{command} {count}\n".encode())
        return await self.answer()

    async def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        assert await self.process.wait() == -signal.SIGKILL, "it had ended before"


@contextlib.asynccontextmanager
async def start(end: Callable[[], Any]) -> AsyncIterator[End]:
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "tests.transport.test_full_memory", end.__name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        yield End(process)
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


def say(answer: object) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


async def commands() -> AsyncIterator[tuple[str, int]]:
    while line := await trio.to_thread.run_sync(sys.stdin.readline):
        command, count = line.split()
        yield command, int(count)


async def writer() -> None:
    """Send numbers, as a plugin would, each in a payload of the largest size."""
    with DOMAIN.hold("plugin"):
        async with open_node(DOMAIN, "plugin") as node, open_publisher(node, SPEC) as port:
            say("open")
            slots: set[int] = set()
            async for command, count in commands():
                if command == "find_reader":
                    meet()
                for _ in range(count):
                    while not port.has_room:
                        port.space.clear()
                        if not port.has_room:
                            await port.space.wait()
                    loan = port.loan(PAYLOAD)
                    slots.add(loan.slot)
                    loan.payload[:] = bytes([port.sent % 256]) * PAYLOAD
                    assert port.send_loan(loan)
                say(len(slots))


async def reader() -> None:
    """Answer with the sequence numbers of what has come, but for the last two, as a gateway would."""
    with DOMAIN.hold("gateway"):
        async with open_node(DOMAIN, "gateway") as node, open_subscriber(node, SPEC) as port:
            say("open")
            async for command, count in commands():
                numbers: list[int] = []
                if command == "expect":
                    port.data.clear()
                    assert port.take() is None
                    say("waiting")
                    await port.data.wait()
                while len(numbers) < count or command == "wait":
                    place = port.take()
                    if place is None:
                        await port.data.wait()
                        port.data.clear()
                        continue
                    header, payload, _, _ = port.open(place)
                    assert payload == payload[:1].tobytes() * PAYLOAD, "torn"
                    del payload  # as long as there is a view, there is what it shows
                    numbers.append(header.sequence_number)
                    if command == "acknowledge" and len(numbers) > 2:
                        port.acknowledge(numbers[-3])
                say(numbers)


@contextlib.asynccontextmanager
async def owner() -> AsyncIterator[Any]:
    """Hold the services, as a supervisor would."""
    with DOMAIN.hold("owner"):
        async with open_node(DOMAIN, "owner") as node, open_services(node, specs_of([CONNECTOR])):
            yield node


# The scenarios


async def ends_that_are_open() -> None:
    async with owner(), start(writer) as app, start(reader) as gateway:
        assert [await app.answer(), await gateway.answer()] == ["open", "open"]
        fill()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(app.tell, "send", 20 * WINDOW)
            numbers = await gateway.tell("acknowledge", 20 * WINDOW)
        assert numbers == list(range(1, 1 + 20 * WINDOW))
        # A window that nobody takes.
        assert await app.tell("send", WINDOW - 2) >= WINDOW + 1
        segments = [path.stat() for path in DOMAIN.files() if path.parent == SHM]
        assert max(stat.st_size for stat in segments) > SPEC.slots * PAYLOAD
        assert all(stat.st_blocks * 512 >= stat.st_size for stat in segments), "not every page is backed"


async def reader_that_is_replaced() -> None:
    async with owner() as node, start(writer) as app:
        assert await app.answer() == "open"
        async with start(reader) as gateway:
            assert await gateway.answer() == "open"
            await app.tell("send", 10)
            assert await gateway.tell("acknowledge", 6) == [1, 2, 3, 4, 5, 6]
            fill()
            await gateway.kill()
        node.iox.try_cleanup_dead_nodes()
        fill()
        async with start(reader) as gateway:
            await app.tell("send", WINDOW - 6)  # all that the window takes: from number 5 on
            for _ in range(20):
                await trio.sleep(0.05)
                assert gateway.process.poll() is None, "it did not wait for room"
                await app.tell("find_reader")
            make_room()
            assert await gateway.answer() == "open"
            await app.tell("find_reader")
            assert await gateway.tell("acknowledge", WINDOW) == list(range(5, 5 + WINDOW))
            await app.tell("send", WINDOW - 2)
            assert await gateway.tell("acknowledge", WINDOW - 2) == list(range(5 + WINDOW, 3 + 2 * WINDOW))


async def writer_that_is_replaced() -> None:
    async with owner() as node, start(reader) as gateway:
        assert await gateway.answer() == "open"
        async with start(writer) as app:
            assert await app.answer() == "open"
            await app.tell("send", 10)
            assert await gateway.tell("receive", 3) == [1, 2, 3]
            fill()
            await app.kill()
        node.iox.try_cleanup_dead_nodes()
        fill()
        async with start(writer) as app:
            await trio.sleep(1)
            assert app.process.poll() is None, "it did not wait for room"
            assert await gateway.tell("receive", 7) == [4, 5, 6, 7, 8, 9, 10]
            make_room()
            assert await app.answer() == "open"
            assert await app.tell("send", WINDOW) == WINDOW
            assert await gateway.tell("acknowledge", WINDOW) == list(range(11, 11 + WINDOW))


async def writer_that_is_replaced_where_there_is_room_for_one() -> None:
    async with owner() as node, start(reader) as gateway:
        assert await gateway.answer() == "open"
        async with start(writer) as app:
            assert await app.answer() == "open"
            assert free_bytes() < SEGMENT
            await app.tell("send", 3)
            assert await gateway.tell("acknowledge", 3) == [1, 2, 3]
            assert await gateway.tell("expect", 2) == "waiting"
            await app.kill()
            node.iox.try_cleanup_dead_nodes()
            assert free_bytes() < SEGMENT, "the reader does not have it any more"
            async with start(writer) as another:
                assert await another.answer() == "open"
                await another.tell("send", 2)
                assert await gateway.answer() == [4, 5]


async def newcomers() -> None:
    """With any memory from nothing to just too little, opening is refused, and all is as before."""
    reservation.PATIENCE = 0.05
    enough = TRUNK.end_bytes("app") // PAGE + 3  # with a node and the two small files of its listener
    for first, second in (
        (open_publisher, open_subscriber),
        (open_subscriber, open_publisher),
    ):

        async def come() -> None:
            async with open_node(DOMAIN, "newcomer") as newcomer, second(newcomer, SPEC):  # noqa: B023 - at once
                pass

        async with owner() as node, first(node, SPEC):
            fill()
            with DOMAIN.hold("gateway"):  # a role takes no room
                make_room()
                before = DOMAIN.files()
                for pages in (*range(4), *((7, 100, enough - 4) if second is open_publisher else ())):
                    fill(pages)
                    with pytest.raises(TransportError, match="no room for "):
                        await come()
                    make_room()
                    assert DOMAIN.files() == before
                fill(enough)
                await come()


async def plan_that_fits_exactly(case: str) -> None:
    connectors = connectors_of(*CASES[int(case)])
    plan = plan_memory(specs_of(connectors))
    assert plan.total_bytes == plan.free_bytes
    reservation.PATIENCE = 0.05
    await measured(DOMAIN, connectors)


CASES = [[(1, 1)], [(64, 4096)], [(4, MIB), (1024, 64)]]


# The tests


@pytest.mark.parametrize(
    "scenario", ["ends_that_are_open", "reader_that_is_replaced", "writer_that_is_replaced", "newcomers"]
)
def test_a_full_dev_shm_kills_nobody_and_loses_nothing(scenario: str) -> None:
    run_scenario(scenario)


def test_a_writer_is_replaced_where_there_is_room_for_one() -> None:
    run_scenario("writer_that_is_replaced_where_there_is_room_for_one", size=SEGMENT * 3 // 2)


@pytest.mark.parametrize("case", range(len(CASES)))
def test_as_much_as_was_planned_is_enough(case: int) -> None:
    run_scenario("plan_that_fits_exactly", case, size=plan_memory(specs_of(connectors_of(*CASES[case]))).total_bytes)


@pytest.mark.parametrize("taken", [0, 1], ids=["cursor", "data segment"])
async def test_what_cannot_be_taken_after_all_is_let_go_of(
    domain: Domain, monkeypatch: pytest.MonkeyPatch, taken: int
) -> None:
    """Somebody else was faster, between the look and the taking."""
    connector, spec = declare(bytes, RawCodec(), max_payload=PAYLOAD)
    take, takes = os.posix_fallocate, itertools.count()

    def full(fd: int, offset: int, length: int) -> None:
        if next(takes) == taken:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        take(fd, offset, length)

    async with open_domain(domain, connector) as node:
        with monkeypatch.context() as patch:
            patch.setattr(os, "posix_fallocate", full)
            with pytest.raises(TransportError, match="no room for") as caught:
                async with open_publisher(node, spec):
                    pass
        assert next(takes) == taken + 1
        async with open_publisher(node, spec) as port:  # though the traceback still refers to the other
            assert port.send(b"fine")
        assert caught.tb is not None


async def test_a_segment_that_somebody_else_has_made_for_us_to_open_is_refused(
    domain: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    connector, spec = declare(bytes, RawCodec())

    def owned_by_another(found: Iterable[os.DirEntry[str]]) -> tuple[list[Segment], list[str]]:
        ours, _ = examine(found)
        theirs = [each.name for each in ours if each.name.endswith(".data")]
        return [each for each in ours if each.name not in theirs], [*theirs, f"{domain.prefix}unopened"]

    async with open_domain(domain, connector) as node:
        with monkeypatch.context() as patch:
            patch.setattr(pages, "examine", owned_by_another)
            with pytest.raises(TransportError, match=r"\.data was made by another user"):
                async with open_publisher(node, spec):
                    pass
        async with open_publisher(node, spec) as port:
            assert port.send(b"fine")


OPENER = """
import sys, trio, iceoryx2
from taktora_trio.transport.domain import Domain
from taktora_trio.transport.node import config_of
from taktora_trio.transport.reservation import reserve
async def main():
    async with reserve(config_of(Domain(sys.argv[1])), 0, "nothing"):
        sys.stdout.write("opening")
        sys.stdout.flush()
        sys.stdin.readline()
trio.run(main)
"""


@contextlib.asynccontextmanager
async def opener(domain: Domain) -> AsyncIterator[trio.Process]:
    """Another process of the domain that opens something, until it gets a line."""
    program = [sys.executable, "-c", OPENER, domain.name]
    process = await trio.lowlevel.open_process(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert await process.stdout.receive_some() == b"opening"
        yield process
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


async def test_processes_open_in_turn(domain: Domain) -> None:
    connector, spec = declare(bytes, RawCodec())
    opened = trio.Event()

    async def come() -> None:
        async with open_publisher(node, spec):
            opened.set()

    async with open_domain(domain, connector) as node, opener(domain) as other, trio.open_nursery() as nursery:
        nursery.start_soon(come)
        await trio.sleep(0.05)
        assert not opened.is_set()
        assert other.stdin is not None
        await other.stdin.send_all(b"\n")
        with trio.fail_after(5):
            await opened.wait()


async def test_tasks_of_one_process_open_in_turn(domain: Domain) -> None:
    connector, _ = declare(bytes, RawCodec())
    record: list[str] = []

    async def come() -> None:
        async with reserve(config, 0, "nothing"):
            record.append("begin")
            await trio.sleep(0.02)
            record.append("end")

    async with open_domain(domain, connector):
        config = config_of(domain)
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(come)
    assert record == ["begin", "end"] * 3


async def test_one_that_does_not_finish_opening_is_waited_for_once(
    domain: Domain, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    connector, spec = declare(bytes, RawCodec())
    async with open_domain(domain, connector) as node, opener(domain) as other:
        with monkeypatch.context() as patch:
            patch.setattr(turn, "PATIENCE", 0.05)
            async with open_publisher(node, spec):
                pass
        monkeypatch.setattr(turn, "PATIENCE", 10 * PATIENCE)
        with trio.fail_after(PATIENCE):
            async with open_publisher(node, spec) as port:
                assert port.send(b"fine")
    told = [record.getMessage() for record in caplog.records]
    assert told == [
        f"opening {trunk_spec(connector).name}.app beside process {other.pid}, which is still opening something"
    ]


async def test_one_that_is_stopped_is_not_waited_for(
    domain: Domain, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(turn, "PATIENCE", 10 * PATIENCE)
    connector, spec = declare(bytes, RawCodec())
    async with open_domain(domain, connector) as node, opener(domain) as other:
        other.send_signal(signal.SIGSTOP)
        await trio.to_thread.run_sync(os.waitid, os.P_PID, other.pid, os.WSTOPPED | os.WNOWAIT)
        with trio.fail_after(PATIENCE):
            async with open_publisher(node, spec) as port, open_subscriber(node, spec) as end:
                assert port.send(b"fine")
                assert end.take() is not None
    assert f"beside process {other.pid}, which stands still" in caplog.text


if __name__ == "__main__":
    trio.run(globals()[sys.argv[1]], *sys.argv[2:])
