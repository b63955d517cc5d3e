"""The page of docs/, which the command writes."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Sequence

from tests.crashpoints.attack import Result

__all__ = ["page", "row"]

_HEAD = """# Crash points

`make crashpoints` kills a half of a deployment (SIGKILL) right before a line that it runs, again and again, each time
before another line, under traffic both ways at QoS 1 and 2. In the in-process shape it kills the whole process, or has
the gateway's task raise an error there. Then it checks every number: what was promised has come
([delivery](delivery.md)), first appearances are in order, and what comes again says so. This page is what it printed
last.

Outbound, *promised* is what `send` has returned for; where the plugin's memory dies with it (victim: process), what a
receipt has said: of the rest some may come, and at QoS 2 without a store behind newer ones, since the next run has the
broker finish what it holds half done. Inbound, everything that the broker has taken is promised.
"""


def row(result: Result) -> str:
    judged = result.judgement
    return (
        f"{result.case.name}: {result.reached} of {result.points} points reached; out {judged.promised} promised of"
        f" {judged.sent} sent, {judged.came_again} came again; in {judged.heard} of {judged.published},"
        f" {judged.heard_again} again; {result.seconds:.0f} s; {'holds' if result.holds else 'DOES NOT HOLD'}"
    )


def page(results: Sequence[Result], seed: int, sample: int | None) -> str:
    day = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    many = (
        "every line that ran, at its first hit and a later one" if sample is None else f"{sample} points of each case"
    )
    lines = [
        _HEAD,
        f"{day}, Python {platform.python_version()}, seed {seed}, {many}:"
        f" {sum(result.reached for result in results)} kills,"
        f" {sum(result.judgement.promised + result.judgement.published for result in results)} numbers checked.",
        "",
        "| victim | app | broker | MQTT | session | store | points | sent, promised, again"
        " | published, heard, again | |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        case, judged = result.case, result.judgement
        lines.append(
            f"| {case.victim} | {case.app} | {case.broker} | {case.protocol} | {case.session} | {case.store} |"
            f" {result.reached} of {result.points} | {judged.sent}, {judged.promised}, {judged.came_again} |"
            f" {judged.published}, {judged.heard}, {judged.heard_again} |"
            f" {'holds' if result.holds else 'does not hold'} |"
        )
    broken = [result for result in results if not result.holds]
    if broken:
        lines += ["", "## What did not hold", ""]
        for result in broken:
            lines += [f"- {result.case.name}"]
            lines += [f"  - {fault}" for fault in (*result.judgement.faults, *result.trouble)]
    return "\n".join(lines) + "\n"
