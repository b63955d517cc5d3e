"""Collections of garbage: what a command sets up for a process that may have thousands of channels. A library call
never does it."""

from __future__ import annotations

import atexit
import gc

__all__ = ["collect_less"]

_MIDDLE_PER_FULL = 100  # Python's own is 10


def collect_less() -> None:
    """Have Python look at all objects less often, and not at the end. Call it before the app is loaded.

    A start makes objects that stay, 50 for each channel, and hardly any garbage. By Python's own figures all of them
    are looked at again and again meanwhile: with 10,000 channels that was half of a gateway's CPU time. What is young
    is collected as often as before.

    At its end Python looks at all of them three times more, and frees each by itself: half a second of CPU time, while
    a supervisor waits. The kernel frees them at once (gc.freeze). What has to be closed is closed by then.
    """
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, _MIDDLE_PER_FULL)
    atexit.register(gc.freeze)
