"""Draws what `latency.py` has measured: a panel for each rate, latency by how rare it is.

python -m benchmarks.latency_plot FILE FOLDER

FILE is what `latency.py --json` wrote. Like `scaling_plot.py` this needs matplotlib and nothing else of the project.
"""

from __future__ import annotations

import json
import sys
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw"]

_OURS, _OTHERS = (
    ("#1f5fa8", "#5fa8d3", "#0b2545"),
    ["#b5651d", "#7a9e3f", "#8e5ea2", "#c9a227", "#c44e52", "#4c9f9f", "#7f7f7f", "#d98fb4", "#2b2b2b"],
)
_OF_OURS = ("split", "in-process", "session")
_COLUMNS = 2
_SHARES = (50, 90, 99, 99.9, 99.99)


def draw(latency: dict[str, Any], folder: Path) -> None:
    """Write latency.png and latency.svg."""
    measured = latency["rates"]
    rates = sorted({it["rate"] for it in measured})
    figure = Figure(figsize=(13, 4.3 * ceil(len(rates) / _COLUMNS) + 1), layout="constrained")
    panels = figure.subplots(ceil(len(rates) / _COLUMNS), _COLUMNS, squeeze=False, sharex=True, sharey=True)
    colors = _colors(list(dict.fromkeys(it["name"] for it in measured)))
    for panel, rate in zip(panels.flat, rates, strict=False):
        _panel(panel, f"{rate:,.0f} messages a second", [it for it in measured if it["rate"] == rate], colors)
    kept = [value for it in measured if it["kept_up"] for _, value in _points(it)]
    panels[0, 0].set_ylim(min(kept, default=100) / 1.3, max(kept, default=1e6) * 1.3)
    for panel in list(panels.flat)[len(rates) :]:
        panel.set_visible(False)
    lines = [Line2D([], [], color=color, label=name, **_style(name)) for name, color in colors.items()]
    figure.legend(handles=lines, loc="outside lower center", ncols=5, frameon=False)
    figure.suptitle(f"From the time by the schedule to the arrival, 100 bytes, QoS {latency['qos']}")
    for suffix in ("png", "svg"):
        figure.savefig(folder / f"latency.{suffix}", dpi=110)


def _colors(names: list[str]) -> dict[str, str]:
    ours = [name for name in names if name.startswith(_OF_OURS)]
    others = [name for name in names if name not in ours]
    chosen = dict(zip(ours, [*_OURS, "#8899aa", "#aabbcc"], strict=False))
    return chosen | {name: _OTHERS[number % len(_OTHERS)] for number, name in enumerate(others)}


def _style(name: str) -> dict[str, Any]:
    ours = name.startswith(_OF_OURS)
    return {"linewidth": 2.4 if ours else 1.3, "marker": "o" if ours else "s", "markersize": 5 if ours else 3.5}


def _rarity(share: float) -> float:
    return 100 / (100 - share)


def _points(it: dict[str, Any]) -> list[tuple[float, float]]:
    return [(_rarity(float(share[1:])), value) for share, value in it["us"].items() if share != "max" and value]


def _panel(panel: Axes, title: str, measured: list[dict[str, Any]], colors: dict[str, str]) -> None:
    panel.set_title(title)
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_xlabel("percentile")
    panel.set_ylabel("latency, microseconds")
    for it in (it for it in measured if it["kept_up"]):
        panel.plot(*zip(*_points(it), strict=True), color=colors[it["name"]], **_style(it["name"]))
    if late := [f"{it['name']} ({it['us']['p99'] / 1e3:,.0f} ms)" for it in measured if not it["kept_up"]]:
        said = f"not drawn, for they could not keep up (p99):\n{', '.join(late)}"
        panel.text(0.98, 0.03, said, transform=panel.transAxes, ha="right", va="bottom", fontsize=9)
    panel.set_xticks([_rarity(share) for share in _SHARES], [f"p{share:g}" for share in _SHARES])
    panel.tick_params(labelbottom=True, labelleft=True)
    panel.xaxis.set_minor_locator(NullLocator())
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    panel.grid(visible=True, which="major", alpha=0.35)


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_bytes()), Path(sys.argv[2]))
