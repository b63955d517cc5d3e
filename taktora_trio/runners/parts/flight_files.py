"""Has the files of the flight recorder written: by a process of its own, at its leisure, and never too many."""

from __future__ import annotations

import json
import logging
import os
from typing import TYPE_CHECKING

import trio
from trio_util import wait_any

from taktora_trio.escaping import escaped
from taktora_trio.health import Down, Failure, HealthEvents
from taktora_trio.processes import interpreter
from taktora_trio.runners.deployment import Deployment
from taktora_trio.transport.domain import Domain

if TYPE_CHECKING:  # a plugin imports this module, and supervises nothing
    from subprocess import CompletedProcess

    from taktora_trio.supervision.supervisor import Exit

__all__ = ["FlightFiles"]

log = logging.getLogger(__name__)

_WRITER = "taktora_trio.recorder.flight_file"
_AFTER = 1.0  # seconds that are in the file, too, which come after what it is written for
_SELDOM = 60.0  # seconds from one file to the next
_PATIENCE = 30.0  # seconds for which a file may be written
_LENGTH = 500  # characters


class FlightFiles:
    """Has a file written for what is worth one."""

    def __init__(self, deployment: Deployment, domain: Domain) -> None:
        self._deployment, self._domain = deployment, domain
        self._why = ""
        self._asked, self._ends = trio.Event(), trio.Event()
        self._next = float("-inf")
        self._skipped = 0

    def plugin_failed(self, failure: Failure, exit_: Exit) -> None:
        """Have one written, since the plugin has failed. It is what a `Supervisor` calls."""
        if not _is_wanted(failure):
            self.write(f"plugin failed: {failure.description}")

    def write(self, why: str) -> None:
        """Have one written a moment from now, unless one was written in the last minute."""
        if self._asked.is_set() or self._deployment.flight_recorder == "off":
            return
        if trio.current_time() < self._next:
            self._skipped += 1
            return
        self._why = why
        self._asked.set()

    async def follow(self, events: HealthEvents) -> None:
        """Serve: have one written for each `Down` that no operator wanted. Returns when there are no more events."""
        async for event in events:
            if not isinstance(event.after, Down) or _is_wanted(event.after.failure):
                continue
            if not self._domain.is_at_rest("gateway"):  # which says that it is stopped before its supervisor does
                self.write(f"{event.component} Down: {event.after.reason}")

    async def serve(self) -> None:
        """Serve: write what was asked for. Returns after `stop`, with the last one written."""
        while True:
            await wait_any(self._asked.wait, self._ends.wait)
            if not self._asked.is_set():
                return
            with trio.move_on_after(_AFTER):
                await self._ends.wait()
            why, self._asked, self._next = self._why, trio.Event(), trio.current_time() + _SELDOM
            await self._write(why)

    def stop(self) -> None:
        self._ends.set()

    async def _write(self, why: str) -> None:
        skipped, self._skipped = self._skipped, 0
        try:
            done = await self._run(why, skipped)
        except OSError as exc:
            _not_written(why, str(exc))
            return
        if done is None:
            _not_written(why, f"it took longer than {_PATIENCE:g} s")
        elif done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            _not_written(why, said[-1].removeprefix("taktora-trio: ") if said else f"exit code {done.returncode}")
        else:
            path = escaped(done.stdout.decode(errors="replace").strip(), _LENGTH)
            shown = escaped(why, _LENGTH)
            log.warning("flight recording of %s: %s", shown, path, extra={"event": "flight-written", "path": path})

    async def _run(self, why: str, skipped: int) -> CompletedProcess[bytes] | None:
        about = {
            "domain": self._domain.name,
            "folder": os.fspath(self._deployment.folder(self._domain.name) / "flight"),
            "messages": self._deployment.flight_recorder == "messages",
            "why": why,
            "skipped": skipped,
        }
        with trio.move_on_after(_PATIENCE):
            return await trio.run_process(
                [*interpreter.program(_WRITER), json.dumps(about)],
                capture_stdout=True,
                capture_stderr=True,
                check=False,
                env={**os.environ, **interpreter.environment()},
                deliver_cancel=_kill,
            )
        return None


def _is_wanted(failure: Failure | None) -> bool:
    """True for an end that an operator has asked for."""
    return failure is not None and failure.kind == "stopped"


def _not_written(why: str, reason: str) -> None:
    shown, because = escaped(why, _LENGTH), escaped(reason, _LENGTH)
    log.warning("no flight recording of %s: %s", shown, because, extra={"event": "flight-not-written"})


async def _kill(process: trio.Process) -> None:
    process.kill()
