"""Life signs for a supervisor, by systemd's protocol (sd_notify(3)): the same under systemd and under ours.

A datagram to the socket named by `NOTIFY_SOCKET` holds lines: `READY=1` once the process works, `STATUS=` for people,
`WATCHDOG=1` as a sign of life at least every `WATCHDOG_USEC` microseconds, `ERRNO=` for what it is about to die of,
`EXTEND_TIMEOUT_USEC=` where a start takes longer, `RELOADING=1` while it reads its configuration again, `STOPPING=1`
when it ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import signal
import socket
import time
from collections.abc import Callable

import trio

from taktora_trio.errors import ConfigError

__all__ = ["LifeSigns", "inherited_life_signs"]

log = logging.getLogger(__name__)

_BEATS = 4  # signs of life in a watchdog period, so that a late one is no hang (systemd recommends two)
_UNWATCHED = 10.0  # seconds of a period where no supervisor has said one; `healthcheck` expects no longer one
_GRACE = 2  # silent periods after which a process begins to end itself, should its supervisor not do it
_DIGITS = 20  # fewer than these fit into 64 bits


class LifeSigns:
    """Tells the supervisor that this process is ready, lives, and ends. Does nothing where there is no supervisor."""

    def __init__(self, address: str | None, watchdog: float | None) -> None:
        self.watchdog = watchdog
        """Seconds without a sign of life after which the supervisor takes us for hung; `None` if it never does."""
        self._address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)
        if address is not None:
            # Connected, since only then does it poll as writable no sooner than the supervisor has read (unix(7)).
            with contextlib.suppress(OSError):
                self._socket.connect(address)
        self._stalled: str | None = None
        self._status = ""  # the last one; a stall is shown in its place while it lasts

    def close(self) -> None:
        """Send nothing more."""
        self._socket.close()

    async def ready(self, status: str) -> None:
        """Say that the services are open and the loop runs."""
        self._status = status
        await self._send(f"READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        """Say that this process reads its configuration again. `reloaded` says that it is done with it."""
        self._try_send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def reloaded(self) -> None:
        """Say that it works again, with a new configuration or the one before."""
        self._try_send("READY=1")

    async def status(self, status: str, *, extend: float | None = None) -> None:
        """Say, for people, what this process does now. Before it is ready, ask for `extend` seconds more."""
        self._status = status
        more = f"\nEXTEND_TIMEOUT_USEC={int(extend * 1e6)}" if extend else ""
        await self._send(f"STATUS={status}{more}")

    def stopping(self) -> None:
        """Say that this process ends, of its own accord or as asked. Signs of life are to stop, too."""
        self._try_send("STOPPING=1")

    async def stopping_when(self, stop: trio.Event) -> None:
        """Call `stopping` once `stop` is set."""
        await stop.wait()
        self.stopping()

    def dying(self, status: str, errno: int = 0) -> None:
        """Say what this process is about to die of, with an `errno` where the operating system has one for it."""
        self._try_send(f"STATUS={status}" + (f"\nERRNO={errno}" if errno else ""))

    def exiting(self, code: int) -> None:
        """Say that this process ends with an exit code that was asked for: by `sys.exit(code)`, not by a failure."""
        self._try_send(f"EXIT_STATUS={code}")

    async def serve(
        self, stalled: Callable[[], str | None] = lambda: None, show: Callable[[], None] = lambda: None
    ) -> None:
        """Give signs of life, from the loop itself, as long as work moves. Runs until cancelled.

        `stalled` names work that could be done and is not. While it does so twice in a row, no sign is given. A
        supervisor that reads nothing (it is stopped) is not waited for: it has signs to read already. If the loop hangs
        and nobody ends this process (the supervisor was killed, too), the kernel ends it by SIGALRM, unless it was
        stopped. `show` is called with each sign, also where no supervisor wants any.
        """
        period = _UNWATCHED if self.watchdog is None else self.watchdog
        by_kernel = (
            self.watchdog is not None
            and self._address is not None
            and signal.getsignal(signal.SIGALRM) is signal.SIG_DFL
        )
        shows_stall = False
        try:
            while True:
                if by_kernel:
                    _end_unless_renewed(_GRACE * period)
                before, self._stalled = self._stalled, stalled()
                if before is None or self._stalled is None:
                    if shows_stall:
                        shows_stall = False
                        self._try_send(f"STATUS={self._status}")
                    show()
                    if self.watchdog is not None:
                        self._try_send("WATCHDOG=1")
                else:
                    shows_stall = True
                    log.error("no sign of life: %s", self._stalled, extra={"event": "stalled"})
                    self._try_send(f"STATUS=stalled: {self._stalled}")
                await trio.sleep(min(period, _UNWATCHED) / _BEATS)
        finally:
            if by_kernel:
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGALRM, signal.SIG_DFL)

    async def _send(self, text: str) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        while not self._try_send(text):
            await trio.lowlevel.wait_writable(self._socket)

    def _try_send(self, text: str) -> bool:
        if self._address is not None:
            try:
                self._socket.send(text.encode())
            except BlockingIOError:
                return False
            except OSError as exc:  # the supervisor is gone, which its link shows, too
                log.debug("cannot notify the supervisor: %s", exc, extra={"event": "supervisor-deaf"})
        return True


def _end_unless_renewed(seconds: float) -> None:
    """Have the kernel end this process by SIGALRM, unless this is called again within `seconds` and 14 more.

    A timer goes on while its process is stopped, and is over at once when that goes on. So the first SIGALRM only sets
    the second, which then leaves the process time to call this again. The C library does that without Python, which may
    hang: sysv_signal(3) calls a function once, alarm(2), and that takes the number of the signal, 14, for its seconds.
    """
    with contextlib.suppress(AttributeError):  # not the GNU C library: then there is no such end
        libc = ctypes.CDLL(None)
        libc.sysv_signal(ctypes.c_int(signal.SIGALRM), ctypes.cast(libc.alarm, ctypes.c_void_p))
        signal.setitimer(signal.ITIMER_REAL, seconds)


def inherited_life_signs() -> LifeSigns:
    """Return the life signs of this process, which may be supervised or not. Call it once.

    It takes the variables out of the environment, so that no process started from here speaks for this one.
    Raises `ConfigError` if `WATCHDOG_USEC` or `WATCHDOG_PID` is not as sd_watchdog_enabled(3) says.
    """
    address = os.environ.pop("NOTIFY_SOCKET", None)
    microseconds = _number_in("WATCHDOG_USEC")
    pid = _number_in("WATCHDOG_PID")
    if address is not None and address.startswith("@"):
        address = "\0" + address[1:]
    meant = microseconds is not None and pid in (None, os.getpid())
    return LifeSigns(address, microseconds / 1e6 if meant and microseconds else None)


def _number_in(variable: str) -> int | None:
    """Take a number out of the environment; `None` if it is not there."""
    value = os.environ.pop(variable, "")
    if not value:
        return None
    if not value.isdecimal() or len(value) >= _DIGITS or not int(value):
        raise ConfigError(f"{variable}={value!r} must be a whole number above 0: unset it, or mend who sets it")
    return int(value)
