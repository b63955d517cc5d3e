"""A log in memory, whose disk works when the test says so."""

from __future__ import annotations

from collections.abc import Callable

import trio

from taktora_trio.errors import StoreError
from taktora_trio.store import Record, StoreFull


class MemoryLog:
    """What outlives a gateway: give the same one to the next."""

    def __init__(self, max_messages: int = 10**9, *, commits: bool = True) -> None:
        self.max_bytes = max_messages
        self.capacity = max_messages
        self.trouble = self.damage = ""
        self.on_trouble: Callable[[str], None] | None = None
        self.commits = commits
        self.channels: dict[str, MemoryChannel] = {}
        self.fails_to_read = False
        self._committed = trio.Event()

    def channel(self, name: str) -> MemoryChannel:
        return self.channels.setdefault(name, MemoryChannel(self))

    @property
    def used(self) -> int:
        return sum(channel.count for channel in self.channels.values())

    def has_room(self, size: int) -> bool:
        return self.used < self.max_bytes

    def write(self) -> None:
        """Have everything reach the disk."""
        for channel in self.channels.values():
            channel.write()
        self._committed.set()
        self._committed = trio.Event()

    async def commit(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.commits:
            self.write()
        else:
            await self._committed.wait()

    def power_cut(self) -> MemoryLog:
        """Return the log as the next run finds it."""
        after = MemoryLog(self.max_bytes, commits=self.commits)
        for name, channel in self.channels.items():
            found = after.channel(name)
            found.records = {number: one for number, one in channel.records.items() if number <= channel.stored}
            found.last = found.stored = channel.stored
            found.origin = channel.origin
            found.values = dict(channel.values_on_disk)
            found.values_on_disk = dict(channel.values_on_disk)
        return after


class MemoryChannel:
    def __init__(self, log: MemoryLog) -> None:
        self.on_stored: Callable[[], None] | None = None
        self.stored = self.last = 0
        self.origin = (0, 0)
        self.values: dict[str, int] = {}
        self.values_on_disk: dict[str, int] = {}
        self.records: dict[int, Record] = {}
        self.reads: list[tuple[int, int]] = []
        self._log = log

    def append(self, content: bytes, *, epoch: int = 0, sequence: int = 0, timestamp: int = 0, number: int) -> int:
        if not self._log.has_room(len(content)):
            raise StoreFull("full")
        assert number > self.last
        self.records[number] = Record(number, epoch, sequence, timestamp, content)
        self.last = number
        if self._log.commits:
            self._log.write()
        return number

    def settle(self, first: int, last: int | None = None) -> None:
        for number in [one for one in self.records if first <= one <= (last or first)]:  # of two runs: far apart
            del self.records[number]

    def put(self, name: str, value: int) -> None:
        self.values[name] = value

    def write(self) -> None:
        self.values_on_disk = dict(self.values)
        newest = self.records.get(self.last)
        if newest is not None:
            self.origin = (newest.epoch, newest.sequence)
        if self.stored < self.last:
            self.stored = self.last
            if self.on_stored is not None:
                self.on_stored()

    async def read(self, after: int = 0, limit: int = 64) -> list[Record]:
        await trio.lowlevel.checkpoint()
        if self._log.fails_to_read:
            raise StoreError("input/output error")
        self.reads.append((after, limit))
        return [one for number, one in sorted(self.records.items()) if after < number <= self.stored][:limit]

    @property
    def count(self) -> int:
        return len(self.records)

    @property
    def first(self) -> int:
        return next(iter(self.records), self.last + 1)
