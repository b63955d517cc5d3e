"""Numbers, times and names in few characters."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

__all__ = ["amount", "duration", "listed", "moment", "plain", "rate", "sparkline"]

_BARS = "▁▂▃▄▅▆▇█"
_PLAIN_BARS = "_.-:=+*#"
_UNITS = ("", "k", "M", "G", "T")
_PLAIN = {"→": ">", "…": "~", "·": "-", "▸": ">", "◂": "<", "│": "|", "─": "-", "↑": "^", "↓": "v"}


def amount(value: float | None) -> str:
    """Return a number in at most five characters: `0`, `12.5k`, `3.4M`; `-` for what is not known."""
    if value is None or not math.isfinite(value):
        return "-"
    for unit in _UNITS:
        if abs(value) < 999.5 or unit == _UNITS[-1]:
            if unit == "" and value == int(value):
                return str(int(value))
            return f"{value:.1f}{unit}" if abs(value) < 99.95 else f"{value:.0f}{unit}"
        value /= 1000
    raise AssertionError


def rate(value: float | None) -> str:
    """Return a number of messages or bytes in a second: as `amount`, but for small ones with two digits."""
    if value is not None and 0 < value < 9.95:
        return f"{value:.2f}"
    return amount(value)


def duration(seconds: float | None) -> str:
    """Return a time in at most six characters: `310us`, `4.2ms`, `12.0s`, `3m20s`, `5h02m`, `9d04h`."""
    if seconds is None or not math.isfinite(seconds):
        return "-"
    if seconds < 0.0009995:
        return f"{max(0.0, seconds) * 1e6:.0f}us"
    if seconds < 0.9995:
        milliseconds = seconds * 1000
        return f"{milliseconds:.1f}ms" if milliseconds < 99.95 else f"{milliseconds:.0f}ms"
    if seconds < 59.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    minutes, hours, days = whole // 60, whole // 3600, whole // 86_400
    if minutes < 60:
        return f"{minutes}m{whole % 60:02d}s"
    if hours < 24:
        return f"{hours}h{minutes % 60:02d}m"
    return f"{days}d{hours % 24:02d}h" if days < 1000 else f"{days}d"


def moment(at: float, form: str = "%H:%M:%S") -> str:
    """Return a unix time in seconds as a time of day, or in another form of strftime(3); `-` for what is no time."""
    try:
        return f"{datetime.fromtimestamp(at, UTC):{form}}"
    except (OverflowError, ValueError):
        return "-"


def sparkline(values: Sequence[float | None], width: int) -> str:
    """Return the last `width` values as bars, the newest at the right, scaled by the largest; a gap for `None`."""
    shown = list(values)[-width:] if width > 0 else []
    largest = max((value for value in shown if value is not None), default=0.0)
    bars = "".join(_bar(value, largest) for value in shown)
    return bars.rjust(width)


def _bar(value: float | None, largest: float) -> str:
    if value is None:
        return " "
    if value <= 0 or largest <= 0:
        return _BARS[0]
    return _BARS[1 + min(len(_BARS) - 2, int(value / largest * (len(_BARS) - 1.001)))]


def plain(text: str) -> str:
    """Return a text in ASCII, no longer than it was: bars and arrows by what looks like them, `?` for all else."""
    for sign, other in [*zip(_BARS, _PLAIN_BARS, strict=True), *_PLAIN.items()]:
        text = text.replace(sign, other)
    return text.encode("ascii", "replace").decode()


def listed(names: Iterable[str], most: int = 5) -> str:
    """Return some of these names, and how many more there are."""
    every = list(names)
    more = len(every) - most
    return ", ".join(every[:most]) + (f" and {more} more" if more > 0 else "")
