"""Draws what `benchmarks.scaling` has measured.

python -m benchmarks.scaling.plot FILE... FOLDER

FILE is what `--json` wrote; of several, each with some parts, a part is that of the last one that has it. This needs
matplotlib and nothing else of the project, so an environment of its own will do: with matplotlib comes numpy, which
iceoryx2 imports where it is installed, and which would be measured.

A dashed line is the power law that fits, with its exponent: of the whole cost; or, where the first takes most of it and
more come on top, of what is beyond the first.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence
from math import ceil, floor, log10
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator

from benchmarks.scaling.power_law import beyond_first, fit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw"]

_COLORS = ("#1f5fa8", "#b5651d", "#3a7d44")
_MARKERS = ("o", "s", "^")
_STEPS = 80  # of a curve
_BYTES = {1: "B", 2**10: "KiB", 2**20: "MiB"}
Points = Sequence[tuple[float, float]]


def draw(scaling: dict[str, Any], folder: Path) -> None:
    """Write scaling.png and scaling.svg."""
    figure = Figure(figsize=(15, 11.5), layout="constrained")
    panels = figure.subplots(3, 3)
    split, inside = ([it for it in scaling["channels"] if it["shape"] == shape] for shape in ("split", "in-process"))

    def of(points: list[dict[str, Any]], *path: str) -> Points:
        return [(it["channels"], _at(it, path)) for it in points]

    _panel(panels[0, 0], "channels", "seconds to start, until all are ready")
    _line(panels[0, 0], 0, of(split, "start_seconds"), "split", fitted=True)
    _line(panels[0, 0], 1, of(inside, "start_seconds"), "in-process", fitted=True)
    for panel, path, y in (
        (panels[0, 1], "descriptors", "descriptors of a process, split"),
        (panels[0, 2], "resident_bytes", "resident bytes of a process, split"),
    ):
        _panel(panel, "channels", y, logarithmic=path != "descriptors")
        for number, process in enumerate(("app", "gateway", "supervisor")):
            _line(panel, number, of(split, path, process), process, fitted=True)
    panels[0, 2].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 1e6:,g} MB"))
    panels[0, 2].yaxis.set_minor_formatter(lambda value, _: "")
    panels[0, 2].yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    _panel(panels[1, 0], "channels", "messages per second, QoS 1", logarithmic=False)
    _line(panels[1, 0], 0, of(split, "rate"), "split")
    _line(panels[1, 0], 1, of(inside, "rate"), "in-process")

    payloads = scaling["payloads"]
    for panel, direction, name in (
        (panels[1, 1], "to_broker", "app to broker"),
        (panels[1, 2], "to_app", "broker to app"),
    ):
        _panel(panel, "payload", f"megabytes per second, QoS 1, {name}")
        for number, (rates, label) in enumerate((("rates", "app through gateway"), ("session_rates", "session alone"))):
            points = [(it["payload"], statistics.median(it[direction][rates]) * it["payload"] / 1e6) for it in payloads]
            _line(panel, number, points, label)
    _panel(panels[2, 0], "payload", "round trip p50, microseconds")
    _line(panels[2, 0], 0, [(it["payload"], it["p50"]) for it in payloads], "app through gateway")
    _line(panels[2, 0], 1, [(it["payload"], it["session_p50"]) for it in payloads], "session alone")
    for panel in (*panels[1, 1:], panels[2, 0]):
        panel.set_xticks([it["payload"] for it in payloads], [_bytes(it["payload"]) for it in payloads], fontsize=8)
        panel.minorticks_off()

    filters = scaling["filters"]
    _panel(panels[2, 1], "topic filters", "microseconds to match a topic")
    _line(panels[2, 1], 0, [(it["filters"], it["tree"]) for it in filters], "tree", fitted=True)
    _line(panels[2, 1], 1, [(it["filters"], it["naive"]) for it in filters], "one by one", fitted=True)
    _panel(panels[2, 2], "topic filters", "messages received per second, QoS 1", logarithmic=False)
    _line(panels[2, 2], 0, [(it["filters"], it["app_rate"]) for it in filters], "app, a channel each")
    _line(panels[2, 2], 1, [(it["filters"], it["session_rate"]) for it in filters], "session alone")

    for panel in panels.flat:
        if panel.has_data():
            panel.legend(frameon=False, loc="best", fontsize=8)
        else:
            panel.set_visible(False)
    figure.suptitle(f"Cost as work grows: session {scaling['session']}, 100-byte payloads unless said")
    for suffix in ("png", "svg"):
        figure.savefig(folder / f"scaling.{suffix}", dpi=100)


def _at(value: Any, path: Sequence[str]) -> Any:
    for name in path:
        value = value[name]
    return value


def _panel(panel: Axes, x: str, y: str, *, logarithmic: bool = True) -> None:
    panel.set_xscale("log")
    if logarithmic:
        panel.set_yscale("log")
    else:
        panel.set_ylim(bottom=0)
    panel.set_xlabel(x)
    panel.set_ylabel(y)
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    panel.grid(visible=True, which="major", alpha=0.35)


def _line(panel: Axes, number: int, points: Points, label: str, *, fitted: bool = False) -> None:
    measured = [(x, y) for x, y in points if y is not None]
    if not measured:
        return
    color = _COLORS[number]
    line = "-"
    if fitted and (curve := _fit(measured)):
        xs, ys, said = curve
        panel.plot(xs, ys, linestyle="--", linewidth=1, color=color, alpha=0.7)
        label, line = f"{label}: {said}", "none"
    panel.plot(*zip(*measured, strict=True), marker=_MARKERS[number], linestyle=line, color=color, label=label)
    highest = max(value for _, value in measured)
    if panel.get_yscale() == "linear":
        panel.set_ylim(0, max(panel.get_ylim()[1], 1.3 * highest))
    else:  # whole decades: of a line that is nearly flat, a scale of its own range would make a mountain
        lowest, highest = panel.dataLim.intervaly
        panel.set_ylim(10 ** floor(log10(lowest)), 10 ** ceil(log10(1.3 * highest)))


def _fit(measured: Points) -> tuple[list[float], list[float], str] | None:
    """Return the curve of the power law that fits, and what to say of it."""
    (first, base), *_, (last, _) = measured
    steps = [first * (last / first) ** (step / _STEPS) for step in range(_STEPS + 1)]
    if law := beyond_first(measured):
        return steps, [base + law.at(x - first) for x in steps], f"beyond the first n^({law})".replace("+-", "±")
    if law := fit(measured):
        return steps, [law.at(x) for x in steps], f"n^({law})".replace("+-", "±")
    return None


def _merged(files: Sequence[str]) -> dict[str, Any]:
    scaling: dict[str, Any] = {}
    for file in files:
        scaling |= {part: it for part, it in json.loads(Path(file).read_bytes()).items() if it or part not in scaling}
    return scaling


def _bytes(count: int) -> str:
    size, unit = max((size, unit) for size, unit in _BYTES.items() if count >= size)
    return f"{count // size} {unit}"


if __name__ == "__main__":
    draw(_merged(sys.argv[1:-1]), Path(sys.argv[-1]))
