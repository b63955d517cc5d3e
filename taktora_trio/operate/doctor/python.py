"""The interpreter and the kernel."""

from __future__ import annotations

import os
import platform
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

from taktora_trio.connectors.finding import Finding, fail, ok, warn

__all__ = ["examine_python"]

_LOWEST = (3, 11)
_TRIED = (3, 14)


def examine_python() -> Iterator[Finding]:
    """Yield what is to be said of this Python and of its system."""
    text = f"{platform.python_implementation()} {platform.python_version()}, {8 * struct.calcsize('P')} bit"
    if sys.version_info[:2] < _LOWEST or sys.implementation.name != "cpython":
        yield fail("python", text, "use CPython 3.11 or newer")
    elif sys.version_info[:2] > _TRIED:
        yield warn("python", f"{text}: newer than those that were tried", "use CPython 3.11 to 3.14 if anything fails")
    else:
        yield ok("python", text)
    yield _system()


def _system() -> Finding:
    text = f"{platform.system()} {platform.release()} {platform.machine()}"
    if sys.platform != "linux":
        return fail("system", text, "use Linux: shared memory, pidfd and /proc are its own")
    if not Path(f"/proc/{os.getpid()}/stat").exists():
        return fail("system", f"{text}; /proc does not show this process", "mount /proc (unshare --mount-proc)")
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (OSError, AttributeError) as exc:
        return fail(
            "system", f"{text}; pidfd_open: {exc}", "use Linux 5.3 or newer, and allow pidfd_open in the sandbox"
        )
    return ok("system", text)
