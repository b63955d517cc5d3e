"""Running the `taktora-trio` command as a user does: a process of its own, its log read as it comes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import psutil
import trio
from trio_util import RepeatedEvent

from taktora_trio.processes.lines import read_lines
from taktora_trio.transport.domain import Domain
from tests.mosquitto import Mosquitto
from tests.patience import PATIENCE

T = TypeVar("T")
ROOT = Path(__file__).parent.parent
MODES = ("in-process", "split")


class Command:
    """A running command. `log` has its log entries so far, `output` the lines of its standard output."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self.log: list[dict[str, Any]] = []
        self.stderr: list[str] = []
        self.output: list[str] = []
        self.orphans: list[psutil.Process] = []
        """The processes that it had started when it was killed; they are to end by themselves."""
        self._news = RepeatedEvent()

    @property
    def pid(self) -> int:
        return self.process.pid

    def half(self, name: str) -> int:
        """Return the process id of the supervised half that was started last."""
        return int(self.events("process-started", half=name)[-1]["child"])

    def events(self, code: str, *parts: str, pid: int | None = None, **fields: object) -> list[dict[str, Any]]:
        """Return the log lines so far that have this event code, these fields, and all of `parts` in their text."""
        return [
            entry
            for entry in self.log
            if entry.get("event") == code
            and pid in (None, entry.get("pid"))
            and all(entry.get(name) == value for name, value in fields.items())
            and all(part in entry["message"] for part in parts)
        ]

    def signal(self, signum: signal.Signals, pid: int | None = None) -> None:
        if signum == signal.SIGKILL and pid in (None, self.pid):
            self.orphans = self.tree()[1:]
        os.kill(pid or self.pid, signum)

    def tree(self) -> list[psutil.Process]:
        """Return this process and all below it."""
        root = psutil.Process(self.pid)
        return [root, *root.children(recursive=True)]

    async def until_event(
        self,
        code: str,
        *parts: str,
        count: int = 1,
        seconds: float = PATIENCE,
        pid: int | None = None,
        **fields: object,
    ) -> dict[str, Any]:
        """Wait for the `count`-th of the log lines that `events` returns, of this process if one is given; return it.

        `parts` are for what only the text says: a cause, a place. The codes are in docs/events.md.
        """

        def found() -> dict[str, Any] | None:
            matching = self.events(code, *parts, pid=pid, **fields)
            return matching[count - 1] if len(matching) >= count else None

        return await self.until(found, f"event {code} with {parts} {fields}", seconds)

    async def until_logged(self, *parts: str, seconds: float = PATIENCE) -> dict[str, Any]:
        """Wait for a log line that contains all of `parts`: one of an app's own, or of another library; return it."""

        def found() -> dict[str, Any] | None:
            return next((entry for entry in self.log if all(part in entry["message"] for part in parts)), None)

        return await self.until(found, f"log line with {parts}", seconds)

    async def until_printed(self, part: str, seconds: float = PATIENCE) -> str:
        return await self.until(lambda: next((line for line in self.output if part in line), None), part, seconds)

    async def wait(self, seconds: float = PATIENCE) -> int:
        """Wait for its end; return the exit code."""
        with trio.fail_after(seconds):
            return await self.process.wait()

    async def until(self, look: Callable[[], T | None], what: str, seconds: float) -> T:
        """Wait until `look()` returns something, and return that. It is called after every line."""
        with trio.move_on_after(seconds):
            while (found := look()) is None:
                await self._news.wait()
            return found
        raise AssertionError(f"no {what} within {seconds} s; it said:\n" + "\n".join(self.stderr + self.output))

    async def read_stderr(self) -> None:
        assert self.process.stderr is not None
        async for data in read_lines(self.process.stderr):
            line = data.decode(errors="replace")
            self.stderr.append(line)
            with contextlib.suppress(json.JSONDecodeError):
                self.log.append(json.loads(line))
            self._news.set()

    async def read_stdout(self) -> None:
        assert self.process.stdout is not None
        async for data in read_lines(self.process.stdout):
            self.output.append(data.decode(errors="replace"))
            self._news.set()


@contextlib.asynccontextmanager
async def open_command(
    *arguments: str,
    program: Sequence[str] = ("-m", "taktora_trio"),
    within: Sequence[str] = (),
    json_log: bool = True,
    env: dict[str, str] | None = None,
    cwd: Path = ROOT,
) -> AsyncIterator[Command]:
    """Start `taktora-trio ARGUMENTS` in this folder, by default the project's; `within` is what it is started by.

    At the end of the block it is killed if it still runs, and the test fails if it leaves a process behind.
    """
    log = ["--log", "json"] if json_log else []
    process = await trio.lowlevel.open_process(
        [*within, sys.executable, *program, *arguments, *log],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=cwd,
        env={**os.environ, **(env or {})},
    )
    command = Command(process)
    tree: list[psutil.Process] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(command.read_stderr)
        nursery.start_soon(command.read_stdout)
        try:
            yield command
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 15):
                with contextlib.suppress(psutil.NoSuchProcess):
                    tree = command.tree()
                if process.returncode is None:
                    process.kill()
                await process.wait()
                # The processes that it had started end by themselves, since their supervisor is gone.
                _, alive = await trio.to_thread.run_sync(
                    lambda: psutil.wait_procs([*tree[1:], *command.orphans], timeout=8)
                )
                for orphan in alive:
                    orphan.kill()
            assert alive == [], "left behind: processes"


def open_run(
    target: str, mode: str, broker: Mosquitto, domain: Domain, *more: str, env: dict[str, str] | None = None
) -> contextlib.AbstractAsyncContextManager[Command]:
    """Start `taktora-trio run` with what every test of it has to say."""
    return open_command("run", target, "--mode", mode, "--broker", broker.url, "--domain", domain.name, *more, env=env)


async def run_command(
    *arguments: str, seconds: float = PATIENCE, env: dict[str, str] | None = None
) -> tuple[int, str, str]:
    """Run it to its end: exit code, standard output, standard error."""
    async with open_command(*arguments, json_log=False, env=env) as command:
        code = await command.wait(seconds)
    return code, "\n".join(command.output), "\n".join(command.stderr)
