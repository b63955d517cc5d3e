"""Whether the machine's time is right: certificates are judged by it, and logs of several machines compared."""

from __future__ import annotations

import ctypes
import os
import time
from datetime import UTC, datetime

from taktora_trio.connectors.finding import Finding, fail, ok, warn

__all__ = ["TimeState", "examine_clock", "look_at_clock", "look_at_state"]

_BUILT = 1_767_225_600.0  # 2026-01-01: this program did not exist before
_UNSYNCHRONIZED = 0x0040  # STA_UNSYNC of adjtimex(2)
_SET_IT = "set the time, and have it kept: systemd-timesyncd, chrony or ntpd (timedatectl set-ntp true)"


class _Timex(ctypes.Structure):
    """The beginning of adjtimex(2)'s structure on 64-bit machines; the rest is room."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 512),
    )


TimeState = tuple[bool, float]
"""Whether the kernel takes its clock for synchronized, and by how many seconds at most it may be wrong."""


def examine_clock() -> Finding:
    return look_at_clock(time.time(), look_at_state())


def look_at_state() -> TimeState | None:
    """Return what the kernel knows of its clock; `None` where a sandbox forbids to ask."""
    timex = _Timex()
    try:
        code = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    except (OSError, AttributeError):
        return None
    return None if code < 0 else (not timex.status & _UNSYNCHRONIZED, timex.maxerror / 1e6)


def look_at_clock(now: float, state: TimeState | None) -> Finding:
    """Return what is to be said of a clock that shows `now`."""
    shown = f"{datetime.fromtimestamp(now, UTC):%Y-%m-%d %H:%M:%S} UTC"
    if now < _BUILT:
        return fail("clock", f"{shown} is before this program was made: no certificate is valid then", _SET_IT)
    if state is None:
        return ok("clock", f"{shown}; whether it is kept right can't be told here")
    if not state[0]:
        where = " (in a container: on its host)" if os.path.exists("/.dockerenv") else ""  # noqa: PTH110
        return warn("clock", f"{shown}, which nobody keeps right, as far as the kernel knows", f"{_SET_IT}{where}")
    return ok("clock", f"{shown}, kept right to {state[1]:.2g} s at least")
