"""The service by which a gateway reports its health. The newest report is kept for an app that comes later."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Literal, TypeAlias

import attrs
import iceoryx2 as iox2
import msgspec
import trio

from taktora_trio.channels.codec import JsonCodec
from taktora_trio.errors import summary
from taktora_trio.escaping import escaped
from taktora_trio.health import Connecting, ConnectorHealth, Degraded, Down, HealthEvent, Up
from taktora_trio.processes.procfs import process_stat
from taktora_trio.transport.ports import (
    EnvelopePublisher,
    EnvelopeSubscriber,
    open_envelope_publisher,
    open_envelope_subscriber,
)
from taktora_trio.transport.spec import HEALTH_PAYLOAD, ServiceSpec

__all__ = [
    "GatewayIdentity",
    "HealthReport",
    "HealthReporter",
    "HealthReports",
    "open_health_reporter",
    "open_health_reports",
    "start_time",
]

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
    """A state, and whose it is, as it travels. Decoding it fails for what can't be true: its sender may be broken."""

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
                return Up(reason)
            case "Connecting":
                return Connecting(self.since)
            case "Degraded":
                return Degraded(reason)
            case "Down":
                return Down(reason, self.since, next_attempt=self.next_attempt)

    @property
    def shown_cause(self) -> str | None:
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
            reason=_fitting(state.at if isinstance(state, Up) else getattr(state, "reason", "")),
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
        """Serve: hand the newest report to each app that comes later, and call `on_newcomer`. Runs until cancelled."""
        while True:
            self._port.space.clear()
            self._port.update_connections()
            on_newcomer()
            await self._port.space.wait()


class HealthReports:
    """The app's end."""

    def __init__(self, port: EnvelopeSubscriber) -> None:
        self._port = port
        self._decode = JsonCodec().decoder(HealthReport)

    def receive_nowait(self) -> HealthReport:
        """Return the next report. Raises `trio.WouldBlock`, and `ConnectorError` for one that can't be read."""
        sample = self._port.take()
        if sample is None:
            raise trio.WouldBlock
        try:
            _, payload, _, _ = self._port.open(sample, acknowledge=True)
            return self._decode(payload)
        finally:
            sample.delete()

    async def wait(self) -> None:
        """Wait until `receive_nowait` may have something."""
        await trio.lowlevel.checkpoint_if_cancelled()
        await self._port.data.wait()
        self._port.data.clear()

    def wake_gateway(self) -> None:
        """Wake the gateway's `serve_newcomers`."""
        self._port.wake_writer()


def _fitting(text: str) -> str:
    """Escape a text, and shorten it: the other side may say what no encoder takes."""
    return escaped(text, _TEXT_LIMIT)[:_TEXT_LIMIT]


@contextlib.asynccontextmanager
async def open_health_reporter(
    node: iox2.Node, spec: ServiceSpec, identity: GatewayIdentity
) -> AsyncIterator[HealthReporter]:
    """Open the gateway's end."""
    async with open_envelope_publisher(node, spec) as port:
        yield HealthReporter(port, identity)


@contextlib.asynccontextmanager
async def open_health_reports(node: iox2.Node, spec: ServiceSpec) -> AsyncIterator[HealthReports]:
    """Open the app's end."""
    async with open_envelope_subscriber(node, spec) as port:
        yield HealthReports(port)


def start_time(pid: int) -> int | None:
    """Return the time at which a process started, in clock ticks since boot; `None` if it doesn't exist."""
    try:
        return int(process_stat(pid)[19])
    except (FileNotFoundError, ProcessLookupError):
        return None
