"""Draws a soak: a panel for each measure, a line for each process, and the fitted lines.

python -m tests.soak.plot FILE FOLDER

FILE is what `python -m tests.soak --json` wrote. This needs matplotlib and nothing else, so that an environment of its
own will do.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

__all__ = ["draw"]

_PANELS = (
    ("rss", "Resident memory", "MB"),
    ("pss", "Its proportional share", "MB"),
    ("blocks", "What Python has allocated", "thousand blocks"),
    ("descriptors", "Open descriptors", "number"),
    ("threads", "Threads", "number"),
    ("processes", "Processes below the supervisor", "number"),
    ("shared files", "Files in /dev/shm", "number"),
    ("shared memory", "Shared memory", "MB"),
    ("kept on disk", "Kept on disk", "MB"),
)
_COLOURS = {
    "steady": "#1f5fa8",
    "killed": "#b5651d",
    "restarted": "#2e7d4f",
    "crashed": "#8e3a8e",
    "broker": "#7f7f7f",
}
_STYLES = {
    "supervisor": ":",
    "plugin": "-",
    "gateway": "--",
    "zygote": "-.",
    "process": "-",
    "all": "-",
    "mosquitto": "-",
}


def draw(soaked: dict[str, Any], folder: Path) -> None:
    """Write soak.png and soak.svg."""
    figure = Figure(figsize=(15, 11), layout="constrained")
    fits = {tuple(fit["key"]): fit for fit in soaked["fits"]}
    for panel, (measure, title, unit) in zip(figure.subplots(3, 3).flat, _PANELS, strict=True):
        panel.set_title(title)
        panel.set_xlabel("minutes")
        panel.set_ylabel(unit)
        panel.grid(visible=True, alpha=0.35)
        panel.axvspan(0, soaked["warm_up"] / 60, color="#dddddd", zorder=0)
        for series in soaked["series"]:
            deployment, process, what = series["key"]
            if what != measure or not series["samples"]:
                continue
            times, values = zip(*series["samples"], strict=True)
            minutes, colour = [time / 60 for time in times], _COLOURS[deployment]
            panel.plot(minutes, values, color=colour, linestyle=_STYLES[process], linewidth=0.8, alpha=0.55)
            if fit := fits.get((deployment, process, what)):
                ends = [max(minutes[0], soaked["warm_up"] / 60), minutes[-1]]
                width = 3.0 if fit["leak"] else 1.6
                panel.plot(ends, [fit["begin"], fit["end"]], color="red" if fit["leak"] else colour, linewidth=width)
        panel.set_ylim(0, 1.1 * panel.get_ylim()[1])
    legend = [Line2D([], [], color=colour, linewidth=3, label=name) for name, colour in _COLOURS.items()]
    legend += [
        Line2D([], [], color="black", linestyle=_STYLES[process], label=process)
        for process in ("plugin", "gateway", "supervisor", "zygote")
    ]
    legend += [Line2D([], [], color="black", linewidth=1.6, label="fitted line")]
    figure.legend(handles=legend, loc="outside lower center", ncols=len(legend), frameon=False)
    figure.suptitle("What each process holds under churn (grey: warm-up; a leak would be red)")
    for suffix in ("png", "svg"):
        figure.savefig(folder / f"soak.{suffix}", dpi=100)


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_bytes()), Path(sys.argv[2]))
