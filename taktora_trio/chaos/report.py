"""Report: shows results while a chaos run goes on, then a table, and writes JSON and Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

import attrs
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from taktora_trio.chaos.schedule import Parameters

__all__ = ["Report", "Result", "Verdict", "to_json", "to_markdown"]

Verdict: TypeAlias = Literal["held", "violated", "skipped"]
_COLOURS: Mapping[Verdict, str] = {"held": "green", "violated": "bold red", "skipped": "yellow"}


@attrs.frozen(kw_only=True)
class Result:
    """The result of one fault. Times in seconds."""

    index: int
    kind: str
    what: str
    parameters: Parameters = attrs.field(factory=dict)
    states: str = ""
    """The states that the app saw, in order."""
    recovered: float | None = None
    """The time from the fault until health was `Up`, and messages went both ways again."""
    largest_gap: float | None = None
    """The longest time between two ticks of the app; `None` where the app itself was the victim."""
    repeats: int = 0
    """The number of messages that came twice."""
    files: int = 0
    """The number that the domain had in /dev/shm when it was over."""
    violations: Sequence[str] = ()
    note: str = ""

    @property
    def verdict(self) -> Verdict:
        if self.violations:
            return "violated"
        return "skipped" if self.recovered is None else "held"


class Report:
    """Shows each result as it comes, and all of them at the end."""

    def __init__(self, console: Console, seed: int, count: int) -> None:
        self._console = console
        self._seed, self._count = seed, count
        self.results: list[Result] = []

    def begin(self) -> None:
        self._say(f"seed {self._seed}, {self._count} faults")

    def start(self, index: int, kind: str) -> None:
        """Show what is being done, where a later line can take its place."""
        if self._console.is_terminal:
            self._console.print(f"{index:>4}/{self._count} ...      {kind:<30}", end="\r", highlight=False)

    def add(self, result: Result) -> None:
        self.results.append(result)
        colour = _COLOURS[result.verdict]
        after = "" if result.recovered is None else f" {result.recovered:5.2f} s "
        said = f"{result.index:>4}/{self._count} [{colour}]{result.verdict:<8}[/] {result.kind:<22}{after}"
        self._say(said + escape(result.note or _short(result.states)))
        for violation in result.violations:
            self._say(f"     [red]{escape(violation)}[/]")

    def tell_violation(self, last_lines: Sequence[str], replay: str) -> None:
        """Show the last log lines, and how to see it again."""
        self._say("the last lines of its log:")
        for line in last_lines:
            self._say(f"  {escape(line)}")
        self._say(f"to see it again: {escape(replay)}")

    def finish(self) -> None:
        table = Table(title=f"seed {self._seed}")
        for heading in ("fault", "times", "recovered", "longest", "tick gap", "repeats", "result"):
            is_word = heading in ("fault", "result")
            table.add_column(heading, justify="left" if is_word else "right", no_wrap=is_word)
        for row in _rows(self.results):
            table.add_row(row.kind, *row.figures, f"[{_COLOURS[row.verdict]}]{row.verdict}[/]")
        self._console.print(table)
        bad = sum(result.verdict == "violated" for result in self.results)
        done = sum(result.verdict != "skipped" for result in self.results)
        self._say(f"{done} of {self._count} faults, {bad} with a broken promise; seed {self._seed}")

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True)


@attrs.frozen
class _Row:
    kind: str
    what: str
    figures: tuple[str, str, str, str, str]
    verdict: Verdict


def _rows(results: Sequence[Result]) -> list[_Row]:
    """Return one row for each kind, in the order in which they came first."""
    rows = []
    for kind in dict.fromkeys(result.kind for result in results):
        mine = [result for result in results if result.kind == kind]
        times = [result.recovered for result in mine if result.recovered is not None]
        gaps = [result.largest_gap for result in mine if result.largest_gap is not None]
        figures = (
            str(len(mine)),
            f"{statistics.median(times):.2f} s" if times else "",
            f"{max(times):.2f} s" if times else "",
            f"{max(gaps) * 1e3:.0f} ms" if gaps else "",
            str(sum(result.repeats for result in mine)),
        )
        verdicts = {result.verdict for result in mine}
        verdict: Verdict = "violated" if "violated" in verdicts else "held" if "held" in verdicts else "skipped"
        rows.append(_Row(kind, mine[0].what, figures, verdict))
    return rows


def _short(states: str, most: int = 8) -> str:
    """Shorten the states: the middle is left out where there are many."""
    names = states.split()
    if len(names) > most:
        names = [*names[: most // 2], "...", *names[-most // 2 :]]
    return " ".join(names)


def to_json(seed: int, results: Sequence[Result]) -> bytes:
    listed = [{**attrs.asdict(result), "verdict": result.verdict} for result in results]
    return msgspec.json.format(msgspec.json.encode({"seed": seed, "results": listed}), indent=2) + b"\n"


def to_markdown(results: Sequence[Result]) -> str:
    """Return a table with one line a kind."""
    lines = [
        "| fault | what happens | times | recovered (median) | longest | largest tick gap | repeats | result |",
        "|---|---|---:|---:|---:|---:|---:|---|",
    ]
    lines += [f"| `{row.kind}` | {row.what} | {' | '.join(row.figures)} | {row.verdict} |" for row in _rows(results)]
    return "\n".join(lines) + "\n"
