"""A terminal as a screen: drawn as a whole, its keys read, its size followed, and put back as it was at any end."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import termios
import tty
from collections.abc import AsyncGenerator, Iterator, Sequence

import trio

__all__ = ["Terminal", "keys_of", "open_terminal", "read_keys"]

_ENTER = b"\x1b[?1049h\x1b[?25l"  # the other screen, without a cursor
_LEAVE = b"\x1b[0m\x1b[?25h\x1b[?1049l"
_TOP, _LINE, _BELOW = b"\x1b[H", b"\x1b[0m\x1b[K", b"\x1b[J"
_SEQUENCES = {
    b"\x1b[A": "up",
    b"\x1bOA": "up",
    b"\x1b[B": "down",
    b"\x1bOB": "down",
    b"\x1b[5~": "page up",
    b"\x1b[6~": "page down",
    b"\x1b[H": "home",
    b"\x1b[1~": "home",
    b"\x1bOH": "home",
    b"\x1b[F": "end",
    b"\x1b[4~": "end",
    b"\x1bOF": "end",
}
_LETTERS = {"q": "quit", "Q": "quit", "k": "up", "j": "down", " ": "page down", "g": "home", "G": "end"}


class Terminal:
    """Standard output as a screen, and standard input as a keyboard, where that is a terminal too."""

    def __init__(self, input_fd: int, output_fd: int) -> None:
        self.input_fd, self._output = input_fd, output_fd
        self.has_keys = os.isatty(input_fd)
        self._before: list[object] | None = None
        self._is_open = False

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines."""
        try:
            columns, lines = os.get_terminal_size(self._output)
        except OSError:
            return 80, 24
        return columns or 80, lines or 24  # a terminal may not know its size

    def enter(self) -> None:
        """Take the screen. Keys come one by one then, and are not echoed."""
        self._is_open = True
        if self.has_keys:
            self._before = termios.tcgetattr(self.input_fd)
            tty.setcbreak(self.input_fd, termios.TCSANOW)
        _write(self._output, _ENTER)

    def leave(self) -> None:
        """Put everything back as it was; nothing where that was done."""
        if not self._is_open:
            return
        self._is_open = False
        with contextlib.suppress(OSError):  # it is gone
            _write(self._output, _LEAVE)
        if self._before is not None:
            with contextlib.suppress(termios.error):
                termios.tcsetattr(self.input_fd, termios.TCSANOW, self._before)  # type: ignore[arg-type]

    def draw(self, lines: Sequence[bytes]) -> None:
        """Show these lines, and nothing else. They are no wider than the screen, and no more than it has."""
        _write(self._output, _TOP + b"\r\n".join(line + _LINE for line in lines) + _BELOW)

    def pause(self) -> None:
        """Stop this process, as Ctrl-Z asks, with the terminal as it was; go on when somebody lets it."""
        self.leave()
        os.kill(os.getpid(), signal.SIGSTOP)
        self.enter()


@contextlib.contextmanager
def open_terminal(input_fd: int = 0, output_fd: int = 1) -> Iterator[Terminal]:
    """Take the terminal for the block."""
    sys.stdout.flush()
    terminal = Terminal(input_fd, output_fd)
    try:
        terminal.enter()
        yield terminal
    finally:
        terminal.leave()


async def read_keys(fd: int) -> AsyncGenerator[str, None]:
    """Yield the names of keys as they are pressed, until the terminal ends."""
    while True:
        await trio.lowlevel.wait_readable(fd)
        try:
            pressed = os.read(fd, 256)
        except OSError:
            return
        if not pressed:
            return
        for name in keys_of(pressed):
            yield name


def keys_of(pressed: bytes) -> Iterator[str]:
    """Yield the names of the keys that these bytes stand for; others are left out."""
    while pressed:
        sequence = next((one for one in _SEQUENCES if pressed.startswith(one)), None)
        if sequence is not None:
            yield _SEQUENCES[sequence]
            pressed = pressed[len(sequence) :]
            continue
        if (name := _LETTERS.get(chr(pressed[0]))) is not None:
            yield name
        pressed = pressed[1:] if not pressed.startswith(b"\x1b") else b""  # of an unknown key


def _write(fd: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]
