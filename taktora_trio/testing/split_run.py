"""The split shape under test: the real command with its processes, and the test outside.

The test has the broker, what the run logs, and signals. It never has the app's objects, which are in another process.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import msgspec
import trio

from taktora_trio.connectors.base import Connector
from taktora_trio.errors import ConfigError, ConnectorError
from taktora_trio.health import Connecting, ConnectorHealth, Degraded, Down, Up
from taktora_trio.host.host import ConnectorHost
from taktora_trio.processes import interpreter
from taktora_trio.processes.lines import read_lines
from taktora_trio.runners.child_log import log_line
from taktora_trio.runners.configuration.from_program import as_typed
from taktora_trio.runners.deployment import Deployment
from taktora_trio.runners.finding import name_of
from taktora_trio.runners.hosting import open_deployment
from taktora_trio.runners.parts.revival import ask_to_revive
from taktora_trio.testing.backend import Backend, Run
from taktora_trio.testing.reality import RealBackend, Reality, open_reality
from taktora_trio.testing.tasks import no_host

__all__ = ["AppFailed", "open_backend"]

_START, _STOP = 30.0, 15.0  # seconds
_LIFETIME = 3600  # seconds
_KEPT_OF_OURS = ("TAKTORA_STRICT",)
_KEPT = 20  # lines that an error shows
_STATES: dict[str, Callable[[str], ConnectorHealth]] = {
    "Connecting": lambda reason: Connecting(),
    "Degraded": Degraded,
    "Down": Down,
    "Up": lambda reason: Up(),
}


class AppFailed(Exception):
    """The app's process has ended by an error. The text has its traceback, as it was logged."""


@contextlib.asynccontextmanager
async def open_backend(deployment: Deployment, run: Run) -> AsyncIterator[Backend]:
    """Run the deployment in processes of its own, at a real broker. See `Backend`.

    Where the deployment has no app, the test's process is the plugin, and the gateway alone has another one.
    """
    target = run.target if run.target is not None else name_of(deployment)
    async with open_reality(deployment, run) as reality:
        opened = _open_hosted if deployment.app is None else _open_command
        async with opened(target, deployment, run, reality) as backend:
            yield backend


@contextlib.asynccontextmanager
async def _open_hosted(target: str, deployment: Deployment, run: Run, reality: Reality) -> AsyncIterator[_SplitBackend]:
    async with open_deployment(
        target,
        mode="split",
        domain=reality.domain.name,
        settings={**run.settings, **reality.settings},
        store=reality.store,
    ) as host:
        yield _HostedBackend(deployment, reality, host)
    await reality.settle()
    run.ended()


@contextlib.asynccontextmanager
async def _open_command(
    target: str, deployment: Deployment, run: Run, reality: Reality
) -> AsyncIterator[_SplitBackend]:
    config = reality.folder / "none.toml"
    config.touch()  # else the one of the present folder would be read
    options = [f"--config={config}", f"--domain={reality.domain.name}", "--log=json"]
    options.append(f"--for={_LIFETIME}")  # should the test be killed, who can't end it then
    options.append("--plugin-policy=restart=never")  # a failure of the app is one of the test
    if reality.store is not None:
        options.append(f"--store={reality.store}")
    for name, text in as_typed({**run.settings, **reality.settings}):
        options.append(f"--{name}={text}")
    command = [*interpreter.program("taktora_trio"), "run", target, "--mode=split", "--await-peer", *options]
    process = await trio.lowlevel.open_process(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_environment(),
        process_group=0,  # the terminal's Ctrl-C is for the test, which then ends it
    )
    backend = _CommandBackend(deployment, reality, run, process)
    async with trio.open_nursery() as nursery:
        try:
            nursery.start_soon(backend.serve)
            await backend.wait_until_started()
            yield backend
        finally:
            await backend.stop()


class _SplitBackend(RealBackend):
    """A run with processes of its own."""

    def __init__(self, deployment: Deployment, reality: Reality) -> None:
        super().__init__(reality.peers)
        self._deployment = deployment
        self._reality = reality
        self._connectors = {connector.name: connector for connector in deployment.connectors}

    @property
    def connectors(self) -> Mapping[str, Connector]:
        return self._connectors

    def kill_gateway(self) -> None:
        pid = self._reality.domain.holder("gateway")
        if pid:  # else it has ended already
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


class _HostedBackend(_SplitBackend):
    """The test is the app."""

    def __init__(self, deployment: Deployment, reality: Reality, host: ConnectorHost) -> None:
        super().__init__(deployment, reality)
        self._host = host

    @property
    def host(self) -> ConnectorHost:
        return self._host

    def states(self) -> Mapping[str, ConnectorHealth]:
        return self._host.states()

    async def wait_for_health(self, connector: str, kinds: tuple[type[ConnectorHealth], ...]) -> ConnectorHealth:
        return await self._host.wait_for_health(*kinds, connector=connector)

    async def revive(self) -> None:
        await trio.lowlevel.checkpoint()
        self._host.revive_gateway()


class _CommandBackend(_SplitBackend):
    """The app has a process of its own, and the health is what that logs."""

    def __init__(self, deployment: Deployment, reality: Reality, run: Run, process: trio.Process) -> None:
        super().__init__(deployment, reality)
        self._run, self._process = run, process
        self._states: dict[str, ConnectorHealth] = {name: Connecting() for name in self._connectors}
        self._changed = trio.Event()
        self._lines = deque[str](maxlen=_KEPT)
        self._exception = ""  # the app's
        self._is_stopped = False

    # The run

    async def serve(self) -> None:
        """Read what the run says, until it has ended."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._print)
            nursery.start_soon(self._read_log)
        code = await self._process.wait()
        with contextlib.suppress(ConnectorError):
            await self._reality.settle()
        self._run.ended(None if code == 0 or self._is_stopped else self._failure(code))
        self._tell()

    async def wait_until_started(self) -> None:
        """Wait until both halves are there. Raises what the run has failed by."""
        with trio.move_on_after(_START):
            while self._reality.domain.holder("plugin") is None and not self._run.has_ended:
                await self._changed.wait()
            return
        raise AppFailed(f"the run was not there within {_START:g} s; it said last:\n" + "\n".join(self._lines))

    async def stop(self) -> None:
        """Have it end as by an operator; what does not is killed."""
        self._is_stopped = True
        with trio.CancelScope(shield=True, deadline=trio.current_time() + _STOP) as patience:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
            await self._process.wait()
        if patience.cancelled_caught:
            self._process.kill()  # its halves notice, and end

    async def _print(self) -> None:
        assert self._process.stdout is not None
        async for line in read_lines(self._process.stdout):
            sys.stdout.write(_text(line) + "\n")

    async def _read_log(self) -> None:
        assert self._process.stderr is not None
        async for line in read_lines(self._process.stderr):
            log_line("stderr", line)
            entry = _entry(line)
            self._lines.append(str(entry.get("message", _text(line))))
            if entry.get("process") == "plugin" and "exception" in entry:
                self._exception = str(entry["exception"])
            if "health" in entry:
                component, state, reason = entry["health"]
                self._states[component] = _STATES[state](reason)
            self._tell()
            for _ in range(2):  # so that who waits for a state sees it, though the next line is there
                await trio.lowlevel.checkpoint()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def _failure(self, code: int) -> Exception:
        if code in (2, os.EX_TEMPFAIL):  # a usage error, or what may pass
            said = self._lines[-1] if self._lines else f"the run ended with exit code {code}"
            return ConfigError(said.removeprefix("taktora-trio: "))
        if self._exception:
            return AppFailed(f"the app has failed in its process:\n{self._exception}")
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return AppFailed(f"the run has ended with {how}; it said last:\n" + "\n".join(self._lines))

    # What the test asks for

    @property
    def host(self) -> ConnectorHost:
        raise no_host(self._deployment)

    def states(self) -> Mapping[str, ConnectorHealth]:
        return dict(self._states)

    async def wait_for_health(self, connector: str, kinds: tuple[type[ConnectorHealth], ...]) -> ConnectorHealth:
        await trio.lowlevel.checkpoint()
        while not isinstance(state := self._states[connector], kinds):
            await self._changed.wait()
        return state

    async def revive(self) -> None:
        await trio.to_thread.run_sync(ask_to_revive, self._reality.domain)


def _environment() -> dict[str, str]:
    """Return the environment of the run, without the settings of an operator."""
    own = {
        name: value for name, value in os.environ.items() if not name.startswith("TAKTORA_") or name in _KEPT_OF_OURS
    }
    return {**own, **interpreter.environment()}


def _entry(line: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(line, type=dict[str, Any])
    except msgspec.DecodeError:
        return {}


def _text(line: bytes) -> str:
    return line.decode(errors="replace")
