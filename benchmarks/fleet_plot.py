"""Draws what `fleet.py` has simulated: how many are connected, and how many try, as time goes by.

python -m benchmarks.fleet_plot FILE FOLDER

FILE is what `fleet.py --json` wrote. This needs matplotlib and nothing else of the project.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

__all__ = ["draw"]

_OUTAGES = (0.0, 5.0, 60.0)
_COLOURS = ("#1f5fa8", "#b5651d")
_STYLES = ("-", "--", ":")


def draw(curves: list[dict[str, Any]], folder: Path) -> None:
    """Write fleet.png and fleet.svg."""
    figure = Figure(figsize=(14, 8), layout="constrained")
    panels = figure.subplots(2, len(_OUTAGES), sharex=True, sharey="row")
    rates = sorted({curve["logins"] for curve in curves})
    policies = list(dict.fromkeys(curve["policy"] for curve in curves))[:2]
    for (above, below), outage in zip(panels.T, _OUTAGES, strict=True):
        above.set_title(f"all lost at once, outage of {outage:g} s")
        for curve in curves:
            if curve["outage"] != outage or curve["policy"] not in policies:
                continue
            look = {
                "color": _COLOURS[policies.index(curve["policy"])],
                "linestyle": _STYLES[rates.index(curve["logins"])],
                "label": f"{curve['policy'].partition(':')[0]}, {curve['nodes']} x {curve['logins']:,.0f} logins/s",
            }
            shown = [(at, 100 * count / curve["gateways"]) for at, count in curve["connected"] if at >= 1]
            above.plot(*zip(*shown, strict=True), **look)
            below.plot(*zip(*[(at + 0.5, count) for at, count in curve["attempts"]], strict=True), **look)
        below.set_xlabel("seconds since the cluster is back")
        below.set_yscale("log")
        below.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        for panel in (above, below):
            panel.set_xscale("log")
            panel.set_xlim(0.5, 1800)
            panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
            panel.grid(visible=True, alpha=0.35)
    panels[0][0].set_ylabel("connected, %")
    panels[1][0].set_ylabel("attempts per second")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    figure.suptitle(f"{curves[0]['gateways']:,} gateways come back to a cluster, simulated (before: of 2026-11-25)")
    for suffix in ("png", "svg"):
        figure.savefig(folder / f"fleet.{suffix}", dpi=100)


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_bytes()), Path(sys.argv[2]))
