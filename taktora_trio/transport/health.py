"""The service by which a gateway reports its health. The newest report is kept for an app that comes later."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Literal, TypeAlias

import msgspec
import trio

from taktora_trio.channels.codec import JsonCodec
from taktora_trio.errors import ConfigError, PayloadOverflow, TransportError, summary
from taktora_trio.escaping import escaped
from taktora_trio.health import Connecting, ConnectorHealth, Degraded, Down, HealthEvent, Up
from taktora_trio.processes.procfs import process_stat
from taktora_trio.transport.bell import Ringer, Waiter, open_bell, open_ringer
from taktora_trio.transport.descriptors import shortage
from taktora_trio.transport.ports import REPORT_BYTES, Node, ReportPublishing, ReportTaking
from taktora_trio.transport.spec import TrunkSpec

__all__ = [
    "GatewayIdentity",
    "HealthReport",
    "HealthReporter",
    "HealthReports",
    "open_health_reporter",
    "open_health_reports",
    "start_time",
]

_AGAIN = 1.0  # seconds
_TEXT_LIMIT = REPORT_BYTES // 10  # in characters: UTF-8 needs up to 4 bytes for each, and there are two texts

_Pid: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=2**22)]  # proc_sys_kernel(5), pid_max
_Time: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=253_370_764_800)]  # to the year 9999: none later can be shown
_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class GatewayIdentity(msgspec.Struct, frozen=True):
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
    """The gateway's end. Use `open_health_reporter`."""

    def __init__(
        self, publisher: ReportPublishing, ringer: Ringer, newcomers: Waiter, identity: GatewayIdentity
    ) -> None:
        self._publisher = publisher
        self._ringer = ringer
        self._newcomers = newcomers
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
        self.send(self._encode(report))

    def send(self, encoded: bytes) -> None:
        """Publish a report that is encoded already."""
        if len(encoded) > REPORT_BYTES:
            raise PayloadOverflow(f"a report of health of {len(encoded)} bytes, where {REPORT_BYTES} fit")
        self._publisher.send(encoded)  # to the history alone, where nobody is there now
        self._ringer.ring_all()

    def forward(self, event: HealthEvent) -> None:
        self.report(event.after, event.cause)

    async def repeat(self, state: ConnectorHealth) -> None:
        """Publish a state that was published before, and try again to reach an app that could not be reached."""
        if self._ringer.is_lacking:
            await self._ringer.open_again()
        self.report(state)

    async def serve_newcomers(self, on_newcomer: Callable[[], None]) -> None:
        """Serve: hand the newest report to each app that comes later, and call `on_newcomer`. Runs until cancelled."""
        while True:
            self._newcomers.clear()
            self._publisher.update_connections()
            self._ringer.ring_all()  # who has come may be asleep already
            on_newcomer()
            await self._newcomers.wait()


class HealthReports:
    """The app's end. Use `open_health_reports`."""

    def __init__(
        self,
        name: str,
        subscriber: ReportTaking,
        ringer: Ringer,
        data: Waiter,
    ) -> None:
        self._name = name
        self._subscriber = subscriber
        self._ringer = ringer
        self._data = data
        # A gateway that is there hands us its newest report.
        self._is_cut_off = self._expects_one = ringer.ring_all() > 0
        self._decode = JsonCodec().unchecked_decoder(HealthReport)

    def receive_nowait(self) -> HealthReport:
        """Return the next report. Raises `trio.WouldBlock`, and `ConnectorError` for one that can't be read."""
        try:
            encoded = self._subscriber.receive()
            if encoded is None:
                raise trio.WouldBlock
        except TransportError:  # something has come
            self._is_cut_off = self._expects_one = False
            raise
        self._is_cut_off = self._expects_one = False
        return self._decode_report(encoded)

    def _decode_report(self, content: bytes) -> HealthReport:
        return self._decode(content)

    async def wait(self) -> None:
        """Wait until `receive_nowait` may have something.

        Where there is somebody, of whom nothing has come, it opens its port again now and then: iceoryx2 tries only
        once to connect two, and says nothing if there is no descriptor for it.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._is_cut_off or not self._subscriber.is_open:
            with trio.move_on_after(_AGAIN):
                await self._data.wait()
                self._data.clear()
                return
            with contextlib.suppress(ConfigError, TransportError):
                await self._subscriber.open()
                await self.ask()
            return
        await self._data.wait()
        self._data.clear()
        self._is_cut_off = self._expects_one or shortage(self._name) is not None

    async def ask(self) -> None:
        """Have the gateway look, and try again to reach one that could not be reached."""
        if self._ringer.is_lacking:  # it has rung otherwise
            await self._ringer.open_again()
            self._ringer.ring_all()


def _fitting(text: str) -> str:
    """Escape a text, and shorten it: the other side may say what no encoder takes."""
    return escaped(text, _TEXT_LIMIT)[:_TEXT_LIMIT]


@contextlib.asynccontextmanager
async def open_health_reporter(node: Node, spec: TrunkSpec, identity: GatewayIdentity) -> AsyncIterator[HealthReporter]:
    """Open the gateway's end."""
    name = spec.health
    async with open_bell(node, f"{name}.gateway", 1) as bell, open_ringer(node, f"{name}.app", 1) as ringer:
        publisher = await node.open_report_publisher(name)
        # Explicitly closed: a traceback that still refers to a port would keep its only place occupied.
        try:
            yield HealthReporter(publisher, ringer, bell.wakeup(0), identity)
        finally:
            publisher.close()


@contextlib.asynccontextmanager
async def open_health_reports(node: Node, spec: TrunkSpec) -> AsyncIterator[HealthReports]:
    """Open the app's end."""
    name = spec.health
    async with open_bell(node, f"{name}.app", 1) as bell, open_ringer(node, f"{name}.gateway", 1) as ringer:
        subscriber = await node.open_report_subscriber(name)
        try:
            yield HealthReports(name, subscriber, ringer, bell.wakeup(0))
        finally:
            subscriber.close()


def start_time(pid: int) -> int | None:
    """Return the time at which a process started, in clock ticks since boot; `None` if it doesn't exist."""
    try:
        return int(process_stat(pid)[19])
    except (FileNotFoundError, ProcessLookupError):
        return None
