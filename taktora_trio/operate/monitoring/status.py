"""What `status` shows: a run as it is now, once, in lines or as JSON. It needs no library of its own."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

import msgspec

from taktora_trio.escaping import escaped
from taktora_trio.operate.monitoring.formatting import amount, duration, moment
from taktora_trio.operate.monitoring.table import table
from taktora_trio.transport.sizing import size_text
from taktora_trio.vitals import ChannelVitals, ConnectorVitals, DomainVitals, HalfVitals

__all__ = ["as_json", "as_lines"]

_WIDTH = 80
_NAME, _STATE = 11, 12  # columns, for a name at least
_CHANGES = 5
_REASON = 400  # characters


def as_json(reading: DomainVitals) -> bytes:
    """Return a reading as a JSON document, with what is not well in it."""
    document = {
        "is_well": reading.is_well,
        "problems": reading.problems,
        **msgspec.structs.asdict(reading),
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def as_lines(reading: DomainVitals, now: float) -> list[str]:
    """Return a reading as lines. `now` is the unix time in seconds, by which "since" is told."""
    name = reading.domain if reading.app in ("", reading.domain) else f"{reading.domain} ({reading.app})"
    count = len(reading.problems)
    what = "all is well" if not count else f"{count} problem{'s' * (count > 1)}"
    lines = [f"{escaped(name)}  {reading.mode}  {what}", ""]
    width = max([_NAME, *(len(escaped(one)) + 1 for one in (*reading.halves, *reading.connectors))])
    for half, vitals in reading.halves.items():
        lines += _half(half, vitals, width)
    for connector in reading.connectors.values():
        lines += _connector(connector, now, width)
    if reading.channels:
        lines += ["", *table([_HEADS, *map(_channel, reading.channels)], "<<" + ">" * (len(_HEADS) - 2))]
    if reading.history:
        lines.append("")
    for change in reading.history[-_CHANGES:]:
        at = f"{moment(change.at, '%Y-%m-%d %H:%M:%S')} UTC"
        why = f"  {escaped(change.reason, _REASON)}" if change.reason else ""
        line = f"{at}  {escaped(change.connector)} {change.before} -> {change.after}{why}"
        lines += textwrap.wrap(line, _WIDTH, subsequent_indent=" " * _NAME)
    return lines


def _half(name: str, half: HalfVitals | None, width: int) -> Iterator[str]:
    if half is None:
        yield f"{escaped(name):<{width}}is not there"
        return
    figures = [
        "" if half.pid is None else f"pid {half.pid}",
        "" if half.uptime is None else f"up {duration(half.uptime)}",
        f"restarts {half.restarts}" if half.restarts else "",
        "" if half.memory is None else size_text(half.memory),
        "" if half.cpu is None else f"cpu {duration(half.cpu)}",
        "" if half.loop_lag is None else f"lag {duration(half.loop_lag)}",
    ]
    text = "  ".join(filter(None, figures))
    yield f"{escaped(name):<{width}}{half.state:<{_STATE}}{text}".rstrip()
    yield from _indented(half.problem, width)


def _connector(connector: ConnectorVitals, now: float, width: int) -> Iterator[str]:
    figures = [f"since {duration(max(0.0, now - connector.since))}", f"reconnects {connector.reconnects}"]
    text = "  ".join([*figures, escaped(connector.peer)])
    yield f"{escaped(connector.name):<{width}}{connector.health:<{_STATE}}{text}".rstrip()
    if connector.health != "Up":
        yield from _indented(connector.reason or connector.cause, width)


def _indented(text: str, width: int) -> Iterator[str]:
    for line in textwrap.wrap(escaped(text, _REASON), max(20, _WIDTH - width)):
        yield " " * width + line


_HEADS = ("channel", "", "sent", "bytes", "window", "waits", "lost", "store", "full in", "age", "latency")


def _channel(channel: ChannelVitals) -> tuple[str, ...]:
    window = "-" if channel.in_use is None else f"{channel.in_use}/{channel.window}"
    return (
        escaped(channel.name, 24),
        channel.direction,
        amount(channel.messages),
        amount(channel.payload_bytes),
        window,
        amount(channel.waiting),
        amount(channel.lost),
        _part(channel.store_bytes, channel.store_limit),
        duration(channel.store_full_in),
        duration(channel.age),
        duration(channel.latency),
    )


def _part(of: int | None, all_of_it: int | None) -> str:
    return "-" if of is None or not all_of_it else f"{100 * of / all_of_it:.0f}%"
