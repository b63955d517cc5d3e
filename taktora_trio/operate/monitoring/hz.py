"""`hz`: how often messages come, by the numbers and times that they have in shared memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
import trio
from trio_util import move_on_when

from taktora_trio.escaping import escaped
from taktora_trio.operate.monitoring.formatting import amount, duration, rate
from taktora_trio.operate.monitoring.intervals import Gaps
from taktora_trio.recorder.follower import Channel, Follower, open_follower
from taktora_trio.runners.this_process.outcome import show
from taktora_trio.runners.this_process.until_stopped import until_stopped
from taktora_trio.transport.domain import Domain

__all__ = ["Seen", "run_hz", "watch_rates"]

_LOOK = 0.02  # seconds from one look at the channels to the next
_NAME, _FIGURE = 20, 9  # columns
_HEADS = ("msg/s", "mean", "min", "max", "jitter", "messages")
_ALL = "in all"


def run_hz(domain: Domain, names: Sequence[str], every: float, seconds: float | None, json: bool) -> int:
    """Show the rates of channels every so many seconds, and at the end of all the time. 1 if no message came at all.

    Raises `NoSuchDomain`, and `ConfigError` for a channel that there is not.
    """
    with open_follower(domain, names) as follower:
        seen = Seen(follower.channels, json)

        async def work(stop: trio.Event) -> int:
            async with move_on_when(stop.wait):
                await watch_rates(follower, seen, every)
            seen.conclude()
            return 0 if seen.has_any else 1

        return trio.run(until_stopped, work, None, seconds)


async def watch_rates(follower: Follower, seen: Seen, every: float) -> None:
    """Show an interval after the other, until the run ends."""
    while not follower.has_ended:
        begun = trio.current_time()
        while (left := begun + every - trio.current_time()) > 0 and not follower.has_ended:
            seen.look()
            await trio.sleep(min(_LOOK, left))
        seen.tell(trio.current_time() - begun)


class Seen:
    """What came in each channel, in this interval and since the beginning."""

    def __init__(self, channels: Sequence[Channel], json: bool) -> None:
        self._channels = channels
        self._json = json
        self._now = [Gaps() for _ in channels]
        self._all = [Gaps() for _ in channels]
        self._seconds = 0.0
        self._has_head = False

    @property
    def has_any(self) -> bool:
        return any(gaps.messages for gaps in self._all)

    def look(self) -> None:
        """Take what has come. Payloads are not decoded."""
        for channel, now, every in zip(self._channels, self._now, self._all, strict=True):
            for envelope in channel.followed.take():
                header = envelope.header
                now.add(header.sequence_number, header.boottime_ns)
                every.add(header.sequence_number, header.boottime_ns)

    def tell(self, seconds: float) -> None:
        """Show the interval that has ended, and begin the next."""
        self.look()
        self._seconds += seconds
        self._show(self._now, seconds, "")
        self._now = [gaps.next() for gaps in self._now]

    def conclude(self) -> None:
        """Show all that was seen."""
        if self._seconds:
            self._show(self._all, self._seconds, _ALL)

    def _show(self, found: Sequence[Gaps], seconds: float, title: str) -> None:
        if self._json:
            for channel, gaps in zip(self._channels, found, strict=True):
                show(msgspec.json.encode(_values(channel, gaps, seconds, bool(title))).decode())
            return
        several = len(self._channels) > 1
        lines = list(self._lines(found, seconds))
        if title or several or not self._has_head:
            blank = [""] if self._has_head else []
            lines = [*blank, _row(title or "channel", _HEADS), *lines]
        self._has_head = True
        show("\n".join(lines))

    def _lines(self, found: Sequence[Gaps], seconds: float) -> Iterator[str]:
        for channel, gaps in zip(self._channels, found, strict=True):
            times = [duration(value) for value in (gaps.mean, gaps.least, gaps.most, gaps.jitter)]
            lost = f"  {channel.lost} not seen" if channel.lost else ""
            yield (
                _row(_name(channel, self._channels), (rate(gaps.messages / seconds), *times, amount(gaps.messages)))
                + lost
            )


def _row(name: str, cells: Sequence[str]) -> str:
    name = name if len(name) <= _NAME else f"{name[: _NAME - 3]}..."
    return f"{name:<{_NAME}}" + "".join(f"{cell:>{_FIGURE}}" for cell in cells)


def _name(channel: Channel, channels: Sequence[Channel]) -> str:
    alike = [other for other in channels if other.name == channel.name]
    return escaped(channel.name if len(alike) == 1 else f"{channel} {channel.direction}")


def _values(channel: Channel, gaps: Gaps, seconds: float, is_all: bool) -> dict[str, object]:
    return {
        "connector": channel.connector,
        "channel": channel.name,
        "direction": channel.direction,
        "seconds": seconds,
        "all": is_all,
        "messages": gaps.messages,
        "rate": gaps.messages / seconds,
        "mean": gaps.mean,
        "min": gaps.least,
        "max": gaps.most,
        "jitter": gaps.jitter,
        "not_seen": channel.lost,
    }
