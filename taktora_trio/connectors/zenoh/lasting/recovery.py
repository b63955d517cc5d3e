"""Samples of publishers that number and keep them: none twice over connections and gateways, and each that is missing
counted.

Within a session the library asks the publisher for what was lost. A new session gets what each publisher still keeps,
without knowing what the last one has had; that is known here.
"""

from __future__ import annotations

import struct

from taktora_trio.connectors.zenoh.lasting.kept_pairs import KeptPairs
from taktora_trio.connectors.zenoh.lasting.missed import Missed
from taktora_trio.connectors.zenoh.session import Sample

__all__ = ["SOURCES_SPACE", "Sources"]

SOURCES_SPACE = 100_000
"""The bytes of memory for publishers and their last numbers."""
_NUMBER = struct.Struct("<Q")


class Sources:
    """The last sample of each publisher that was taken. It lives as long as the gateway, and outlives it if killed."""

    def __init__(self, memory: memoryview, missed: Missed) -> None:
        self._last = KeptPairs(memory)
        self._missed = missed

    def takes(self, sample: Sample) -> bool:
        """Return whether the sample is news, and remember it. One that has no number is."""
        source, number = sample.source, sample.number
        if not source:
            return True
        kept = self._last.get(source)
        last = None if kept is None or len(kept) != _NUMBER.size else _NUMBER.unpack(kept)[0]
        if last is not None:
            if number <= last:
                return False
            if number > last + 1:
                self._missed.tell(number - last - 1, f"messages of a publisher on '{sample.key}'")
        self._last.set(source, _NUMBER.pack(number))  # before it is handed over: it is to arrive at most once
        return True
