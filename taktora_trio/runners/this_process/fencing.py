"""The fence of this process, put up where a half starts."""

from __future__ import annotations

import logging

from taktora_trio.processes.fence import Fence

__all__ = ["put_up"]

log = logging.getLogger(__name__)


def put_up(fence: Fence, half: str) -> None:
    """Fence this process. What can't be is a warning, and the rest is done: without it a run works, too.

    Raises `ConfigError` for a CPU that there is not.
    """
    fence.check(half)
    for what in fence.put_up():
        log.warning("fence.%s.%s", half, what, extra={"event": "fence-lacking"})
