"""The loop of `top`: a screen that is drawn anew once a second, or plain frames where there is no terminal."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import time

import trio
from rich.console import Console

from taktora_trio import vitals
from taktora_trio.errors import NoSuchDomain
from taktora_trio.operate.monitoring.dashboard import Board, Frame, frame_of
from taktora_trio.operate.monitoring.formatting import plain
from taktora_trio.operate.monitoring.terminal import Terminal, open_terminal, read_keys
from taktora_trio.operate.monitoring.tracking import Tracker
from taktora_trio.runners.this_process.outcome import show
from taktora_trio.runners.this_process.until_stopped import until_stopped
from taktora_trio.transport.domain import Domain
from taktora_trio.vitals import DomainVitals

__all__ = ["Screen", "is_screen", "run_top"]

_ENDED = "this run has ended: this is what was known last. It goes on when there is another one; q quits."
_PIPE_WIDTH = 80


def is_screen() -> bool:
    """True if standard output is a terminal that can be drawn on."""
    return os.isatty(1) and os.environ.get("TERM", "dumb") not in ("", "dumb")


def run_top(domain: Domain, every: float, frames: int | None) -> int:
    """Show a run until `q`, a signal, or so many frames. Raises `NoSuchDomain` where there is none at the start.

    Without a terminal, raises it at the end of the run, too.
    """
    first = vitals.read(domain)
    if not is_screen() or frames is not None:
        return trio.run(until_stopped, _Frames(domain, every, frames, first).show)
    with open_terminal() as terminal:
        return trio.run(until_stopped, Screen(domain, every, first, terminal).run, None, None, terminal.leave)


class _Frames:
    """One frame after the other, as lines: for a pipe, a file, or a terminal that can't be drawn on."""

    def __init__(self, domain: Domain, every: float, count: int | None, first: DomainVitals) -> None:
        self._domain, self._every, self._count = domain, every, count
        self._reading = first
        self._tracker = Tracker()

    async def show(self, stop: trio.Event) -> int:
        width = int(os.environ.get("COLUMNS") or 0) or _PIPE_WIDTH
        shown = 0
        while True:
            self._tracker.add(self._reading)
            board = Board(reading=self._reading, tracker=self._tracker, now=time.time())
            lines = [line.plain.rstrip() for line in frame_of(board, width, None).lines]
            show("\n".join(map(_encodable, [*([""] if shown else []), *lines])))
            shown += 1
            if shown == self._count:
                return 0
            with trio.move_on_after(self._every):
                await stop.wait()
                return 0
            self._reading = vitals.read(self._domain)


class Screen:
    """The terminal, drawn anew at each reading, each key and each change of its size."""

    def __init__(self, domain: Domain, every: float, first: DomainVitals, terminal: Terminal) -> None:
        self._domain, self._every, self._terminal = domain, every, terminal
        self._reading = first
        self._note = ""
        self._first = 0
        self._last_first = 0
        self._tracker = Tracker()

    async def run(self, stop: trio.Event) -> int:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch)
            nursery.start_soon(self._follow_signals)
            if self._terminal.has_keys:
                nursery.start_soon(self._obey, stop)
            await stop.wait()
            nursery.cancel_scope.cancel()
        return 0

    async def _watch(self) -> None:
        self._tracker.add(self._reading)
        self._draw()
        while True:
            await trio.sleep(self._every)
            try:
                self._reading = vitals.read(self._domain)
            except NoSuchDomain:
                self._note = _ENDED
            else:
                self._note = ""
                self._tracker.add(self._reading)
            self._draw()

    async def _obey(self, stop: trio.Event) -> None:
        async with contextlib.aclosing(read_keys(self._terminal.input_fd)) as keys:
            async for name in keys:
                page = max(1, self._terminal.size[1] // 2)
                step = {"up": -1, "down": 1, "page up": -page, "page down": page, "home": -(10**6), "end": 10**6}
                if name == "quit":
                    break
                self._first = max(0, min(self._last_first, self._first + step.get(name, 0)))
                self._draw()
        stop.set()  # also where the terminal has ended

    async def _follow_signals(self) -> None:
        with trio.open_signal_receiver(signal.SIGWINCH, signal.SIGTSTP, signal.SIGCONT) as signals:
            async for signum in signals:
                if signum == signal.SIGTSTP:
                    self._terminal.pause()
                self._draw()

    def _draw(self) -> None:
        width, height = self._terminal.size
        board = Board(reading=self._reading, tracker=self._tracker, now=time.time(), first=self._first, note=self._note)
        frame = frame_of(board, width, height)
        self._last_first = frame.last_first
        self._terminal.draw(_drawn(frame, width))


def _drawn(frame: Frame, width: int) -> list[bytes]:
    """Return the lines as a terminal takes them, with colours unless NO_COLOR says otherwise."""
    console = Console(file=io.StringIO(), force_terminal=True, width=width, legacy_windows=False, highlight=False)
    lines = []
    for line in frame.lines:
        with console.capture() as captured:
            console.print(line, end="", no_wrap=True, overflow="crop", crop=True)
        lines.append(_encodable(captured.get()).encode(_encoding(), "backslashreplace"))
    return lines


def _encoding() -> str:
    return getattr(sys.stdout, "encoding", None) or "utf-8"


def _encodable(text: str) -> str:
    """Return the text as it is if the terminal's encoding has bars and arrows, or else in ASCII."""
    try:
        text.encode(_encoding())
    except UnicodeEncodeError:
        return plain(text)
    return text
