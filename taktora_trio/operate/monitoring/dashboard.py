"""What `top` shows: a run as lines of a given width, and no more of them than there is room for. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence

import msgspec
from rich.cells import cell_len, set_cell_size
from rich.text import Text

from taktora_trio.escaping import escaped
from taktora_trio.operate.monitoring.formatting import amount, duration, moment, rate, sparkline
from taktora_trio.operate.monitoring.tracking import Tracker
from taktora_trio.transport.sizing import size_text
from taktora_trio.vitals import ChannelVitals, ConnectorVitals, DomainVitals, HalfVitals, HealthChange

__all__ = ["Board", "Frame", "frame_of"]

_COLOURS = {"Up": "green", "Connecting": "cyan", "Degraded": "yellow", "Down": "bold red"}
_WELL, _BAD, _DIM, _HEAD = "green", "bold red", "dim", "bold"
_NAME, _LONGEST_NAME, _STATE, _FIGURE = 10, 24, 11, 8  # columns
_WIDE = 76  # from so many columns on, all figures are shown
_LOG = 6  # lines, at most
_REASON = 2  # lines of a reason, at most
_LEAST = 3  # channels, before the log gets more than one line


class Board(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be shown."""

    reading: DomainVitals
    tracker: Tracker
    now: float
    """Unix time in seconds."""
    first: int = 0
    """The first channel that is shown."""
    note: str = ""
    """What is to be said before all else, such as that the run has ended."""


class Frame(msgspec.Struct, frozen=True):
    """What is shown at once."""

    lines: list[Text]
    last_first: int = 0
    """The first channel when the last one is shown: scrolling on shows nothing new."""


def frame_of(board: Board, width: int, height: int | None) -> Frame:
    """Return the lines; without a height all of them, for a pipe."""
    reading = board.reading
    head = [_title(board, width)]
    if board.note:
        head += [Text(line, style=_BAD) for line in textwrap.wrap(board.note, max(5, width))]
    longest = max(map(cell_len, (*reading.halves, *reading.connectors)), default=0)
    names = max(_NAME, min(longest + 1, _LONGEST_NAME, width // 3))
    for name, half in reading.halves.items():
        head += _half(name, half, board.tracker.cpu.get(name), width, names)
    for connector in reading.connectors.values():
        head += _connector(connector, board.now, width, names)
    table = [_channel(channel, board.tracker, width) for channel in reading.channels]
    log = [_change(change, width) for change in reading.history]
    if height is None:
        return Frame([*head, _heads(width), *table, *log[-_LOG:]])
    room = height - len(head) - 2  # the table's head, and the last line
    of_log = min(len(log), _LOG, max(1, room - min(len(table), max(_LEAST, room - _LOG))))
    rows = max(0, room - of_log)
    last_first = max(0, len(table) - rows)
    first = min(board.first, last_first)
    shown = table[first : first + rows]
    lines = [*head, _heads(width), *shown, *(log[-of_log:] if of_log > 0 else [])]
    last = _keys(first, len(shown), len(table), width)
    return Frame([*lines[: max(0, height - 1)], last][:height], last_first)


def _title(board: Board, width: int) -> Text:
    reading = board.reading
    name = reading.domain if reading.app in ("", reading.domain) else f"{reading.domain} ({reading.app})"
    clock = f"{moment(board.now)} UTC"
    left = f"{escaped(name)}  {reading.mode}"
    return _ended(Text(f"{_cut(left, width - len(clock) - 1)} {clock}", style=_HEAD), width)


def _half(name: str, half: HalfVitals | None, cpu: float | None, width: int, names: int) -> Iterator[Text]:
    line = Text(_cut(escaped(name), names - 1) + " ")
    if half is None:
        yield _ended(line.append("is not there", style=_BAD), width)
        return
    line.append(_cut(half.state, _STATE), style=_WELL if half.is_well else _BAD)
    figures = {
        "pid": str(half.pid or "-"),
        "restarts": str(half.restarts) if half.restarts else None,
        "up": None if half.uptime is None else duration(half.uptime),
        "memory": None if half.memory is None else size_text(half.memory),
        "cpu": None if cpu is None or half.state != "runs" else f"{100 * cpu:.1f}%",
        "lag": None if half.loop_lag is None else duration(half.loop_lag),
    }
    yield _ended(line.append(_fitting(figures, width - names - _STATE)), width)
    yield from _indented(escaped(half.problem, 400), width, names, "" if half.is_well else _BAD)


def _fitting(figures: Mapping[str, str | None], width: int) -> str:
    """Return the figures that there are; those that matter least are left out where they don't fit."""
    there = {name: f"{name} {value}" for name, value in figures.items() if value is not None}
    for name in ("", "up", "memory", "lag", "cpu", "restarts"):
        there.pop(name, None)
        if len(text := "  ".join(there.values())) <= width:
            return text
    return text


def _connector(connector: ConnectorVitals, now: float, width: int, names: int) -> Iterator[Text]:
    line = Text(_cut(escaped(connector.name), names - 1) + " ")
    line.append(_cut(connector.health, _STATE), style=_COLOURS[connector.health])
    figures = [f"since {duration(max(0.0, now - connector.since))}"]
    if connector.next_attempt is not None and connector.health != "Up":
        figures.append(f"next attempt in {duration(max(0.0, connector.next_attempt - now))}")
    if connector.reconnects:
        figures.append(f"reconnects {connector.reconnects}")
    if connector.peer:
        figures.append(escaped(connector.peer))
    yield _ended(line.append("  ".join(figures)), width)
    if connector.health != "Up":
        yield from _indented(
            escaped(connector.reason or connector.cause, 400), width, names, _COLOURS[connector.health]
        )


def _heads(width: int) -> Text:
    wide = ["msg/s", "bytes/s", "window", "waits", "lost", "age", "latency"]
    cells = wide if width >= _WIDE else ["msg/s", "window", "waits", "lost"]
    name, bars = _widths(width, len(cells))
    text = f"  {_cut('channel', name)}" + "".join(f"{cell:>{_FIGURE}}" for cell in cells)
    return Text(_cut(text + (f"  {'rate':>{bars}}" if bars else ""), width), style="reverse")


def _channel(channel: ChannelVitals, tracker: Tracker, width: int) -> Text:
    rates = tracker.now(channel)
    is_full = channel.in_use is not None and channel.in_use >= channel.window
    cells: list[tuple[str, str]] = [(rate(None if rates is None else rates.messages), "")]
    if width >= _WIDE:
        cells.append((rate(None if rates is None else rates.payload_bytes), ""))
    cells += [
        (_window(channel), "yellow" if is_full else ""),
        (amount(channel.waiting), "yellow" if channel.waiting else ""),
        (amount(channel.lost), _BAD if channel.lost else ""),
    ]
    if width >= _WIDE:
        cells += [(duration(channel.age), ""), (duration(channel.latency), "")]
    name, bars = _widths(width, len(cells))
    line = Text("▸ " if channel.direction == "out" else "◂ ", style=_DIM)
    line.append(_cut(escaped(channel.name), name), style="")
    for text, style in cells:
        line.append(f"{text:>{_FIGURE}}", style=style or "none")
    if bars:
        line.append("  ").append(sparkline(tracker.history(channel), bars), style="cyan")
    return _ended(line, width)


def _window(channel: ChannelVitals) -> str:
    if channel.in_use is None:
        return f"-/{amount(channel.window)}"
    text = f"{channel.in_use}/{channel.window}"
    return text if len(text) < _FIGURE else f"{100 * channel.in_use / channel.window:.0f}%"


def _widths(width: int, cells: int) -> tuple[int, int]:
    """Return the columns of a channel's name and of its bars, beside the arrow and so many figures."""
    rest = width - 2 - _FIGURE * cells
    bars = max(0, min(60, rest - 12 - 2)) if rest > 18 else 0
    return max(4, rest - (bars + 2 if bars else 0)), bars


def _change(change: HealthChange, width: int) -> Text:
    line = Text(f"{moment(change.at)} {escaped(change.connector)} {change.before} → ", style=_DIM)
    line.append(change.after, style=_COLOURS[change.after])
    why = (change.reason or change.cause) if change.after != "Up" else ""
    return _ended(line.append(f"  {escaped(why, 300)}", style="none"), width)


def _keys(first: int, shown: int, count: int, width: int) -> Text:
    where = f"channels {first + 1}-{first + shown} of {count}" if 0 < shown < count else ""
    return Text(_cut(f"q quits  ↑ ↓ scroll  {where}", width), style=_DIM)


def _indented(text: str, width: int, indent: int, style: str) -> Iterator[Text]:
    lines: Sequence[str] = textwrap.wrap(text, max(5, width - indent), max_lines=_REASON, placeholder=" …")
    for line in lines:
        yield _ended(Text(" " * indent + line, style=style or "none"), width)


def _ended(line: Text, width: int) -> Text:
    if cell_len(line.plain) > width:
        line.truncate(width, overflow="ellipsis")
    return line


def _cut(text: str, width: int) -> str:
    """Return the text in exactly so many columns; one that is cut off ends with an ellipsis."""
    if width < 1:
        return ""
    return set_cell_size(text, width) if cell_len(text) <= width else set_cell_size(text, width - 1) + "…"
