"""Rates, of two readings of the same run."""

from __future__ import annotations

import msgspec

from taktora_trio.vitals.model import ChannelKey, ChannelVitals, DomainVitals

__all__ = ["ChannelRates", "HalfRates", "Rates", "rates"]


class ChannelRates(msgspec.Struct, frozen=True, kw_only=True):
    """What goes through a channel in a second."""

    messages: float
    """Messages that its writer sends."""
    done: float
    """Messages that its reader is done with."""
    payload_bytes: float
    """Bytes of payload that its writer sends."""


class HalfRates(msgspec.Struct, frozen=True, kw_only=True):
    """What a half takes in a second."""

    cpu: float
    """The part of one processor: 1 is all of one."""


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """What goes on between two readings."""

    seconds: float
    """The time between them."""
    channels: dict[ChannelKey, ChannelRates]
    halves: dict[str, HalfRates]

    def of(self, channel: ChannelVitals) -> ChannelRates:
        """Return the rates of a channel; zeros for one that is in one of the readings alone."""
        return self.channels.get(channel.key, _NONE)


_NONE = ChannelRates(messages=0.0, done=0.0, payload_bytes=0.0)


def rates(before: DomainVitals, after: DomainVitals) -> Rates:
    """Return what went on from `before` to `after`. A counter that is less than before has begun anew, at 0."""
    seconds = after.read_at - before.read_at
    if seconds <= 0:
        return Rates(seconds=0.0, channels={}, halves={})
    earlier = {one.key: one for one in before.channels}
    channels: dict[ChannelKey, ChannelRates] = {}
    for channel in after.channels:
        if (old := earlier.get(channel.key)) is not None:
            channels[channel.key] = ChannelRates(
                messages=_grown(old.messages, channel.messages) / seconds,
                done=_grown(old.done, channel.done) / seconds,
                payload_bytes=_grown(old.payload_bytes, channel.payload_bytes) / seconds,
            )
    halves = {}
    for name, half in after.halves.items():
        was = before.halves.get(name)
        if half is not None and was is not None:
            halves[name] = HalfRates(cpu=_grown(was.cpu, half.cpu) / seconds)
    return Rates(seconds=seconds, channels=channels, halves=halves)


def _grown(before: float | None, after: float | None) -> float:
    if before is None or after is None:
        return 0.0
    return after - before if after >= before else after
