"""Backend: what each shape does for a test. The front (`app.py`) is written once, and asks for no more than this."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager
from importlib import import_module
from typing import Any, Literal, Protocol, TypeAlias

import trio

from taktora_trio.connectors.base import Connector
from taktora_trio.errors import ConfigError
from taktora_trio.health import ConnectorHealth
from taktora_trio.host.host import ConnectorHost
from taktora_trio.runners.configuration.from_program import ProgramSettings, as_typed
from taktora_trio.runners.configuration.reading import Sources, read_configuration
from taktora_trio.runners.deployment import Deployment
from taktora_trio.testing.journal import Journal

__all__ = ["Backend", "Broker", "Peer", "PeerBackend", "Run", "Shape", "backend_for"]

Shape: TypeAlias = Literal["memory", "in-process", "split"]

_BACKENDS: Mapping[str, str] = {
    "memory": "taktora_trio.testing.memory",
    "in-process": "taktora_trio.testing.in_process",
    "split": "taktora_trio.testing.split_run",
}
Broker: TypeAlias = str | Mapping[str, str] | None
"""Where a real broker is, for all connectors or by their names; `None` has one started for the test."""


class Run:
    """What a run of the app is asked for, and what it comes to, as its backend says and the test sees."""

    def __init__(
        self,
        journal: Journal,
        scope: trio.CancelScope,
        target: str | None = None,
        broker: Broker = None,
        settings: ProgramSettings | None = None,
    ) -> None:
        """`target` is the name by which the deployment was given, if it was given so."""
        self.journal = journal
        self.target, self.broker = target, broker
        self.settings: ProgramSettings = settings or {}
        self.failure: Exception | None = None
        """What the app raised, or what else has ended its run."""
        self.has_ended = False
        """True if the run is over, and all that the app has published is in the journal."""
        self._scope = scope

    def configured(self, deployment: Deployment, more: ProgramSettings | None = None) -> Deployment:
        """Return the deployment with the settings that were asked for, and with `more`. Raises `ConfigError`.

        What an operator has in the environment or in a file does not count.
        """
        sources = Sources(typed=(*as_typed(self.settings), *as_typed(more or {})), environment=False)
        return read_configuration(deployment, sources, "in-process").configured

    def ended(self, failure: Exception | None = None) -> None:
        """Say that the run is over. A failure ends the test, which raises it."""
        self.has_ended = True
        if failure is not None:
            self.failure = failure
            self._scope.cancel()
        self.journal.wake()


class Backend(ABC):
    """A running app and what is outside it. `connectors` are names of them.

    A backend runs the app in tasks or processes of its own, and calls `Run.journal.add` with all that it publishes, and
    `Run.ended` at its end. When its block ends, the app is stopped as by a signal, and nothing of it is left.
    """

    @property
    @abstractmethod
    def connectors(self) -> Mapping[str, Connector]:
        """The connectors as they run, by name."""

    @property
    @abstractmethod
    def host(self) -> ConnectorHost:
        """The host, where the test is the app. Raises `ConfigError` where the app is another."""

    @abstractmethod
    def states(self) -> Mapping[str, ConnectorHealth]:
        """Return the health of each connector, as the app sees it."""

    @abstractmethod
    async def wait_for_health(self, connector: str, kinds: tuple[type[ConnectorHealth], ...]) -> ConnectorHealth:
        """Wait until the connector's health is of one of these kinds, and return it."""

    @abstractmethod
    async def publish(self, connector: str, topic: str, payload: bytes, /, **how: Any) -> None:
        """Publish a message at the connector's broker, as somebody else would. `how` is as `MemoryPeer.publish` has it:
        the metadata, the correlation id, whether it is retained, and what is the protocol's own."""

    @abstractmethod
    def cut(self, connectors: Collection[str]) -> None:
        """End their connections. New ones work."""

    @abstractmethod
    def unreachable(self, connectors: Collection[str]) -> AbstractAsyncContextManager[None]:
        """End their connections, and let no new one come about in the block."""

    @abstractmethod
    def refused(self, connectors: Collection[str]) -> AbstractAsyncContextManager[None]:
        """End their connections, and refuse each login in the block."""

    @abstractmethod
    def slow(self, connectors: Collection[str], seconds: float) -> AbstractAsyncContextManager[None]:
        """In the block, let so many seconds go by before each acknowledgement; infinity for none at all."""

    @abstractmethod
    def kill_gateway(self) -> None:
        """End the gateway as by a crash: the task by an exception, the process by SIGKILL."""

    @abstractmethod
    async def revive(self) -> None:
        """Have the gateway start or connect at once, as `taktora-trio revive` does."""


class Peer(Protocol):
    """The other side of one connector, as `MemoryPeer` and `LivePeer` have it."""

    def cut(self) -> None: ...

    def set(
        self, *, unreachable: bool | None = None, refusing: bool | None = None, delay: float | None = None
    ) -> None: ...


class PeerBackend(Backend):
    """Has a peer for each connector, and has these fail."""

    def __init__(self, peers: Mapping[str, Peer]) -> None:
        self._all = peers

    def cut(self, connectors: Collection[str]) -> None:
        for name in connectors:
            self._all[name].cut()

    def slow(self, connectors: Collection[str], seconds: float) -> AbstractAsyncContextManager[None]:
        return self._with(connectors, {"delay": seconds}, {"delay": 0})

    def unreachable(self, connectors: Collection[str]) -> AbstractAsyncContextManager[None]:
        return self._with(connectors, {"unreachable": True}, {"unreachable": False}, cuts=True)

    def refused(self, connectors: Collection[str]) -> AbstractAsyncContextManager[None]:
        return self._with(connectors, {"refusing": True}, {"refusing": False}, cuts=True)

    @contextlib.asynccontextmanager
    async def _with(
        self, connectors: Collection[str], inside: Mapping[str, Any], after: Mapping[str, Any], *, cuts: bool = False
    ) -> AsyncIterator[None]:
        """Have the peers behave in one way in the block, and in another one after it, as `MemoryPeer.set` has them."""
        for name in connectors:
            self._all[name].set(**inside)
        if cuts:
            self.cut(connectors)
        try:
            yield
        finally:
            for name in connectors:
                self._all[name].set(**after)


def backend_for(shape: str) -> Callable[[Deployment, Run], AbstractAsyncContextManager[Backend]]:
    """Return what opens the backend of a shape. Raises `ConfigError` where there is no such shape."""
    if shape not in _BACKENDS:
        raise ConfigError(f"there is no shape {shape!r}: use one of {', '.join(_BACKENDS)}")
    opened: Callable[[Deployment, Run], AbstractAsyncContextManager[Backend]] = import_module(
        _BACKENDS[shape]
    ).open_backend
    return opened
