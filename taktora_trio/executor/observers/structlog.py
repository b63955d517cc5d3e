"""StructlogObserver: each occurrence is one log entry, by structlog (extra `structlog`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from taktora_trio.errors import missing_extra, summary
from taktora_trio.executor.observer import Cycle, Observer

try:
    import structlog
except ModuleNotFoundError as exc:
    raise missing_extra("StructlogObserver", "structlog", "structlog") from exc

__all__ = ["StructlogObserver"]


class StructlogObserver(Observer):
    """Logs cycles as debug, user events, starts and stops as info, overruns as warning, and crashes as error."""

    def __init__(self, logger: Any = None) -> None:
        """`logger` is any logger of structlog's that does not block; the default is a new one."""
        self._log = structlog.get_logger("taktora_trio.executor") if logger is None else logger

    def started(self, item: str) -> None:
        self._log.info("item started", item=item)

    def stopped(self, item: str) -> None:
        self._log.info("item stopped", item=item)

    def crashed(self, item: str, error: Exception, then: str) -> None:
        self._log.error("item crashed", item=item, error=summary(error), then=then, exc_info=error)

    def cycle(self, item: str, cycle: Cycle) -> None:
        more = {"error": summary(cycle.error)} if cycle.error is not None else {}
        wake = type(cycle.wake).__name__.lower()
        self._log.debug("cycle", item=item, wake=wake, duration=cycle.duration, lateness=cycle.lateness, **more)

    def overrun(self, item: str, cycle: Cycle) -> None:
        self._log.warning("overrun", item=item, duration=cycle.duration, budget=cycle.budget)

    def event(self, item: str, name: str, fields: Mapping[str, Any]) -> None:
        self._log.info(name, **{**fields, "item": item})
