"""A half's page: what it says of itself, encoded, and made to fit."""

from __future__ import annotations

import msgspec

from taktora_trio.transport.snapshot import SnapshotWriter
from taktora_trio.vitals.model import Page

__all__ = ["PageWriter"]

_encode = msgspec.msgpack.Encoder().encode


class PageWriter:
    """Writes the pages of one half."""

    def __init__(self, snapshots: SnapshotWriter) -> None:
        self._snapshots = snapshots

    def write(self, page: Page) -> None:
        """Write a page. What has no room is left out: old history first, then addresses, channels last."""
        while not self._snapshots.write(_encode(page)):
            if page.history:
                page = msgspec.structs.replace(page, history=page.history[len(page.history) // 2 + 1 :])
            elif any(channel.address for channel in page.channels):
                channels = [msgspec.structs.replace(channel, address="") for channel in page.channels]
                page = msgspec.structs.replace(page, channels=channels)
            elif page.channels:
                page = msgspec.structs.replace(page, channels=page.channels[: len(page.channels) // 2])
            else:
                break
