"""Compare this tree with a commit, side by side in one run; fail if a headline figure is worse, beyond noise.

The exit code is 1 if the whole confidence interval of a figure's ratio lies beyond its tolerance. Blocks of both trees
are measured by turns until each interval is narrow enough to find a regression of twice the tolerance, or the time is
over; how many are measured hangs on how wide an interval is and never on where it lies.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import trio

from benchmarks.gate.ratios import CONFIDENCE, FEWEST, Ratio, ratio_of, verdict_on
from benchmarks.gate.suites import SUITES, Headline, Suite
from benchmarks.gate.trees import Trees, default_commit, open_trees
from benchmarks.mosquitto import find_mosquitto
from benchmarks.report import grid, machine

__all__ = ["main", "measure", "rows_of"]

Costs = dict[str, list[tuple[float, float]]]


async def measure(trees: Trees, suites: Sequence[Suite], minutes: float) -> Costs:
    costs: Costs = {headline.name: [] for suite in suites for headline in suite.headlines}
    deadline, turn, due, took = trio.current_time() + 60 * minutes, 0, list(suites), 0.0
    while due and (turn < FEWEST or trio.current_time() + took <= deadline):
        began = trio.current_time()
        for suite in due:
            for name, pair in (await suite.block(trees, turn)).items():
                costs[name].append(pair)
        turn, took = turn + 1, trio.current_time() - began
        due = [suite for suite in due if any(_is_wide(it, costs[it.name]) for it in suite.headlines)]
        wide = [it.name for suite in due for it in suite.headlines if _is_wide(it, costs[it.name])]
        print(f"block {turn}; not certain yet: {', '.join(wide) or 'none'}", file=sys.stderr, flush=True)
    return costs


def _is_wide(headline: Headline, costs: Sequence[tuple[float, float]]) -> bool:
    return len(costs) < FEWEST or ratio_of(costs).spread > 1 + headline.tolerance


def rows_of(suites: Sequence[Suite], costs: Costs) -> tuple[list[Sequence[str]], Mapping[str, Ratio], bool]:
    """Return the table, the ratios by figure, and whether a figure is worse."""
    rows: list[Sequence[str]] = [
        ("figure", "this tree", "other", "cost ratio", "interval", "tolerance", "blocks", "verdict")
    ]
    ratios, failed = dict[str, Ratio](), False
    for headline in (it for suite in suites for it in suite.headlines):
        pairs = costs[headline.name]
        ratio = ratios[headline.name] = ratio_of(pairs)
        verdict = verdict_on(ratio, headline.tolerance)
        failed |= verdict == "worse"
        ours, theirs = (headline.show(statistics.median(it)) for it in zip(*pairs, strict=True))
        interval = f"{ratio.low:.3f} to {ratio.high:.3f}"
        tolerance = f"{headline.tolerance:.0%}"
        rows.append((headline.name, ours, theirs, f"{ratio.middle:.3f}", interval, tolerance, f"{len(pairs)}", verdict))
    return rows, ratios, failed


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gate", description=__doc__.partition("\n")[0])
    parser.add_argument("--against", metavar="COMMIT", help="the last tag by default; without one, HEAD~1")
    parser.add_argument("--minutes", type=float, default=10, help="the limit (%(default)g); eight blocks take five")
    parser.add_argument(
        "--only", nargs="+", metavar="WORD", help="suites with a figure whose name has one of these words"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the costs of all blocks and the ratios")
    options = parser.parse_args()
    find_mosquitto()
    suites = [
        suite
        for suite in SUITES
        if options.only is None or any(word in it.name for word in options.only for it in suite.headlines)
    ]
    where = machine()
    with open_trees(options.against or default_commit()) as trees:
        print("\n".join([where, *trees.remarks]), flush=True)
        costs = trio.run(measure, trees, suites, options.minutes)
    rows, ratios, failed = rows_of(suites, costs)
    print(f"\n{grid(rows)}\n\nA ratio above 1 means that this tree costs more; intervals of {CONFIDENCE:.0%}.")
    if options.json is not None:
        document = {"machine": where, "remarks": trees.remarks, "costs": costs, "ratios": ratios}
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(document)) + b"\n")
    if failed:
        raise SystemExit("a figure is worse, beyond noise and beyond its tolerance")


if __name__ == "__main__":
    main()
