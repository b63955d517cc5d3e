"""Log: records on disk, for the gateway's event loop, which never waits for the disk."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import trio

from taktora_trio.errors import is_worth_logging
from taktora_trio.opening import NoPublicConstructor
from taktora_trio.store.channel import LogChannel, Record, StoreFull
from taktora_trio.store.disk import Disk
from taktora_trio.store.format import OVERHEAD, Head
from taktora_trio.store.ranges import Ranges
from taktora_trio.store.reading import Fetched, Place, fetch
from taktora_trio.store.recover import ChannelState, Recovered
from taktora_trio.store.segment import Segment
from taktora_trio.store.writer import Batch, Writer, Written, check_store, store_error

__all__ = ["Log", "LogChannel", "Record", "StoreFull", "check_store", "open_log"]

log = logging.getLogger(__name__)

_LAZY = 1.0  # seconds until what was settled reaches the disk, at most
_SILENT = 2.0  # seconds after which a disk that does not answer is spoken of
_GATHERING, _MANY = 0.002, 4  # seconds from commit to commit, at least, while each has so many records: a fast disk
# would else have one for every few of them, at 0.2 ms of CPU time each
_RETRY_AFTER, _RETRY_AT_MOST = 0.1, 5.0
_SEGMENT = 2**22  # bytes of a segment, at most but for one commit
_BLOCK = 2**12  # bytes that the smallest file takes


class Log(metaclass=NoPublicConstructor, opened_by="open_log(...)"):
    """A log of records on disk, by channel, of which this process is the only user. Use `open_log`.

    The disk is touched in worker threads alone. If it fails, or is full, `trouble` says why, what was appended waits in
    memory, and it is tried again until it succeeds: nothing that `stored` has told of is lost by that. If it does not
    answer, only commits and reads wait.
    """

    def __init__(
        self, path: Path, disk: Disk, writer: Writer, found: Recovered, identity: str, max_bytes: int, sync_every: float
    ) -> None:
        self.path = path
        self.max_bytes = max_bytes
        self.trouble = ""
        """Why the last commit failed, in one line; empty if it succeeded."""
        self.damage = "; ".join(found.damage)
        """What could not be read of the store, and where it was put aside, in one line; empty if all could be read. It
        is logged as an error, too."""
        self.on_trouble: Callable[[str], None] | None = None
        """Called in the event loop with `trouble`, whenever that or `damage` changes; it must not raise."""
        self._disk, self._writer, self._identity, self._sync_every = disk, writer, identity, sync_every
        self._segment_size = max(min(_SEGMENT, max_bytes // 16), _BLOCK)
        self._segments = found.segments
        self._current: Segment | None = None
        self._dead = [segment for segment in found.segments if not segment.live]
        self._live_size = sum(segment.live_size for segment in found.segments)
        self._pending_size = 0
        self._channels: dict[str, LogChannel] = {}
        self._by_id: dict[int, LogChannel] = {}
        for state in found.channels.values():
            parts = [(it, it.parts[state.id]) for it in found.segments if state.id in it.parts]
            parts = [it for it in parts if it[1].live]
            self._by_id[state.id] = self._channels[state.name] = LogChannel._create(self, state, parts)
        self._known = set[LogChannel]()  # those that the current segment names
        self._is_urgent = False
        self._closing = trio.Event()
        self._serving = trio.CancelScope(shield=True)
        self._may_be_wasteful = True
        self._remember_at: float | None = None
        self._wake = trio.Event()
        self._takes = self._commits = 0
        self._committed = trio.Event()
        self._begun_at: float | None = None
        self._began = trio.Event()
        self._last_begin = -float("inf")
        self._last_count = 0
        self._failures = 0
        self._write_limiter, self._read_limiter = trio.CapacityLimiter(1), trio.CapacityLimiter(1)

    def __repr__(self) -> str:
        return f"Log({str(self.path)!r}, used={self.used}, trouble={self.trouble!r})"

    def channel(self, name: str) -> LogChannel:
        """Return the channel of this name, always the same one; it is new if nothing was ever stored in it."""
        if (channel := self._channels.get(name)) is None:
            number = max(self._by_id, default=-1) + 1
            channel = self._by_id[number] = self._channels[name] = LogChannel._create(
                self, ChannelState(number, name), []
            )
        return channel

    @property
    def channels(self) -> Mapping[str, LogChannel]:
        """All channels that it has anything of, also those that nobody has asked for: of an earlier version."""
        return MappingProxyType(self._channels)

    async def commit(self) -> None:
        """Wait until all that was appended, settled and put so far is on disk. A cancelled wait loses nothing."""
        await trio.lowlevel.checkpoint()
        target = self._takes + 1  # one that takes what there is now
        self._urge()
        while self._commits < target:
            await self._committed.wait()

    @property
    def used(self) -> int:
        """About the bytes that its records take, on disk and on their way there."""
        return self._live_size + self._pending_size

    @property
    def capacity(self) -> int:
        """The bytes that its records may take: `max_bytes`, but for what is needed to give space back."""
        return self.max_bytes - 2 * self._segment_size

    def has_room(self, size: int) -> bool:
        """Return true if a record with a content of this size can be appended."""
        return self._live_size + self._pending_size + size + OVERHEAD <= self.capacity

    def _take_room(self, size: int) -> None:
        if self._live_size + self._pending_size + size > self.capacity:
            raise StoreFull(f"the store {self.path} is full: it has {self.used} of {self.capacity} bytes")
        self._pending_size += size

    def _urge(self) -> None:
        """A commit is to begin at once."""
        if not self._is_urgent:
            self._is_urgent = True
            self._wake.set()

    def _remember_soon(self) -> None:
        """A commit is to begin within a second."""
        if self._remember_at is None:
            self._remember_at = trio.current_time() + _LAZY
            self._wake.set()

    def _look_at(self, segment: Segment) -> None:
        if segment is not self._current and not segment.live:
            self._dead.append(segment)

    async def _serve(self) -> None:
        """Commit, whenever there is something, until the log is closed, whoever cancels its owner before."""
        with self._serving:
            await self._commit_again_and_again()

    async def _commit_again_and_again(self) -> None:
        """Commit; try again what fails."""
        while True:
            await self._wait_for_work()
            distance = max(self._sync_every, _GATHERING if self._last_count >= _MANY else 0)
            await self._pause(self._last_begin + distance - trio.current_time())
            self._last_begin = trio.current_time()
            try:
                await self._commit()
                await self._compact()
            except OSError as exc:
                self._failed(exc)
                self._is_urgent = True
                await trio.sleep(_RETRY_AFTER)
                await self._pause(min(_RETRY_AFTER * 2 ** min(self._failures, 10), _RETRY_AT_MOST))
            else:
                self._succeeded()

    async def _pause(self, seconds: float) -> None:
        """Sleep, but not while the log is being closed."""
        if seconds > 0:
            with trio.move_on_after(seconds):
                await self._closing.wait()

    async def _wait_for_work(self) -> None:
        while not self._is_urgent:
            self._wake = trio.Event()
            with trio.move_on_at(float("inf") if self._remember_at is None else self._remember_at) as scope:
                await self._wake.wait()
            if scope.cancelled_caught:
                return

    async def _commit(self) -> None:
        self._is_urgent, self._remember_at = False, None
        self._takes += 1
        take = self._takes
        is_fresh = self._current is None or self._current.size >= self._segment_size
        heads = [channel._state.head() for channel in self._channels.values()] if is_fresh else []
        taken = [channel._take() for channel in self._channels.values()]
        unknown = {it.channel for it in taken if it.entries and (is_fresh or it.channel not in self._known)}
        changes = [it.change() for it in taken if it.is_change or it.channel in unknown]
        records = [(it.channel._state.id, it.entries) for it in taken if it.entries]
        if changes or records:
            head = Head(self._identity, heads) if is_fresh else None
            batch = Batch(head, changes, records, self._dead[:])
            self._apply(await self._in_worker(lambda: self._writer.write(batch)))
            self._known.update(self._channels.values() if is_fresh else [it.channel for it in taken if it.entries])
        for it in taken:
            it.channel._done(it)
        self._last_count = sum(it.pending for it in taken)
        self._commits = take
        committed, self._committed = self._committed, trio.Event()
        committed.set()
        for it in taken:
            if it.pending and it.channel.on_stored is not None:
                it.channel.on_stored()

    async def _in_worker(self, act: Callable[[], Written]) -> Written:
        self._begun_at = trio.current_time()
        self._began.set()
        try:
            return await trio.to_thread.run_sync(act, abandon_on_cancel=True, limiter=self._write_limiter)
        finally:
            self._begun_at = None

    def _apply(self, written: Written) -> None:
        segment = written.segment
        if segment is not self._current:
            before, self._current = self._current, segment
            self._segments.append(segment)
            self._may_be_wasteful = True
            if before is not None:
                self._look_at(before)
        segment.size = written.size
        for frame, timestamp in written.frames:
            self._by_id[frame.channel]._add(segment, frame, timestamp)
        for dead in written.removed:
            self._dead.remove(dead)
            self._segments.remove(dead)

    async def _compact(self) -> None:
        """Write segments again that are mostly of settled records, which a slow channel would keep there for ever."""
        smaller_now = set[Segment]()
        while self._may_be_wasteful and (segment := self._most_wasteful(smaller_now)) is not None:
            kept = {it: self._by_id[it]._kept(part) for it, part in segment.parts.items()}
            try:
                smaller = await self._in_worker(lambda: self._writer.compact(segment, kept))  # noqa: B023 - awaited
            except OSError as exc:
                log.warning(
                    "%s: settled messages keep their space for now",
                    store_error(self.path, exc),
                    extra={"event": "store-not-compacted"},
                )
                break
            by = smaller.segment
            by.size = smaller.size
            smaller_now.add(by)
            for frame, timestamp in smaller.frames:
                by.add(frame, timestamp)
            for channel in self._channels.values():
                channel._replace(segment, by)
            self._segments[self._segments.index(segment)] = by
            if segment in self._dead:
                self._dead.remove(segment)
            self._look_at(by)
        self._may_be_wasteful = False

    def _most_wasteful(self, but: set[Segment]) -> Segment | None:
        """Return the segment that has the largest share of settled records, but for these; `None` if none is worth it.

        The less space is left, the smaller a share is worth the writing: with half of it used, a half.
        """
        space = sum(max(segment.size, _BLOCK) for segment in self._segments)
        if space < self.max_bytes // 4:
            return None
        worth = max(1 - space / self.capacity, 0.05)
        sealed = (it for it in self._segments if it is not self._current and it not in but)
        candidates = (it for it in sealed if it.live and not it.is_damaged)
        share, segment = max(((it.settled_size / it.size, it) for it in candidates), default=(0, None), key=_share)
        return segment if share > worth else None

    async def _fetch(self, channel: int, wanted: Ranges, places: list[Place]) -> Fetched:
        try:
            return await trio.to_thread.run_sync(
                fetch, self._disk, places, channel, wanted, abandon_on_cancel=True, limiter=self._read_limiter
            )
        except OSError as exc:
            raise store_error(self.path, exc) from exc

    async def _watch(self) -> None:
        """Say it if a commit takes long, for until it ends nobody else does."""
        while True:
            await self._began.wait()
            self._began = trio.Event()
            while (begun := self._begun_at) is not None:
                await trio.sleep_until(begun + _SILENT)
                if self._begun_at == begun:
                    self._say(f"the store {self.path}: the disk has not answered for {_SILENT:g} s")
                    break

    def _failed(self, exc: OSError) -> None:
        before, self._current = self._current, None  # nobody knows what of it is on the disk: a new one is begun
        if before is not None:
            self._look_at(before)
        self._failures += 1
        text = str(store_error(self.path, exc))
        if is_worth_logging(self._failures):
            log.warning(
                "%s; tried again until it succeeds (%d times so far)",
                text,
                self._failures,
                extra={"event": "store-write-failed", "count": self._failures},
            )
        self._say(text)

    def _succeeded(self) -> None:
        if self.trouble:
            log.info("the store %s can be written again", self.path, extra={"event": "store-written-again"})
        self._failures = 0
        self._say("")

    def _report(self, damage: str) -> None:
        log.error("the store %s: %s", self.path, damage, extra={"event": "store-damaged"})
        self.damage = f"{self.damage}; {damage}" if self.damage else damage
        if self.on_trouble is not None:
            self.on_trouble(self.trouble)

    def _say(self, trouble: str) -> None:
        if trouble != self.trouble:
            self.trouble = trouble
            if self.on_trouble is not None:
                self.on_trouble(trouble)

    def _remaining(self) -> int:
        return sum(len(channel._pending) for channel in self._channels.values())


def _share(wasteful: tuple[float, Segment | None]) -> float:
    return wasteful[0]


@contextlib.asynccontextmanager
async def open_log(
    folder: Path,
    *,
    identity: str,
    max_bytes: int,
    sync_every: float = 0.0,
    close_timeout: float = 1.0,
    disk: Disk | None = None,
) -> AsyncIterator[Log]:
    """Open the log in the folder, which is made where it is missing, and lock it.

    `identity` says whose it is: deployment and connector. `sync_every` is the least time between the begins of two
    commits. At the end, also if it is cancelled, what was appended and settled is written: in at most `close_timeout`.
    `disk` is for tests.

    What can't be read is put aside, said in `Log.damage`, and never deleted; the rest is used. Raises `ConfigError` for
    a store of another identity or of a newer version, and `StoreError` if the disk can't be used now, or if another
    process uses the store: try again later.
    """
    disk = disk or Disk()
    writer = Writer(disk, folder)
    try:
        try:
            found = await trio.to_thread.run_sync(writer.open, identity, abandon_on_cancel=True)
        except OSError as exc:
            raise store_error(folder, exc) from exc
        opened = Log._create(folder, disk, writer, found, identity, max_bytes, sync_every)
        for damage in found.damage:
            log.error("the store %s: %s", folder, damage, extra={"event": "store-damaged"})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(opened._serve)
            nursery.start_soon(opened._watch)
            try:
                yield opened
            finally:
                opened._closing.set()
                with trio.move_on_after(close_timeout, shield=True):
                    await opened.commit()
                if left := opened._remaining():
                    reason = opened.trouble or "the disk has not answered in time"
                    log.warning(
                        "the store %s: %d messages were not stored: %s",
                        folder,
                        left,
                        reason,
                        extra={"event": "store-lost", "count": left},
                    )
                opened._serving.cancel()
                nursery.cancel_scope.cancel()
    finally:
        with trio.move_on_after(close_timeout, shield=True):
            await trio.to_thread.run_sync(writer.close, abandon_on_cancel=True)
