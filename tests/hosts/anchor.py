"""The process that a namespace belongs to: when its standard input ends, it ends all that is in there.

The input is a pipe of the test's process. So it ends with that process, however that ends. The namespace has no name:
it is gone, with its links, as soon as nobody is in it. It needs no package, to start fast.
"""

import contextlib
import os
import signal
import sys
from pathlib import Path


def others() -> list[int]:
    """Return the processes that are in the same network namespace as this one."""
    here = Path("/proc/self/ns/net").stat().st_ino
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            with contextlib.suppress(OSError):  # it has ended
                if Path(f"/proc/{name}/ns/net").stat().st_ino == here and not is_zombie(name):
                    found.append(int(name))
    return found


def is_zombie(name: str) -> bool:
    return Path(f"/proc/{name}/stat").read_bytes().rpartition(b") ")[2][:1] in (b"Z", b"X")


def main() -> None:
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # for those who have something to end first
        signal.signal(signum, signal.SIG_IGN)
    os.write(1, b"here\n")
    sys.stdin.buffer.read()
    while pids := others():
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
