"""An hour of churn, and whether anything grows: `make soak-long`.

python -m tests.soak [--minutes 60] [--warm-up 5] [--every 5] [--seed 1] [--only KIND] [--page FILE] [--json FILE]

Exit code 1 if something leaks, or if a deployment carried nothing. `tests/soak/plot.py` draws the JSON.
"""

from __future__ import annotations

import argparse
import datetime
import sys
from collections import Counter
from pathlib import Path

import msgspec
import trio

from benchmarks.report import machine
from tests.soak.churn import KINDS, Soaked, soak
from tests.soak.limits import findings, leaks
from tests.soak.page import page_of, table_of

__all__ = ["main"]


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--warm-up", type=float, metavar="MINUTES", help="left out; a tenth by default, 5 at most")
    parser.add_argument("--every", type=float, help="seconds between two samples; by default 600 of them, 1 s at least")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=[kind.name for kind in KINDS], help="one of the deployments")
    parser.add_argument("--page", type=Path, help="write this page")
    parser.add_argument("--json", type=Path, help="write the samples, for the plot")
    told = parser.parse_args()
    seconds = 60 * told.minutes
    warm_up = 60 * told.warm_up if told.warm_up is not None else min(300.0, seconds / 10)
    every = told.every or max(1.0, seconds / 600)
    about = machine()
    kinds = [kind for kind in KINDS if told.only in (None, kind.name)]
    soaked = trio.run(soak, seconds, every, told.seed, lambda line: print(line, file=sys.stderr, flush=True), kinds)
    found = findings(soaked.series, warm_up)
    grown = leaks(found)
    print(table_of(found))
    for line in [*soaked.still, *(f"LEAK: {leak}" for leak in grown)]:
        print(line)
    print(f"{'FAILED' if grown or soaked.still else 'held'}: {len(grown)} of {len(found)} series leak")
    if told.json is not None:
        told.json.write_bytes(_document(soaked, warm_up))
    if told.page is not None:
        command = f"python -m tests.soak --minutes {told.minutes:g} --seed {told.seed}"
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        told.page.write_text(page_of(found, soaked.counts, kinds, f"{today}, {about}", command, told.minutes, warm_up))
    return 1 if grown or soaked.still else 0


def _document(soaked: Soaked, warm_up: float) -> bytes:
    series = [{"key": key, "samples": samples} for key, samples in soaked.series.items()]
    fits = [
        {"key": it.key, "begin": it.trend.begin, "end": it.trend.end, "leak": it.is_leak}
        for it in findings(soaked.series, warm_up)
    ]
    counts: Counter[str] = soaked.counts
    return msgspec.json.encode({"warm_up": warm_up, "series": series, "fits": fits, "counts": dict(counts)})


if __name__ == "__main__":
    sys.exit(main())
