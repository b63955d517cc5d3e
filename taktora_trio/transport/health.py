"""The service by which a gateway tells its health: an envelope each, the newest kept for whoever comes later."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import attrs
import iceoryx2 as iox2
import msgspec

from taktora_trio.codec import JsonCodec
from taktora_trio.errors import summary
from taktora_trio.health import Connecting, ConnectorHealth, Degraded, Down, HealthEvent, Up
from taktora_trio.transport.ports import EnvelopePublisher, open_envelope_publisher
from taktora_trio.transport.reader import ChannelReader, open_reader
from taktora_trio.transport.services import HEALTH_PAYLOAD, ServiceSpec

__all__ = ["GatewayIdentity", "HealthReport", "HealthReporter", "open_health_reader", "open_health_reporter"]

_YEAR_9999 = 253_370_764_800  # as a unix time in seconds
_TEXT_LIMIT = HEALTH_PAYLOAD // 8  # in characters, of which JSON may need 6 bytes each


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
    """What travels: a state, and whose."""

    state: str
    reason: str
    since: float
    cause: str
    pid: int
    started: int
    incarnation: int
    next_attempt: float | None = None

    @property
    def identity(self) -> GatewayIdentity:
        return GatewayIdentity(self.pid, self.started, self.incarnation)

    @property
    def health(self) -> ConnectorHealth:
        match self.state:
            case "Up":
                return Up()
            case "Connecting":
                return Connecting(self.since)
            case "Degraded":
                return Degraded(self.reason)
            case _:
                # A time that no calendar has could not be shown.
                due = self.next_attempt if self.next_attempt and 0 < self.next_attempt < _YEAR_9999 else None
                return Down(self.reason, self.since, next_attempt=due)


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
            state=type(state).__name__,
            reason=getattr(state, "reason", "")[:_TEXT_LIMIT],
            since=getattr(state, "since", 0.0),
            cause=(cause or "")[:_TEXT_LIMIT],
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
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(text.rpartition(")")[2].split()[19])  # the name in parentheses may itself contain any character
