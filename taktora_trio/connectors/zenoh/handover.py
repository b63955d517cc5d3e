"""From the library's threads to trio's: what comes is handed over a batch at a time, in the order in which it came."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeAlias

import trio

from taktora_trio.connectors.zenoh.session import Question, Sample

__all__ = ["Handover", "size_of"]

_BATCH = 64  # of content, between two turns of the loop
_OVERHEAD = 480  # bytes of an item that waits, besides its content

_Entry: TypeAlias = tuple[Callable[[Any], None], Any, int]  # what to call, with what, and its size


def size_of(item: Sample | Question) -> int:
    """Return the bytes that the item takes while it waits."""
    return _OVERHEAD + len(item.key) + len(item.payload) + len(item.attachment)


class Handover:
    """Two queues with one wake-up: news, which always goes on, and content, which a pause holds back.

    Content is bounded in bytes, so that memory is bounded while reading is paused and while trio's thread is busy. The
    library's threads never wait for trio's.
    """

    def __init__(self, most: int) -> None:
        """`most` is the number of bytes of content that may wait."""
        self.on_discarded: Callable[[int], None] = lambda count: None
        """Called with the number of items for which there was no room and that are lost for it, once others go on."""
        self._discarded = 0
        self.answers: AbstractContextManager[object] = nullcontext()
        """Entered around each batch."""
        self._most = most
        self._token = trio.lowlevel.current_trio_token()
        self._lock = threading.Lock()  # of all that follows
        self._news: deque[Callable[[], None]] = deque()
        self._content: deque[_Entry] = deque()
        self._size = 0
        self._is_woken = False
        self._is_paused = False
        self._is_open = True
        self._failure: Exception | None = None  # of what was called; trio's thread alone has this
        self._failed = trio.Event()

    # In any thread

    def tell(self, call: Callable[[], None]) -> None:
        """Have this called, pause or not."""
        with self._lock:
            if not self._is_open:
                return
            self._news.append(call)
            wake, self._is_woken = not self._is_woken, True
        if wake:
            self._wake()

    def take(self, call: Callable[[Any], None], item: object, size: int, *, comes_again: bool = False) -> bool:
        """Have this called with the item. Return false if there is no room: it is lost then, unless it comes again."""
        with self._lock:
            if not self._is_open:
                return False
            if self._size + size > self._most:
                self._discarded += not comes_again
                return False
            self._size += size
            self._content.append((call, item, size))
            if self._is_paused or self._is_woken:
                return True
            self._is_woken = True
        self._wake()
        return True

    def _wake(self) -> None:
        with contextlib.suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._hand_over)

    # In trio's thread

    def pause(self) -> None:
        with self._lock:
            self._is_paused = True

    def resume(self) -> None:
        with self._lock:
            if not self._is_open:
                return
            self._is_paused = False
            wake = bool(self._content) and not self._is_woken
            self._is_woken = self._is_woken or wake
        if wake:
            self._wake()

    def close(self) -> list[Any]:
        """Hand over nothing more, and return the content that waits."""
        with self._lock:
            self._is_open = False
            left = [item for _, item, _ in self._content]
            self._content.clear()
            self._news.clear()
        return left

    async def raise_failure(self) -> None:
        """Serve: raise what something raised that was called, for it is called where nobody could take that."""
        await self._failed.wait()
        assert self._failure is not None
        raise self._failure

    def _hand_over(self) -> None:
        with self._lock:
            self._is_woken = False
            if not self._is_open:
                return
        try:
            with self.answers:
                for call in self._pending_news():
                    call()
                self._hand_over_content()
                if self._discarded:
                    self._tell_discarded()
        except Exception as exc:  # noqa: BLE001 - raised by `raise_failure`
            self._failure = exc
            self.close()
            self._failed.set()

    def _tell_discarded(self) -> None:
        with self._lock:
            discarded, self._discarded = self._discarded, 0
        self.on_discarded(discarded)

    def _pending_news(self) -> Iterator[Callable[[], None]]:
        while self._news:
            yield self._news.popleft()

    def _hand_over_content(self) -> None:
        """Hand over a batch, until a pause: the rest takes another turn, before which the app has one."""
        batch = self._take_batch()
        try:
            while batch and not self._is_paused:
                on_item, item, _ = batch.popleft()
                on_item(item)
        finally:
            self._put_back(batch)

    def _take_batch(self) -> deque[_Entry]:
        batch = deque[_Entry]()
        with self._lock:
            if not self._is_paused:
                content = self._content
                while content and len(batch) < _BATCH:
                    batch.append(content.popleft())
                self._size -= sum([size for _, _, size in batch])
        return batch

    def _put_back(self, batch: deque[_Entry]) -> None:
        """Have the rest wait before what waits, and wake for all that."""
        with self._lock:
            if batch:
                self._content.extendleft(reversed(batch))
                self._size += sum([size for _, _, size in batch])
            if not self._content or self._is_paused or self._is_woken or not self._is_open:
                return
            self._is_woken = True
        self._wake()
