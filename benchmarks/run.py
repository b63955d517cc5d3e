"""Measure what the project promises, and print it in one table.

Run it on a machine with nothing else to do: `python -m benchmarks.run`, from the project's folder. It needs mosquitto.
A target that is missed is said in the table and does not fail the command, for another program's load may be why.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import trio

if not __package__:  # started as a file: then this folder is where imports are looked for, not the project's
    sys.path[0] = str(Path(__file__).parents[1])

from benchmarks.memory import measure_memory
from benchmarks.mosquitto import find_mosquitto
from benchmarks.one_hop import measure_one_hop
from benchmarks.recovery import measure_recovery
from benchmarks.report import Figure, report_json, table
from benchmarks.throughput import throughput_figures
from benchmarks.to_broker import measure_to_broker

__all__ = ["main"]


async def _measure(quick: bool) -> list[Figure]:
    find_mosquitto()  # say at once what is missing, not after the first figures
    # One after the other: they must not disturb each other.
    figures = await measure_one_hop(5 if quick else 25)
    figures += await measure_to_broker(3 if quick else 9)
    figures += await throughput_figures(quick, print)
    figures += await measure_memory(1 if quick else 5)
    figures += await measure_recovery(*(2, 3.0, 2) if quick else (10, 10.0, 10))
    return figures


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds: one and a half minutes instead of ten")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    options = parser.parse_args()
    figures = trio.run(_measure, options.quick)
    print(table(figures))
    if options.json is not None:
        options.json.write_bytes(report_json(figures) + b"\n")


if __name__ == "__main__":
    main()
