"""What becomes of an app and its messages when something breaks: for ours in both shapes and for each peer, by trying.

python -m benchmarks.features [--only WORD ...]

An app sends 40 messages at QoS 1, 20 a second. After half a second, in turn: its connection is cut and nobody answers
for half a second; the process that has the connection is killed (kill -9); it is stopped, as if it hung (SIGSTOP), till
the app should have sent everything. The app goes on if it says in time that all is sent. What has arrived 15 seconds
later is counted by a subscriber that is nobody's client. One that ends at a cut connection was given an error, which an
app of its own would have to handle; at a kill it was the app's own process, or its pipe's end.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import trio

if not __package__:  # started as a file: then this folder is where imports are looked for, not the project's
    sys.path[0] = str(Path(__file__).parents[1])

from benchmarks import arrivals, message, wire
from benchmarks.contest import Contest, Contestant, Entry, open_ready
from benchmarks.contestants import configurations, missing_peers
from benchmarks.latency import entries
from benchmarks.mosquitto import find_mosquitto
from benchmarks.peers.control import Paced
from benchmarks.report import grid, machine
from taktora_trio.chaos.proxy import Mode, Proxy, open_proxy
from taktora_trio.testing.mqtt.mosquitto import open_mosquitto

__all__ = ["main"]

_COUNT, _INTERVAL = 40, 50_000_000
_BREAK, _AWAY = 0.5, 0.5  # seconds from the first message, and without a connection
_LATE = 0.25  # seconds until an app that goes on has said so
_PATIENCE = 15.0

Fault = Callable[[Contestant, Proxy], Awaitable[None]]


async def _cut(one: Contestant, proxy: Proxy) -> None:
    proxy.set_mode(Mode.REFUSE)
    proxy.cut()
    await trio.sleep(_AWAY)
    proxy.set_mode(Mode.PASS)


async def _kill(one: Contestant, proxy: Proxy) -> None:
    for pid in _with_the_connection(one):
        os.kill(pid, signal.SIGKILL)


async def _hang(one: Contestant, proxy: Proxy) -> None:
    pids = _with_the_connection(one)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        await trio.sleep(_COUNT * _INTERVAL / 1e9 - _BREAK + 2 * _LATE)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


FAULTS: dict[str, Fault] = {"connection cut": _cut, "network process killed": _kill, "it hangs": _hang}


def _with_the_connection(one: Contestant) -> Sequence[int]:
    return one.pids.get("gateway", one.pids["app"])


class _Arrived:
    """Counts by number, and says when all have come."""

    def __init__(self) -> None:
        self.numbers = Counter[int]()
        self.all = trio.Event()

    async def count(self, port: int, *, task_status: trio.TaskStatus[None]) -> None:
        connection = wire.connect(port, "features")
        wire.subscribe(connection, f"{arrivals.ROOT}#", 0)
        packets = wire.Packets()
        async with trio.SocketStream(trio.socket.from_stdlib_socket(connection)) as stream:
            task_status.started()
            async for chunk in stream:
                packets.feed(bytes(chunk))
                for _, body in packets:
                    self.numbers[message.read_text(body[2 + int.from_bytes(body[:2], "big") :])[0]] += 1
                if len(self.numbers) == _COUNT:
                    self.all.set()


async def try_features(taking_part: Sequence[Entry]) -> list[list[str]]:
    """Return a row for each."""
    rows = []
    for entry in taking_part:
        cells = [await _try(entry, fault) for fault in FAULTS.values()]
        rows.append([entry.name, *(cell for pair in cells for cell in pair)])
    return rows


async def _try(entry: Entry, fault: Fault) -> tuple[str, str]:
    """Return whether the app goes on, and how many arrived."""
    arrived, goes_on = _Arrived(), "no"
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "control")
        listening = trio.socket.socket(trio.socket.AF_UNIX)
        await listening.bind(path)
        listening.listen()
        async with (
            trio.SocketListener(listening) as listener,
            open_mosquitto(Path(folder), ["set_tcp_nodelay true"]) as broker,
            open_ready("benchmarks.echo", str(broker.port)),
            open_proxy(broker.port) as proxy,
            trio.open_nursery() as nursery,
        ):
            await nursery.start(arrived.count, broker.port)
            try:
                async with Contest(proxy.port, broker.pid, listener, path).open(entry, quiet=True) as one:
                    start = time.monotonic_ns() + _INTERVAL
                    over = start + _COUNT * _INTERVAL
                    order = Paced(1, 1, _COUNT, message.LENGTH, start, _INTERVAL, over * 2)
                    async with trio.open_nursery() as both:

                        async def break_it() -> None:
                            await trio.sleep(_BREAK)
                            await fault(one, proxy)

                        both.start_soon(break_it)
                        with trio.move_on_after(_PATIENCE):
                            sent = await one.keep(order)
                            if sent == _COUNT and time.monotonic_ns() < over + _LATE * 1e9:
                                goes_on = "yes"
                            else:
                                goes_on = "late"
                    with trio.move_on_after(_PATIENCE):
                        await arrived.all.wait()
            except* (RuntimeError, StopAsyncIteration, trio.BrokenResourceError):
                goes_on = "ends"
            nursery.cancel_scope.cancel()
    repeats = arrived.numbers.total() - len(arrived.numbers)
    return goes_on, f"{len(arrived.numbers)}{f', {repeats} twice' if repeats else ''}"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.features", description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", metavar="WORD", help="only those whose name has one of these words in it")
    options = parser.parse_args()
    find_mosquitto()
    taking_part = [entry for entry in entries() if entry.module != "session_directly"]
    if options.only:
        taking_part = [entry for entry in taking_part if any(word in entry.name for word in options.only)]
    head = [f"of {_COUNT}", *(cell for fault in FAULTS for cell in (f"{fault}: app goes on", "arrived"))]
    print(machine(), configurations(), grid([head, *trio.run(try_features, taking_part)]), sep="\n\n")
    print(*missing_peers(), sep="\n")


if __name__ == "__main__":
    main()
