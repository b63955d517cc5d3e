"""A terminal is put back as it was, whatever ends `top`."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator

import attrs
import pytest
import trio

from taktora_trio import Domain, vitals
from taktora_trio.operate.monitoring.terminal import keys_of, open_terminal
from taktora_trio.operate.monitoring.top import Screen
from taktora_trio.processes.procfs import process_stat
from tests.command import ROOT
from tests.patience import PATIENCE
from tests.vitals.pages import channel, open_run, page

ENTERED, LEFT = b"\x1b[?1049h", b"\x1b[?1049l"


@attrs.define
class Pty:
    """A terminal, and what was written to it."""

    outside: int
    inside: int
    seen: bytes = b""

    def settings(self) -> list[object]:
        return termios.tcgetattr(self.inside)

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self.inside, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def press(self, keys: bytes) -> None:
        os.write(self.outside, keys)

    def read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self.seen += os.read(self.outside, 65_536)

    @property
    def screen(self) -> str:
        """What was drawn last."""
        return self.seen.rpartition(b"\x1b[H")[2].decode(errors="replace")


@pytest.fixture
def terminal() -> Iterator[Pty]:
    outside, inside = pty.openpty()
    os.set_blocking(outside, False)
    opened = Pty(outside, inside)
    opened.resize(80, 24)
    yield opened
    os.close(outside)
    os.close(inside)


async def until(terminal: Pty, what: Callable[[], bool]) -> None:
    with trio.fail_after(PATIENCE):
        while not what():
            with trio.move_on_after(0.05):  # what is not written to the terminal announces itself by nothing
                await trio.lowlevel.wait_readable(terminal.outside)
            terminal.read()


def test_keys() -> None:
    pressed = b"\x1b[A\x1bOBjk \x1b[5~\x1b[6~xG\x1b[99~q"
    assert list(keys_of(pressed)) == ["up", "down", "down", "up", "page down", "page up", "page down", "end"]
    assert list(keys_of(b"q\xff\x1b")) == ["quit"]


async def test_an_error_puts_it_back(terminal: Pty) -> None:
    before = terminal.settings()
    with contextlib.suppress(ZeroDivisionError), open_terminal(terminal.inside, terminal.inside) as opened:
        assert terminal.settings() != before
        opened.draw([b"x"])
        raise ZeroDivisionError
    assert terminal.settings() == before
    await until(terminal, lambda: terminal.seen.endswith(LEFT))
    assert terminal.seen.count(ENTERED) == terminal.seen.count(LEFT) == 1


async def test_keys_scroll_and_quit(terminal: Pty, domain: Domain) -> None:
    many = [channel(f"c{number:02}") for number in range(40)]
    with (
        open_run(domain, *(page(domain, half, channels=many) for half in ("plugin", "gateway"))),
        open_terminal(terminal.inside, terminal.inside) as opened,
    ):
        screen = Screen(domain, 0.05, vitals.read(domain), opened)
        stop = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(screen.run, stop)
            await until(terminal, lambda: "c00" in terminal.screen)
            terminal.press(b"\x1b[B\x1b[B")
            await until(terminal, lambda: "c02" in terminal.screen and "c01" not in terminal.screen)
            terminal.press(b"G")
            await until(terminal, lambda: "c39" in terminal.screen)
            terminal.press(b"gq")
            with trio.fail_after(PATIENCE):
                await stop.wait()


async def test_a_run_that_ends_stays_on_the_screen(terminal: Pty, domain: Domain) -> None:
    with open_terminal(terminal.inside, terminal.inside) as opened:
        stop = trio.Event()
        async with trio.open_nursery() as nursery:
            with open_run(domain):
                nursery.start_soon(Screen(domain, 0.02, vitals.read(domain), opened).run, stop)
                await until(terminal, lambda: "north" in terminal.screen)
            await until(terminal, lambda: "this run has ended" in terminal.screen and "north" in terminal.screen)
            with open_run(domain):
                await until(terminal, lambda: "this run has ended" not in terminal.screen)
            stop.set()


@pytest.mark.skipif(os.geteuid() != 0 and not os.access("/dev/ptmx", os.W_OK), reason="has no terminals")
async def test_the_command_in_a_terminal(terminal: Pty, domain: Domain) -> None:
    """Resized, stopped by Ctrl-Z and gone on with, ended by SIGTERM: each time it is as it was."""
    before = terminal.settings()
    command = [sys.executable, "-m", "taktora_trio", "top", "--domain", domain.name, "--every", "0.1"]
    with open_run(domain):
        process = await trio.lowlevel.open_process(
            command,
            stdin=terminal.inside,
            stdout=terminal.inside,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "TERM": "xterm", "PYTHONUTF8": "1"},
        )
        try:
            await until(terminal, lambda: "bytes/s" in terminal.screen)
            terminal.resize(60, 20)
            process.send_signal(signal.SIGWINCH)
            await until(terminal, lambda: "msg/s" in terminal.screen and "bytes/s" not in terminal.screen)
            process.send_signal(signal.SIGTSTP)
            await until(terminal, lambda: process_stat(process.pid)[0] == "T")
            await until(terminal, lambda: terminal.seen.endswith(LEFT))
            assert terminal.settings() == before
            process.send_signal(signal.SIGCONT)
            await until(terminal, lambda: terminal.seen.rfind(ENTERED) > terminal.seen.rfind(LEFT))
            process.send_signal(signal.SIGTERM)
            await until(terminal, lambda: process.poll() is not None)
        finally:
            process.kill()
            await process.wait()
    assert process.returncode == 0
    assert terminal.settings() == before
    await until(terminal, lambda: terminal.seen.endswith(LEFT))
    assert process.stderr is not None
    assert await process.stderr.receive_some() == b""
