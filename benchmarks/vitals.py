"""What vitals cost: the throughput of the split shape with them and without, by turns, and what one page takes.

python -m benchmarks.vitals [--quick]

Both contestants run all the time and take turns, in an order that is drawn anew for each round, while a third process
reads the pages of both each second. A ratio is the median of the rounds' own ratios; CPU time is that of app and
gateway together. A page is made and written in this process, of an app's half with so many channels.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import attrs
import trio

if not __package__:  # started as a file: then this folder is where imports are looked for, not the project's
    sys.path[0] = str(Path(__file__).parents[1])

from benchmarks.contest import Contestant, Flooded, open_contest, run_contest
from benchmarks.contestants import ours
from benchmarks.mosquitto import find_mosquitto
from benchmarks.peers.control import QoS
from benchmarks.report import grid, machine, median_of_ratios
from taktora_trio import MqttConnector, MqttRouting, Outbound, RawCodec, open_connector_host, vitals
from taktora_trio.transport.local import LocalNode
from taktora_trio.transport.snapshot import SnapshotWriter, page_bytes, snapshot_bytes
from taktora_trio.vitals.serving import HalfFigures, first_page, next_page
from taktora_trio.vitals.writing import PageWriter

__all__ = ["main"]

_QOS: tuple[QoS, ...] = (0, 1)
_WARM_UP = 1_000
_SECONDS = 1.5  # about, for one flood: longer than from one page to the next
_CHANNELS = (10, 100, 1000)


async def _measure(rounds: int) -> tuple[str, str]:
    entries = {
        "with": ours("split"),
        "without": ours("split", vitals=False),
    }
    entries = {name: attrs.evolve(entry, name=f"split-{name}") for name, entry in entries.items()}
    floods: dict[tuple[str, QoS], list[Flooded]] = {(name, qos): [] for name in entries for qos in _QOS}
    async with open_contest() as contest, AsyncExitStack() as stack:
        contestants = {name: await stack.enter_async_context(contest.open(entry)) for name, entry in entries.items()}
        nursery = await stack.enter_async_context(trio.open_nursery())
        for one in contestants.values():
            nursery.start_soon(_look, one)
        counts = {qos: int((await contestants["with"].flood(qos, _WARM_UP)).rate * _SECONDS) for qos in _QOS}
        await _warm_up(contestants["without"])
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
            for qos in _QOS:
                for name, one in random.sample(list(contestants.items()), len(contestants)):
                    floods[name, qos].append(await one.flood(qos, counts[qos]))
        nursery.cancel_scope.cancel()
    return _ratios(floods), await _pages()


async def _look(one: Contestant) -> None:
    assert one.domain is not None
    async for _ in vitals.watch(one.domain):
        pass


async def _warm_up(one: Contestant) -> None:
    for qos in _QOS:
        await one.flood(qos, _WARM_UP)


def _ratios(floods: dict[tuple[str, QoS], list[Flooded]]) -> str:
    rows: list[Sequence[str]] = [["with vitals / without", "rate", "CPU a message", "msg/s", "CPU, us"]]
    for qos in _QOS:
        own, other = floods["with", qos], floods["without", qos]
        rates = [[flood.rate for flood in each] for each in (own, other)]
        cpu = [[flood.cpu["app"] + flood.cpu["gateway"] for flood in each] for each in (own, other)]
        rows.append(
            [
                f"QoS {qos}",
                f"{median_of_ratios(*rates):.3f}",
                f"{median_of_ratios(*cpu):.3f}",
                " / ".join(f"{sorted(each)[len(each) // 2]:,.0f}" for each in rates),
                " / ".join(f"{sorted(each)[len(each) // 2]:.1f}" for each in cpu),
            ]
        )
    return grid(rows)


async def _page(count: int) -> tuple[float, int]:
    """Return the CPU time in seconds of one page of so many channels, and the bytes of its file."""
    channels = [
        Outbound(f"out-{number}", bytes, MqttRouting(f"plant/line/{number}/out"), max_payload=100, window=16)
        for number in range(count)
    ]
    size = snapshot_bytes(page_bytes(1, count))
    async with AsyncExitStack() as stack:
        host = await stack.enter_async_context(
            open_connector_host(LocalNode(), [MqttConnector(channels, codec=RawCodec())])
        )
        for channel in channels:
            await (await stack.enter_async_context(host.open_writer(channel))).send(b"x" * 100)
        of = host._vitals
        figures = HalfFigures("plugin", "bench", 1, of.record, of.connectors, of.channels, count)
        writer, page = PageWriter(SnapshotWriter(bytearray(size))), first_page(figures, 0, 1.0)
        times = max(20, 20_000 // count)
        start = time.process_time()
        for _ in range(times):
            page = next_page(page, figures, list(figures.channels()), 0.0)
            writer.write(page)
        return (time.process_time() - start) / times, size


async def _pages() -> str:
    rows: list[Sequence[str]] = [["a page of", "CPU, us", "of one core", "file, KB"]]
    for count in _CHANNELS:
        spent, size = await _page(count)
        rows.append([f"{count} channels", f"{spent * 1e6:,.0f}", f"{spent:.2%}", f"{size / 1024:.0f}"])
    return grid(rows)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.vitals", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="five rounds: a minute instead of four")
    options = parser.parse_args()
    find_mosquitto()
    logging.getLogger("taktora_trio").setLevel(logging.CRITICAL)  # of what was sent to nobody
    ratios, pages = run_contest(_measure, 5 if options.quick else 21)
    print("\n".join([machine(), "", ratios, "", pages]))


if __name__ == "__main__":
    main()
