"""Runs in a worker process of `in_process`, beside the work."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

__all__ = ["end_with_parent"]


def end_with_parent() -> None:
    """End this process as soon as its parent has ended, also in the middle of its work.

    An idle worker would notice by its pipe; one that computes reads no pipe.
    """
    # Each executor imports this module, and few have workers.
    from multiprocessing.connection import wait
    from multiprocessing.process import parent_process

    parent = parent_process()
    assert parent is not None
    # A thread, for there is no loop here; and PR_SET_PDEATHSIG goes by the parent's thread, which soon retires.
    threading.Thread(target=_watch, args=(wait, parent.sentinel), daemon=True).start()


def _watch(wait: Callable[[list[int]], object], sentinel: int) -> None:
    wait([sentinel])
    os.kill(os.getpid(), signal.SIGKILL)
