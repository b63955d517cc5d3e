"""Log lines of this process, for its flight ring."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from taktora_trio.runners.this_process.log_formats import formatter
from taktora_trio.transport.flight import FlightRing

__all__ = ["logging_into"]

_MOST = 8 * 1024  # bytes of a line


@contextlib.contextmanager
def logging_into(ring: FlightRing, kind: int, process: str) -> Iterator[None]:
    """Write each log line of the block into the ring as well, as JSON."""
    handler = _RingHandler(ring, kind)
    handler.setFormatter(formatter("json", process, tagged=False))
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)


class _RingHandler(logging.Handler):
    def __init__(self, ring: FlightRing, kind: int) -> None:
        super().__init__()
        self._ring, self._kind = ring, kind

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record).encode()
        except Exception:  # noqa: BLE001 - arguments that don't fit: the handler before says so
            return
        if len(line) <= _MOST:
            self._ring.write(self._kind, line, int(record.created * 1e9))
