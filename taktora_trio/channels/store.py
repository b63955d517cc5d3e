"""Store: how messages of outbound channels are kept on disk by the gateway's half, declared by the app."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal, TypeAlias

import attrs

from taktora_trio.checks import YEAR, as_path, field_name, flag, one_of, optional, seconds, whole_number
from taktora_trio.errors import ConfigError

__all__ = ["Store", "WhenFull"]

WhenFull: TypeAlias = Literal["wait", "drop-oldest", "drop-newest"]
MIB = 2**20


def _not_negative(instance: object, attribute: attrs.Attribute[float], value: object) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= YEAR:
        name = field_name(instance, attribute)
        raise ConfigError(f"{name} is {value!r}; it must be a number of seconds, from 0 to a year")


def _rate(instance: object, attribute: attrs.Attribute[float], value: object) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
        name = field_name(instance, attribute)
        raise ConfigError(f"{name} is {value!r}; it must be a number of messages a second, more than 0, or None")


@attrs.frozen(kw_only=True)
class Store:
    """Messages are kept on disk until the other side has acknowledged them. The app's half never touches the disk.

    Its defaults suit a small device with an SD card: nothing is written as long as the other side acknowledges in time.
    Raises `ConfigError` for a limit of zero, and for policies that contradict one another.
    """

    path: Path | None = attrs.field(default=None, converter=as_path)
    """The folder, made with mode 0700 where it is missing. By default one below `STATE_DIRECTORY`, or below
    `XDG_STATE_HOME`."""
    policy: Literal["always", "when-behind"] = attrs.field(
        default="when-behind", validator=one_of("always", "when-behind")
    )
    """With `"always"` each message is stored as soon as it was sent, unless it is acknowledged even sooner. With
    `"when-behind"` it is stored if it is not acknowledged within `behind_after`, or if there is no connection: a power
    cut then loses what was sent in that time (a receipt tells)."""
    behind_after: float = attrs.field(default=0.5, validator=seconds)
    """Seconds."""
    sync_every: float = attrs.field(default=0.0, validator=_not_negative)
    """Seconds between two writes that reach the disk itself; 0 for as soon as the last one has. A message counts as
    stored when it has reached the disk, so a larger value gathers more of them, wears the disk less, and delays
    receipts."""
    max_bytes: int = attrs.field(default=256 * MIB, validator=whole_number(MIB))
    """Bytes on disk for each connector."""
    max_messages: int | None = attrs.field(default=None, validator=optional(whole_number(1)))
    """Messages of a channel; `None` for no limit but `max_bytes`."""
    max_age: float | None = attrs.field(default=None, validator=optional(seconds))
    """Seconds after which a stored message is dropped, counted, and never published."""
    when_full: WhenFull = attrs.field(default="wait", validator=one_of("wait", "drop-oldest", "drop-newest"))
    """With `"wait"` the channel's window fills, and `send` waits. What is dropped is counted, logged and shown as
    `Degraded`, which begins when 80 % is used."""
    catch_up: Literal["oldest-first", "newest-first"] = attrs.field(
        default="oldest-first", validator=one_of("oldest-first", "newest-first")
    )
    """The order after an outage: all in the order of sending, or what is sent now before the backlog, which follows in
    its own order."""
    catch_up_rate: float | None = attrs.field(default=None, validator=optional(_rate))
    """Messages per second of the backlog that a connector publishes at most, so that a fleet that reconnects does not
    trip its other side's limits; `None` for no limit."""
    mark_backlog: bool = attrs.field(default=False, validator=flag)
    """If true, what comes from the backlog has the user property `taktora-stored-at`: the time of its sending in
    nanoseconds since the unix epoch. For protocols that carry metadata."""

    def __attrs_post_init__(self) -> None:
        if self.when_full == "drop-newest" and self.catch_up == "newest-first":
            raise ConfigError(
                "Store: when_full is 'drop-newest' and catch_up 'newest-first': the one drops what the other prefers"
            )
