"""The service by which a gateway tells its health: an envelope each, the newest kept for whoever comes later."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Literal, TypeAlias

import attrs
import iceoryx2 as iox2
import msgspec

from taktora_trio.channels.codec import JsonCodec
from taktora_trio.errors import summary
from taktora_trio.escaping import escaped
from taktora_trio.health import Connecting, ConnectorHealth, Degraded, Down, HealthEvent, Up
from taktora_trio.processes.procfs import process_stat
from taktora_trio.transport.ports import EnvelopePublisher, open_envelope_publisher
from taktora_trio.transport.reader import ChannelReader, open_reader
from taktora_trio.transport.services import HEALTH_PAYLOAD, ServiceSpec

__all__ = ["GatewayIdentity", "HealthReport", "HealthReporter", "open_health_reader", "open_health_reporter"]

_TEXT_LIMIT = HEALTH_PAYLOAD // 10  # in characters: UTF-8 needs up to 4 bytes for each, and there are two texts

_Pid: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=2**22)]  # proc_sys_kernel(5), pid_max
_Time: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=253_370_764_800)]  # to the year 9999: none later can be shown
_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


@attrs.frozen
class GatewayIdentity:
    """One run of a gateway: a process, and which try within it. A process id alone would come round again."""

    pid: int
    started: int
    """The process's start time in clock ticks since boot (proc(5), /proc/pid/stat field 22)."""
    incarnation: int

    @staticmethod
    def of_this_process(incarnation: int = 1) -> GatewayIdentity:
        return GatewayIdentity(os.getpid(), start_time(os.getpid()) or 0, incarnation)


class HealthReport(msgspec.Struct, frozen=True):
    """What travels: a state, and whose. What can't be true is not decoded: its sender may be broken, or worse."""

    state: Literal["Up", "Connecting", "Degraded", "Down"]
    reason: str
    since: _Time
    cause: str
    pid: _Pid
    started: _Count
    incarnation: _Count
    next_attempt: _Time | None = None

    @property
    def identity(self) -> GatewayIdentity:
        return GatewayIdentity(self.pid, self.started, self.incarnation)

    @property
    def health(self) -> ConnectorHealth:
        reason = escaped(self.reason, _TEXT_LIMIT)
        match self.state:
            case "Up":
                return Up()
            case "Connecting":
                return Connecting(self.since)
            case "Degraded":
                return Degraded(reason)
            case "Down":
                return Down(reason, self.since, next_attempt=self.next_attempt)

    @property
    def told_cause(self) -> str | None:
        return escaped(self.cause, _TEXT_LIMIT) or None


class HealthReporter:
    """The gateway's end."""

    def __init__(self, port: EnvelopePublisher, identity: GatewayIdentity) -> None:
        self._port = port
        self._identity = identity
        self._encode: Callable[[HealthReport], bytes] = msgspec.json.Encoder().encode

    def report(self, state: ConnectorHealth, cause: BaseException | str | None = None) -> None:
        """Publish a state. Never waits: a plugin that does not listen only needs the newest."""
        if isinstance(cause, BaseException):
            cause = summary(cause)
        report = HealthReport(
            state=type(state).__name__,  # type: ignore[arg-type]  # the names of its four classes
            reason=_fitting(getattr(state, "reason", "")),
            since=getattr(state, "since", 0.0),
            cause=_fitting(cause or ""),
            pid=self._identity.pid,
            started=self._identity.started,
            incarnation=self._identity.incarnation,
            next_attempt=getattr(state, "next_attempt", None),
        )
        self._port.send(self._encode(report))

    def forward(self, event: HealthEvent) -> None:
        self.report(event.after, event.cause)

    async def serve_newcomers(self, on_newcomer: Callable[[], None]) -> None:
        """Serve: hand the newest report to each plugin that comes later, and tell of it. Runs until cancelled."""
        while True:
            self._port.space.clear()
            self._port.update_connections()
            on_newcomer()
            await self._port.space.wait()


def _fitting(text: str) -> str:
    """Escaped here, too: what the broker says may be what no encoder takes."""
    return escaped(text, _TEXT_LIMIT)[:_TEXT_LIMIT]


@contextlib.asynccontextmanager
async def open_health_reporter(
    node: iox2.Node, spec: ServiceSpec, identity: GatewayIdentity
) -> AsyncIterator[HealthReporter]:
    async with open_envelope_publisher(node, spec) as port:
        yield HealthReporter(port, identity)


@contextlib.asynccontextmanager
async def open_health_reader(node: iox2.Node, spec: ServiceSpec) -> AsyncIterator[ChannelReader[HealthReport]]:
    """The plugin's end."""
    async with open_reader(node, spec, HealthReport, JsonCodec(), topic="") as reader:
        yield reader


def start_time(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; `None` if it doesn't exist."""
    try:
        return int(process_stat(pid)[19])
    except (FileNotFoundError, ProcessLookupError):
        return None
