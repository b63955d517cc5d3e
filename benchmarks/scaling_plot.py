"""Draws what `scaling.py` has measured: one column for what grows, two panels each."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor, log10
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from benchmarks.scaling import Scaling

__all__ = ["draw"]

_OURS, _OTHER = "#1f5fa8", "#b5651d"


def draw(scaling: Scaling, folder: Path) -> None:
    """Write scaling.png and scaling.svg."""
    figure = Figure(figsize=(13, 7.5), layout="constrained")
    panels = figure.subplots(2, 3)
    channels = [it.channels for it in scaling.channels]
    _panel(panels[0, 0], "Channels", "messages per second, QoS 1", logarithmic=False)
    _line(panels[0, 0], channels, [it.rate for it in scaling.channels], "app through gateway")
    _panel(panels[1, 0], "Channels", "seconds to start")
    _line(panels[1, 0], channels, [it.start_seconds for it in scaling.channels], "command to connected app")
    _whole_decades(panels[1, 0])

    payloads = [it.payload for it in scaling.payloads]
    _panel(panels[0, 1], "Payload", "megabytes per second, QoS 1")
    _line(panels[0, 1], payloads, [it.rate * it.payload / 1e6 for it in scaling.payloads], "app through gateway")
    alone = [it.session_rate * it.payload / 1e6 for it in scaling.payloads]
    _line(panels[0, 1], payloads, alone, "session alone", other=True)
    _panel(panels[1, 1], "Payload", "round trip p50, microseconds")
    _line(panels[1, 1], payloads, [it.p50 for it in scaling.payloads], "app through gateway")
    _line(panels[1, 1], payloads, [it.session_p50 for it in scaling.payloads], "session alone", other=True)
    _whole_decades(panels[0, 1])
    _whole_decades(panels[1, 1])
    for panel in panels[:, 1]:
        panel.set_xticks(payloads, [_bytes(payload) for payload in payloads])
        panel.minorticks_off()

    filters = [it.filters for it in scaling.filters]
    _panel(panels[0, 2], "Topic filters", "microseconds to match a topic")
    _line(panels[0, 2], filters, [it.tree for it in scaling.filters], "tree")
    _line(panels[0, 2], filters, [it.naive for it in scaling.filters], "one by one", other=True)
    _whole_decades(panels[0, 2])
    _panel(panels[1, 2], "Topic filters", "messages received per second, QoS 1", logarithmic=False)
    tried = [it for it in scaling.filters if it.app_rate is not None]
    _line(panels[1, 2], [it.filters for it in tried], [it.app_rate or 0 for it in tried], "app, a channel each")
    _line(panels[1, 2], filters, [it.session_rate for it in scaling.filters], "session alone", other=True)

    for panel in panels.flat:
        panel.legend(frameon=False, loc="best")
    figure.suptitle(f"Cost as work grows: split shape, session {scaling.session}, 100-byte payloads unless said")
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


def _line(panel: Axes, x: Sequence[float], y: Sequence[float], label: str, *, other: bool = False) -> None:
    panel.plot(x, y, marker="s" if other else "o", color=_OTHER if other else _OURS, label=label)
    if panel.get_yscale() == "linear":
        panel.set_ylim(0, max(panel.get_ylim()[1], 1.3 * max(y)))


def _whole_decades(panel: Axes) -> None:
    """Of a line that is nearly flat, a logarithmic scale of its own range would make a mountain."""
    lowest, highest = panel.dataLim.intervaly
    panel.set_ylim(10 ** floor(log10(lowest)), 10 ** ceil(log10(highest * 1.01)))


def _bytes(count: int) -> str:
    for unit, power in (("MiB", 20), ("KiB", 10)):
        if count >= 1 << power:
            return f"{count >> power} {unit}"
    return f"{count} B"
