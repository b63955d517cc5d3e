"""The page of a soak: what was done, what each process holds, and what it gains an hour."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence

from benchmarks.report import grid
from tests.soak.churn import Kind
from tests.soak.limits import LIMITS, Finding, leaks

__all__ = ["page_of", "table_of"]

_WIDTH = 120

_PAGE = """\
# An hour's soak

`make soak-long` runs four deployments under churn and samples what each process holds. A straight line is fitted to
each series from the end of the warm-up on. **A series leaks, and the command fails, if its slope is above the limit for
sure (by its 95 % interval) and it has grown by more than the step**, which is for what comes once, such as a thread
that is started at its first use. `tests/soak/` has all of it; a minute of it is part of `make chaos`
(`test_a_minute_of_churn_leaves_nothing_behind`).

{kinds}

All the time: the broker is restarted; readers and writers are opened and closed; messages of a few bytes and of 48 KiB
go both ways at QoS 0, 1 and 2, some of them too large to be sent, or unreadable, which go to the dead letters (20 are
kept); a store keeps what is sent. All limits are reached within the warm-up, so from then on nothing has a reason to
grow.

{about}

![What each process holds, and the fitted lines](soak.png)

```text
{table}
```

{verdict}

| measure | limit an hour | step | what it is |
|---|---:|---:|---|
{limits}

Python's collector is asked to run every four seconds in the app's process, for what it has not collected yet is no
leak. Left alone, it lets the gateways that have crashed inside a process lie until they are a quarter of all objects:
some 0.4 MB each, 30 MB together (2026-11-26). In the split shape the kernel takes everything back at once.

A process is looked at from two seconds after its start on. Where one is killed every few seconds, the series is that of
its role: what each next one holds. The broker is not ours, and is shown.
"""

_WHAT = {
    "rss": "resident memory",
    "pss": "its proportional share of it (proc_pid_smaps(5))",
    "descriptors": "open ones",
    "threads": "",
    "processes": "below the supervisor, zombies too",
    "blocks": "what Python has allocated (`sys.getallocatedblocks`), in the app's process",
    "shared files": "of the domain, in /dev/shm",
    "shared memory": "that they take",
    "kept files": "in the state folder: store, dead letters",
    "kept on disk": "that they take",
}


def table_of(found: Sequence[Finding]) -> str:
    rows: list[tuple[str, ...]] = [("deployment", "process", "measure", "begin", "end", "an hour", "+-", "limit", "")]
    rows += [
        (
            *finding.key[:2],
            f"{finding.key[2]} {finding.limit.unit}".rstrip(),
            f"{finding.trend.begin:,.1f}",
            f"{finding.trend.end:,.1f}",
            f"{finding.trend.slope:,.1f}",
            f"{finding.trend.error:,.1f}",
            f"{finding.limit.per_hour:g}",
            "LEAK" if finding.is_leak else "ok",
        )
        for finding in sorted(found, key=lambda finding: finding.key)
    ]
    return grid(rows)


def page_of(
    found: Sequence[Finding],
    counts: Counter[str],
    kinds: Sequence[Kind],
    about: str,
    command: str,
    minutes: float,
    warm_up: float,
) -> str:
    grown = leaks(found)
    verdict = (
        f"None of {len(found)} series leaks, in {minutes:g} minutes, of which {warm_up / 60:g} are warm-up."
        if not grown
        else "**Leaks:**\n\n" + "\n".join(f"- {leak}" for leak in grown)
    )
    happened = ", ".join(f"{count:,} {what}" for what, count in sorted(counts.items()))
    return _PAGE.format(
        kinds="\n".join(f"- **{kind.name}**: {kind.what}." for kind in kinds),
        about=textwrap.fill(f"{about}, `{command}`: {happened}.", _WIDTH, break_on_hyphens=False),
        table=table_of(found),
        verdict=verdict,
        limits="\n".join(
            f"| {measure} | {limit.per_hour:g} {limit.unit} | {limit.step:g} | {_WHAT[measure]} |"
            for measure, limit in LIMITS.items()
        ),
    )
