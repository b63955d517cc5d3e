"""Draws what `scaling.py` has measured: one column for what grows, two panels each.

python -m benchmarks.scaling_plot FILE FOLDER

FILE is what `scaling.py --json` wrote. This needs matplotlib and nothing else of the project, so an environment of its
own will do: with matplotlib comes numpy, which iceoryx2 imports where it is installed, and which would be measured.
"""

from __future__ import annotations

import json
import sys
from math import ceil, floor, log10
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw"]

_OURS, _OTHER = "#1f5fa8", "#b5651d"


def draw(scaling: dict[str, Any], folder: Path) -> None:
    """Write scaling.png and scaling.svg."""
    figure = Figure(figsize=(13, 7.5), layout="constrained")
    panels = figure.subplots(2, 3)
    channels, payloads, filters = scaling["channels"], scaling["payloads"], scaling["filters"]

    _panel(panels[0, 0], "Channels", "messages per second, QoS 1", logarithmic=False)
    _line(panels[0, 0], channels, "channels", "rate", "app through gateway")
    _panel(panels[1, 0], "Channels", "seconds to start")
    _line(panels[1, 0], channels, "channels", "start_seconds", "command to connected app")

    for it in payloads:
        it["megabytes"] = it["rate"] * it["payload"] / 1e6
        it["session_megabytes"] = it["session_rate"] * it["payload"] / 1e6
    _panel(panels[0, 1], "Payload", "megabytes per second, QoS 1")
    _line(panels[0, 1], payloads, "payload", "megabytes", "app through gateway")
    _line(panels[0, 1], payloads, "payload", "session_megabytes", "session alone", other=True)
    _panel(panels[1, 1], "Payload", "round trip p50, microseconds")
    _line(panels[1, 1], payloads, "payload", "p50", "app through gateway")
    _line(panels[1, 1], payloads, "payload", "session_p50", "session alone", other=True)
    for panel in panels[:, 1]:
        panel.set_xticks([it["payload"] for it in payloads], [_bytes(it["payload"]) for it in payloads])
        panel.minorticks_off()

    _panel(panels[0, 2], "Topic filters", "microseconds to match a topic")
    _line(panels[0, 2], filters, "filters", "tree", "tree")
    _line(panels[0, 2], filters, "filters", "naive", "one by one", other=True)
    _panel(panels[1, 2], "Topic filters", "messages received per second, QoS 1", logarithmic=False)
    _line(panels[1, 2], filters, "filters", "app_rate", "app, a channel each")
    _line(panels[1, 2], filters, "filters", "session_rate", "session alone", other=True)

    for panel in panels.flat:
        panel.legend(frameon=False, loc="best")
    figure.suptitle(f"Cost as work grows: split shape, session {scaling['session']}, 100-byte payloads unless said")
    for suffix in ("png", "svg"):
        figure.savefig(folder / f"scaling.{suffix}", dpi=110)


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


def _line(panel: Axes, points: list[dict[str, Any]], x: str, y: str, label: str, *, other: bool = False) -> None:
    measured = [(point[x], point[y]) for point in points if point[y] is not None]
    panel.plot(
        *zip(*measured, strict=True), marker="s" if other else "o", color=_OTHER if other else _OURS, label=label
    )
    highest = max(value for _, value in measured)
    if panel.get_yscale() == "linear":
        panel.set_ylim(0, max(panel.get_ylim()[1], 1.3 * highest))
    else:  # whole decades: of a line that is nearly flat, a scale of its own range would make a mountain
        lowest, highest = panel.dataLim.intervaly
        panel.set_ylim(10 ** floor(log10(lowest)), 10 ** ceil(log10(1.3 * highest)))


def _bytes(count: int) -> str:
    for unit, power in (("MiB", 20), ("KiB", 10)):
        if count >= 1 << power:
            return f"{count >> power} {unit}"
    return f"{count} B"


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_bytes()), Path(sys.argv[2]))
