"""Runs the blocks of a page one after the other, in a folder of its own, as a reader would."""

from __future__ import annotations

import ast
import contextlib
import inspect
import json
import math
import os
import re
import signal
import subprocess
import sys
import tomllib
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import trio
import trio.testing
import yaml
from trio_util import RepeatedEvent

import taktora_trio
from taktora_trio import executor
from taktora_trio.processes.lines import read_lines
from taktora_trio.runners.configuration.reading import DEFAULT_FILE, Sources, read_configuration
from taktora_trio.transport.domain import Domain
from tests.command import ROOT
from tests.docs.blocks import Block, Own, Step, Stop
from tests.docs.checking import SETTING_UP, check_setting_up, check_unit, commands_in, is_quoted, parse_all
from tests.mosquitto import free_port
from tests.patience import PATIENCE

__all__ = ["OpenPage", "fits", "open_page"]

# What is another one in each run.
VARIES = [
    (r"\d\d:\d\d:\d\d\.\d{3}", "TIME"),
    (r"\bpid \d+", "pid PID"),
    (r"\b\d+\.\d+ ?s\b", "SECONDS"),
    (r"(?<=127\.0\.0\.1:)\d+", "PORT"),
]

INSTALLING = 600.0
"""Seconds until an installation over the network fails."""


class Shell:
    """A block of commands that runs. `lines` are those that it has written since the last one was started."""

    def __init__(self, process: trio.Process, news: RepeatedEvent) -> None:
        self.process = process
        self.lines: list[str] = []
        self._news = news

    async def read(self) -> None:
        assert self.process.stdout is not None
        async for line in read_lines(self.process.stdout):
            self.lines.append(line.decode(errors="replace"))
            self._news.set()

    async def wait(self, seconds: float = PATIENCE) -> None:
        """Wait for its end, which has to be a good one."""
        with trio.fail_after(seconds):
            code = await self.process.wait()
        assert code == 0, "\n".join([f"exit code {code}", *self.lines])


def fits(shown: str, written: list[str]) -> bool:
    """Return whether all lines of a page were written; others may have been, too.

    They may have come in another order: the lines of several tasks and processes do, on a busy machine.
    """
    lines = [alike(line) for line in written]
    return all(any(map(pattern.fullmatch, lines)) for pattern in map(pattern_of, shown.splitlines()))


def pattern_of(shown: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in alike(shown.rstrip()).split("...")))


def alike(line: str) -> str:
    for pattern, name in VARIES:
        line = re.sub(pattern, name, line)
    return line.rstrip()


class OpenPage:
    """A page whose steps are run. `namespace` has the names that its Python blocks have made so far."""

    def __init__(self, folder: Path, nursery: trio.Nursery, sets_up: bool) -> None:
        self.folder = folder
        self.sets_up = sets_up
        self.domains: list[Domain] = []
        self.namespace: dict[str, Any] = {"__name__": "page", "trio": trio}
        for of in (executor, taktora_trio):
            self.namespace |= {name: getattr(of, name) for name in of.__all__}
        self._own: dict[str, str] = {}
        self._nursery = nursery
        self._running: list[Shell] = []
        self._last: Shell | None = None
        self._news = RepeatedEvent()
        self._kinds: dict[str, Callable[[Block], object]] = {
            "toml": self._read_toml,
            "yaml": lambda block: yaml.safe_load(block.code),
            "json": lambda block: json.loads(block.code),
            "ini": lambda block: check_unit(block.code),
            "text": lambda block: None,
            "{toctree}": lambda block: None,
        }

    async def take(self, step: Step) -> None:
        """Run one step. What is wrong with it names the line of the page."""
        if isinstance(step, Stop):
            if step.when:
                await self._until_written(step.when)
            await self.stop()
        elif isinstance(step, Own):
            self._make_own(step)
        else:
            try:
                await self._take_block(step)
            except BaseException as exc:
                exc.add_note(f"in the block of line {step.line}")
                raise

    async def stop(self) -> None:
        """Stop all that runs, as by Ctrl-C."""
        running, self._running = self._running, []
        for shell in running:
            if shell.process.returncode is None:
                os.killpg(shell.process.pid, signal.SIGINT)
        for shell in running:
            await shell.wait()

    def _make_own(self, own: Own) -> None:
        if own.kind == "port":
            self._own[own.name] = str(free_port())
        else:
            self._own[own.name] = f"{own.name}-{uuid.uuid4().hex[:8]}"
            self.domains.append(Domain(self._own[own.name]))

    def owned(self, code: str) -> str:
        """Put this run's own names in place of those of the page."""
        for name, own in self._own.items():
            # A deployment's name stands in quotation marks, or is an option's value. A module may have the same name.
            where = rf"\b{name}\b" if name.isdigit() else rf"(?<=\")\b{name}\b(?=\")|(?<=--domain ){name}\b"
            code = re.sub(where, own, code)
        return code

    async def _take_block(self, block: Block) -> None:
        if block.is_output:
            await self._until_written(self.owned(block.code))
            return
        if block.file is not None:
            self._save(block)
        if block.why_not is not None:
            if block.kind == "sh":
                parse_all(block)
        elif block.kind == "python" and is_quoted(block.code):
            pass  # other tests run the file that it is from
        elif block.kind == "sh":
            await self._run_shell(block)
        elif block.kind == "python":
            await self._run_python(block)
        else:
            assert block.kind in self._kinds, f"a block of the kind {block.kind!r} can't be run: say why above it"
            self._kinds[block.kind](block)

    def _save(self, block: Block) -> None:
        path = self.folder / (block.file or "")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.owned(block.whole))

    def _read_toml(self, block: Block) -> None:
        """Have the page's deployment configured by it, if it is a file of settings."""
        tomllib.loads(block.code)
        if block.file is not None and Path(block.file).name == DEFAULT_FILE:
            sources = Sources(config=str(self.folder / block.file), environment=False)
            read_configuration(self.namespace["deployment"], sources, "in-process")

    # Commands

    @property
    def _programs(self) -> Path:
        return self.folder / ".venv" / "bin" if self.sets_up else Path(sys.executable).parent

    async def _run_shell(self, block: Block) -> None:
        commands = commands_in(block.code)
        if self.sets_up:
            commands = [c.replace("'taktora-trio[", f"'{ROOT}[") for c in commands if not c.startswith("sudo ")]
        else:
            for command in filter(SETTING_UP.match, commands):
                check_setting_up(command)
            commands = [command for command in commands if not SETTING_UP.match(command)]
        if not commands:
            return
        for before in self._running:
            before.lines.clear()
        process = await trio.lowlevel.open_process(
            ["bash", "-euo", "pipefail", "-c", self.owned("\n".join(commands))],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.folder,
            env=os.environ | {"PATH": f"{self._programs}:{os.environ['PATH']}:/usr/sbin"},
            start_new_session=True,
        )
        shell = self._last = Shell(process, self._news)
        self._nursery.start_soon(shell.read)
        self._running.append(shell)
        if not block.keeps_running:
            self._running.remove(shell)
            await shell.wait(INSTALLING if self.sets_up else PATIENCE)

    async def _until_written(self, shown: str) -> None:
        """Wait until the last command has written this, or one that still runs has since."""
        shells = {shell for shell in (self._last, *self._running) if shell is not None}
        with trio.move_on_after(PATIENCE):
            while not any(fits(shown, shell.lines) for shell in shells):
                await self._news.wait()
            return
        raise AssertionError(
            "\n".join(["shown:", shown, *(line for one in shells for line in ("written:", *one.lines))])
        )

    # Python

    async def _run_python(self, block: Block) -> None:
        if block.file is not None and block.why_not is None:
            if not Path(block.file).name.startswith("test_"):  # `pytest` is to take those
                self._import(block.file)
            return
        code = compile(self.owned(block.whole), f"line {block.line}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)

        async def run() -> None:
            made = eval(code, self.namespace)  # the page's own code
            if inspect.iscoroutine(made):
                with trio.fail_after(math.inf if block.virtual else PATIENCE):
                    await made

        if block.virtual:
            clock = trio.testing.MockClock(autojump_threshold=0)
            await trio.to_thread.run_sync(lambda: trio.run(run, clock=clock))
        else:
            await run()

    def _import(self, file: str) -> None:
        """Import a file of the page, and have its names for the blocks behind it."""
        name = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        module = ModuleType(name)
        sys.modules[name] = module
        path = self.folder / file
        module.__file__ = str(path)
        exec(compile(path.read_text(), str(path), "exec"), module.__dict__)
        self.namespace |= {key: value for key, value in vars(module).items() if not key.startswith("__")}


@contextlib.asynccontextmanager
async def open_page(folder: Path, *, sets_up: bool = False) -> AsyncIterator[OpenPage]:
    """Open a page for its steps. Fails if what they have started has left a file in shared memory.

    `sets_up` runs the commands, too, that make an environment and install this package in it.
    """
    known = set(sys.modules)
    sys.path.insert(0, str(folder))
    os.chdir(folder)
    page = None
    try:
        async with trio.open_nursery() as nursery:
            page = OpenPage(folder, nursery, sets_up)
            try:
                yield page
            finally:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + PATIENCE):
                    await page.stop()
    finally:
        os.chdir(ROOT)
        sys.path.remove(str(folder))
        for name in set(sys.modules) - known:
            if str(folder) in str(getattr(sys.modules[name], "__file__", "")):
                del sys.modules[name]
    for domain in page.domains:
        assert domain.files() == [], "left behind in shared memory"
        domain.remove_if_alone()
        domain.forget()
