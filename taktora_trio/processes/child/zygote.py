"""The zygote: a process that has imported everything, and forks on request (`parent/warm.py` starts it, and says why).

    python -m taktora_trio.processes.child.zygote ENTRY MODULE...

It imports the modules; each fork calls ENTRY (MODULE:FUNCTION). It is single-threaded, with no loop, no node and no
socket but the one to its supervisor, so there is nothing that a fork could copy in the middle of its work. It forks
twice, so that the new process loses its parent and becomes a child of the supervisor, which is a subreaper.

If a file that it has imported is another one by now, since a package was upgraded, it says so instead, and ends: what
is started after an upgrade runs the new code.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import importlib
import json
import os
import random
import select
import signal
import socket
import sys
from collections.abc import Sequence
from typing import NoReturn

_STALE = b"0"  # instead of the id of a process
_LIMIT = 64 * 1024  # bytes of a request
_FDS = 250  # what a message may have (SCM_MAX_FD of unix(7) is 253)


def _serve(entry: str, modules: Sequence[str]) -> None:
    """Fork on request until the supervisor is gone. Returns only in a fork, which is then to call the entry."""
    control = socket.socket(fileno=os.dup(0))
    os.close(0)
    os.open(os.devnull, os.O_RDONLY)
    for module in modules:
        importlib.import_module(module)
    module, _, function = entry.partition(":")
    call = getattr(importlib.import_module(module), function)
    files = _Files()
    gc.collect()
    gc.freeze()  # so that collections in the forks leave these pages shared
    while True:
        try:
            data, fds, _, _ = socket.recv_fds(control, _LIMIT, _FDS)
        except ConnectionResetError:  # it was gone before it had read our last answer
            return
        if not data:
            return
        if files.have_changed():
            with contextlib.suppress(BrokenPipeError):
                control.send(_STALE)
            sys.exit(0)
        request = json.loads(data)
        ours, theirs = socket.socketpair()
        between = os.fork()
        if between == 0:
            between = os.getpid()
            pid = os.fork()
            if pid:
                theirs.send(b"%d" % pid)
                os._exit(0)
            ours.close()
            control.close()
            if not theirs.recv(1):  # the supervisor does not know of this process, so nobody would ever end it
                os._exit(0)
            theirs.close()
            _become(request, fds, between)
            call()
            sys.exit(0)
        os.waitpid(between, 0)
        with contextlib.suppress(BrokenPipeError):  # it is gone, or has lost patience
            control.send(ours.recv(32))
            ours.send(b"!")
        ours.close()
        theirs.close()
        for fd in fds:
            os.close(fd)


class _Files:
    """The files that were imported, as they are now. A look takes less than a millisecond.

    Of Python's own it is one that stands for all, and changes with each of its versions.
    """

    def __init__(self) -> None:
        python = f"{os.path.dirname(os.__file__)}/"  # noqa: PTH120
        imported = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
        files = [file for file in imported if isinstance(file, str)]
        ours = [file for file in files if not file.startswith(python) or "-packages/" in file]
        self._seen = {file: self._look(file) for file in (os.__file__, *ours)}

    def have_changed(self) -> bool:
        """Return whether one of them is another one. One that is missing may be about to be replaced: that is not."""
        return any(now is not None and now != seen for file, seen in self._seen.items() for now in [self._look(file)])

    @staticmethod
    def _look(file: str) -> tuple[int, int, int] | None:
        try:
            found = os.stat(file)  # noqa: PTH116 - a Path takes twice as long
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns


def _become(request: dict[str, object], fds: list[int], parent: int) -> None:
    """Turn this fork into what was asked for."""
    os.setpgid(0, 0)
    with contextlib.suppress(ProcessLookupError):
        # When it has ended, the supervisor is our parent, by which we know it.
        pidfd = os.pidfd_open(parent)
        select.select([pidfd], [], [])
        os.close(pidfd)
    arguments, env, numbers = request["arguments"], request["env"], request["numbers"]
    assert isinstance(arguments, list)
    assert isinstance(env, dict)
    assert isinstance(numbers, list)
    _renumber(fds, numbers)
    os.environ.update(env)
    sys.argv = ["taktora-trio", *map(str, arguments)]
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # nothing printed is lost at a crash
    random.seed()


def _renumber(fds: Sequence[int], numbers: Sequence[int]) -> None:
    """Give descriptors other numbers. They are first moved above all of them, so that none is in the way of another."""
    moved = [fcntl.fcntl(fd, fcntl.F_DUPFD, max(*fds, *numbers) + 1) for fd in fds]
    for fd in fds:
        os.close(fd)
    for fd, number in zip(moved, numbers, strict=True):
        os.dup2(fd, number)
        os.close(fd)


def _main() -> NoReturn:
    # The supervisor decides when this ends; a terminal's Ctrl-C is not for it. The forks set handlers of their own.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _serve(sys.argv[1], sys.argv[2:])
    sys.exit(0)


if __name__ == "__main__":
    _main()
