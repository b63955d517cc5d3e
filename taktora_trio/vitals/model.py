"""What is known of a run from outside: plain values, which msgspec writes as JSON as they are.

Counters begin at 0 and grow; one that begins anew with its half is found by that. Rates are made of two readings.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec

__all__ = [
    "Change",
    "Channel",
    "ChannelKey",
    "ChannelVitals",
    "Connector",
    "ConnectorVitals",
    "DomainVitals",
    "HalfState",
    "HalfVitals",
    "Health",
    "HealthChange",
    "Mode",
    "Page",
]

Health: TypeAlias = Literal["Up", "Connecting", "Degraded", "Down"]
HalfState: TypeAlias = Literal["runs", "starts", "waits", "hangs", "stopped", "gone", "unreadable"]
Mode: TypeAlias = Literal["in-process", "split", "separate"]
ChannelKey: TypeAlias = tuple[str, str, str]
"""By which a channel is told from others: its connector, its name, and its direction."""
UnixTime: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=2**36)]
"""Unix time in seconds. A page with one that no calendar has can't be read."""

_IN_WORDS = {"stopped": "is stopped", "gone": "is gone", "unreadable": "can't be read"}


class HealthChange(msgspec.Struct, frozen=True, kw_only=True):
    """One change of a connector's health, with its cause."""

    at: UnixTime
    connector: str
    before: Health
    after: Health
    reason: str = ""
    cause: str = ""


class ConnectorVitals(msgspec.Struct, frozen=True, kw_only=True):
    """A connector, as the half says that has heard of it last."""

    name: str
    health: Health
    since: UnixTime
    """Since when it is so."""
    reason: str = ""
    cause: str = ""
    peer: str = ""
    """The address of the other side, without what is secret."""
    reconnects: int = 0
    """How often a connection was lost, and it connected again."""
    next_attempt: UnixTime | None = None
    """The time of the next attempt, where one is due and known."""


class ChannelVitals(msgspec.Struct, frozen=True, kw_only=True):
    """A channel. `None` stands for what nobody knows now: its half is not there, or it has no such thing."""

    connector: str
    name: str
    direction: Literal["out", "in"]
    address: str
    """Where its messages go, or come from."""
    window: int
    """The largest number of messages on their way through shared memory."""
    messages: int | None = None
    """Messages that its writer has sent: outbound the app, inbound the gateway. Over the whole run of the domain."""
    payload_bytes: int | None = None
    """Bytes of their payloads, since the writing half has started."""
    done: int | None = None
    """Of the messages, those that the reading half is done with."""
    acknowledged: int | None = None
    """Outbound: of the messages, those that the other side has acknowledged or refused."""
    in_use: int | None = None
    """Messages in the window now."""
    backlog: int | None = None
    """Messages that wait in the gateway: outbound for the other side, inbound for room in the window."""
    store_bytes: int | None = None
    """Bytes that its connector's messages take on disk in this direction, where it is kept there."""
    store_limit: int | None = None
    store_full_in: float | None = None
    """Seconds until the store is full, should it go on as it does; `None` if it does not grow."""
    store_messages: int | None = None
    """Messages of this channel on disk."""
    discarded: int | None = None
    """Messages that the gateway has thrown away, since it has started; so with the next three."""
    expired: int | None = None
    refused: int | None = None
    dead_letters: int | None = None
    rejected: int | None = None
    """Inbound: messages that the app's half could not read, since its reader was opened."""
    redelivered: int | None = None
    """Inbound: messages that the app was given again, since its reader was opened."""
    waited: int | None = None
    """Outbound: messages that found no room at first, since its writer was opened."""
    age: float | None = None
    """Seconds since its last message was sent into shared memory."""
    oldest: float | None = None
    """Seconds since the oldest message in the window was sent."""
    latency: float | None = None
    """Seconds that a message takes through the window, from its sending to its being done with: of one in the last
    second that there were any."""

    @property
    def key(self) -> ChannelKey:
        return self.connector, self.name, self.direction

    @property
    def lost(self) -> int:
        """Messages that the gateway has not passed on: discarded, expired, refused, or set aside as dead letters."""
        return sum(filter(None, (self.discarded, self.expired, self.refused, self.dead_letters)))

    @property
    def waiting(self) -> int:
        """Messages that wait in the gateway, or on its disk."""
        return sum(filter(None, (self.backlog, self.store_messages)))


class HalfVitals(msgspec.Struct, frozen=True, kw_only=True):
    """One half, or in the split shape one process of it."""

    name: str
    """`plugin` or `gateway`; with connectors of its own `gateway:CONNECTOR`."""
    state: HalfState
    """`runs`; `starts` (its role is taken, and nothing was written yet); `waits` for the other half; `hangs` (the
    process is there, and its loop does not turn); `stopped` by a signal; `gone` (it was killed, or has ended); its page
    is `unreadable`."""
    problem: str = ""
    """What is wrong, in one line."""
    pid: int | None = None
    incarnation: int | None = None
    """Which start of its supervisor's it is; the first is 1."""
    restarts: int | None = None
    """How often this half was started again in this run of the domain."""
    uptime: float | None = None
    """Seconds since it has started."""
    memory: int | None = None
    """Bytes in physical memory (RSS) of its process."""
    cpu: float | None = None
    """Seconds of processor time that its process has used."""
    loop_lag: float | None = None
    """Seconds by which its loop was late: the most of the last second before it has written."""
    age: float | None = None
    """Seconds since it has written its page."""
    written_at: float | None = None
    """When that was, by `CLOCK_BOOTTIME`, in seconds."""

    @property
    def is_well(self) -> bool:
        return self.state in ("runs", "starts", "waits")

    @property
    def summary(self) -> str:
        """What is to be said of it, such as `hangs`, and why."""
        words = _IN_WORDS.get(self.state, self.state)
        return f"{words}: {self.problem}" if self.problem else words


class DomainVitals(msgspec.Struct, frozen=True, kw_only=True):
    """A run of a deployment, as it is now or was last."""

    domain: str
    app: str
    """The deployment's name; empty if no half has said it yet."""
    mode: Mode
    """`in-process`; `split`, under a supervisor of ours; or `separate` processes of any other supervisor's."""
    read_at: float
    """When this was read, by `CLOCK_BOOTTIME`, in seconds."""
    owner: int | None
    """The process that owns the domain: a supervisor of ours, or else the plugin."""
    halves: dict[str, HalfVitals | None]
    """By name, `plugin` and `gateway` always; `None` for one that is not there and has left nothing."""
    connectors: dict[str, ConnectorVitals]
    channels: list[ChannelVitals]
    history: list[HealthChange]
    """The last changes of health, the newest last."""

    @property
    def problems(self) -> list[str]:
        """What is not well, each in one line; empty if all is."""
        lines = [f"there is no {name}" for name, half in self.halves.items() if half is None]
        lines += [
            f"the {name} {half.summary}" for name, half in self.halves.items() if half is not None and not half.is_well
        ]
        lines += [
            f"connector {one.name} is Down: {one.reason}" for one in self.connectors.values() if one.health == "Down"
        ]
        return lines

    @property
    def is_well(self) -> bool:
        return not self.problems


# On a page: the same values, as arrays


class Channel(ChannelVitals, frozen=True, kw_only=True, array_like=True):
    """A channel as one half knows it."""


class Connector(ConnectorVitals, frozen=True, kw_only=True, array_like=True):
    """A connector as one half knows it."""


class Change(HealthChange, frozen=True, kw_only=True, array_like=True):
    """A change of health on a page."""


class Page(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """What a half writes."""

    name: str
    app: str
    pid: int
    process_started: int
    """Start time of the process in clock ticks since boot: a process id alone would come round again."""
    incarnation: int
    restarts: int
    started_at: float
    """When this half was opened, by `CLOCK_BOOTTIME`, in seconds."""
    interval: float
    """Seconds from one page to the next."""
    memory: int
    cpu: float
    loop_lag: float
    connectors: list[Connector]
    channels: list[Channel]
    history: list[Change]
    has_ended: bool = False
    """True on the last page of a half that has left in order, or by an error of its own."""
