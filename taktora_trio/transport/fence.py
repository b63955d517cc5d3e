"""The order in which another processor sees our stores to shared memory.

What a counter covers must be seen before the counter. x86-64 keeps the order of stores, and of loads, by itself. Other
machines do not: there `fence` is called between the two, on either side. (Nobody has tried that on one of them.)
"""

from __future__ import annotations

import os
import threading

__all__ = ["NEEDS_FENCE", "fence"]

NEEDS_FENCE = os.uname().machine not in ("x86_64", "AMD64", "i686")
_lock = threading.Lock()
_lock.acquire()


def fence() -> None:
    """Have all loads and stores before this be done before those that come after it: a release, then an acquire."""
    _lock.release()
    _lock.acquire()
