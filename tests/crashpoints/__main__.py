"""`make crashpoints`: kill a half before each line that it runs, in every case; see what became of each number.

python -m tests.crashpoints [--sample N] [--seed N] [--only FILE ...] [--case WORD ...] [--jobs N] [--page FILE]
python -m tests.crashpoints --case "gateway, fast" --point connectors/inbox.py:120:1 --keep
"""

from __future__ import annotations

import argparse
import datetime
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import trio
import trio.lowlevel

from tests.crashpoints.attack import Attack, Result, attack
from tests.crashpoints.case import CASES
from tests.crashpoints.page import page, row

__all__ = ["main", "run", "seed_of_today"]


def seed_of_today() -> int:
    """Another one each day."""
    return datetime.datetime.now(tz=datetime.UTC).date().toordinal()


async def run(attacks: Sequence[Attack], jobs: int) -> list[Result]:
    """Carry out the attacks, some at a time; print what is found as it is found."""
    limit, results, began = trio.CapacityLimiter(jobs), list[Result](), time.monotonic()

    def say(line: str) -> None:
        print(f"[{time.monotonic() - began:5.0f} s] {line}", flush=True)

    async def one(told: Attack) -> None:
        async with limit:
            result = await attack(told, say)
        results.append(result)
        say(f"{len(results)} of {len(attacks)}: {row(result)}")
        for fault in result.judgement.faults:
            say(f"    {fault}")
        for trouble in result.trouble:
            say(f"    {trouble}")

    async with trio.open_nursery() as nursery:
        for told in attacks:
            nursery.start_soon(one, told)
            await trio.lowlevel.checkpoint()
    return sorted(results, key=lambda result: result.case.name)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sample", type=int, help="points of each case; all by default")
    parser.add_argument("--seed", type=int, default=seed_of_today())
    parser.add_argument("--only", action="append", default=[], metavar="FILE", help="such as connectors/inbox.py")
    parser.add_argument(
        "--case", action="append", default=[], help="cases that have all of these words, parted by commas"
    )
    parser.add_argument("--point", action="append", default=[], metavar="FILE:LINE:HIT")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--limit", type=float, default=2.5, help="seconds for a victim to come to its point")
    parser.add_argument("--keep", action="store_true", help="keep journals and logs")
    parser.add_argument("--page", type=Path, help="write the result there, for people")
    told = parser.parse_args()
    words = [[word.strip() for word in each.split(",")] for each in told.case]
    cases = [case for case in CASES if not words or any(all(w in case.name for w in each) for each in words)]
    print(f"seed {told.seed}, {len(cases)} cases", flush=True)
    attacks = [
        Attack(
            case,
            told.sample,
            told.seed,
            only=tuple(told.only),
            points=tuple(told.point),
            limit=told.limit,
            keep=told.keep,
        )
        for case in cases
    ]
    results = trio.run(run, attacks, told.jobs)
    text = page(results, told.seed, told.sample)
    print(text)
    if told.page:
        told.page.write_text(text)
    return 0 if all(result.holds for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
