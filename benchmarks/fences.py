"""The lateness of a 10 ms control item while its gateway takes every core and all memory, by what it is fenced with.

    python -m benchmarks.fences            all of it (5 minutes), and the table of docs/how-to/fences.md
    python -m benchmarks.fences --quick    a first look (half a minute), with no file

The gateway is a process of its own, which starts two programs for each core that compute without end, and takes memory
up to 1 GB, again and again. With a fence of memory it is killed for that, and starts again. Each set-up runs several
times, by turns with all others. It needs mosquitto and two cores. SCHED_FIFO needs a privilege.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs
import trio

from benchmarks.children import ROOT
from benchmarks.isolation import Collected, Figures, run_once
from benchmarks.isolation_app import Fault
from benchmarks.mosquitto import open_mosquitto

__all__ = ["main"]

PAGE = ROOT / "docs" / "how-to" / "fences.md"
_START, _END = "<!-- figures -->", "<!-- end of figures -->"


@attrs.frozen
class _Setup:
    name: str
    fault: Fault
    fences: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def options(self) -> list[str]:
        return [f"--fence.{key}={value}" for key, value in self.fences.items()]


def _setups() -> list[_Setup]:
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        raise SystemExit("this benchmark needs two cores")
    cores = {"plugin.cpus": str(cpus[0]), "gateway.cpus": ",".join(map(str, cpus[1:]))}
    nice, fifo, memory = {"gateway.nice": "19"}, {"plugin.fifo": "10"}, {"gateway.memory": "300_000_000"}
    return [
        _Setup("idle, no fence", "idle"),
        _Setup("greedy, no fence", "greedy"),
        _Setup("greedy, nice = 19", "greedy", nice),
        _Setup("greedy, a core for the app", "greedy", cores),
        _Setup("greedy, fifo = 10", "greedy", fifo),
        _Setup("greedy, memory", "greedy", memory),
        _Setup("greedy, nice, memory", "greedy", {**nice, **memory}),
        _Setup("greedy, core, nice, memory", "greedy", {**cores, **nice, **memory}),
        _Setup("greedy, all of them", "greedy", {**cores, **nice, **fifo, **memory}),
    ]


async def _measure(setups: Sequence[_Setup], rounds: int, seconds: float) -> list[tuple[_Setup, Figures]]:
    collected = {setup.name: Collected() for setup in setups}
    async with open_mosquitto() as port:
        for number in range(rounds):
            for setup in setups:
                print(f"round {number + 1} of {rounds}: {setup.name}", file=sys.stderr, flush=True)
                await run_once("split", setup.fault, port, seconds, collected[setup.name], setup.options)
    return [(setup, collected[setup.name].figures("split", setup.fault)) for setup in setups]


def _table(found: Sequence[tuple[_Setup, Figures]]) -> str:
    lines = [f"{'gateway, fence':<28}{'p50':>8}{'p99':>8}{'p99.9':>8}{'worst':>8}{'ticks':>8}"]
    for setup, one in found:
        times = "".join(f"{seconds * 1e3:>8.2f}" for seconds in (one.p50, one.p99, one.p999, one.worst))
        lines.append(f"{setup.name:<28}{times}{one.ticks:>8,}")
    return "\n".join(["lateness of a 10 ms item, ms", lines[0], "-" * len(lines[0]), *lines[1:]])


def _write(table: str, page: Path) -> None:
    before, start, rest = page.read_text().partition(_START)
    _, end, after = rest.partition(_END)
    if not end:
        raise SystemExit(f"{page} has no place for the table")
    today, cores = datetime.datetime.now(tz=datetime.UTC).date(), os.cpu_count()
    where = (
        f"{today}, Linux {platform.machine()} {platform.release()}, {cores} cores, Python {platform.python_version()}"
    )
    page.write_text(f"{before}{start}\n{where}, `python -m benchmarks.fences`:\n\n```text\n{table}\n```\n{end}{after}")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round of 3 s each, and no file")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="measured in each round")
    options = parser.parse_args()
    rounds, seconds = (1, 3.0) if options.quick else (options.rounds, options.seconds)
    table = _table(trio.run(_measure, _setups(), rounds, seconds))
    print(table)
    if not options.quick:
        _write(table, PAGE)


if __name__ == "__main__":
    main()
