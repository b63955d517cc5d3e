"""A query that the library has handed over, as a question of ours."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import zenoh

from taktora_trio.connectors.zenoh.native.values import content, encoding_of, timestamp_of
from taktora_trio.connectors.zenoh.session import Question

__all__ = ["NativeQuestion"]


class NativeQuestion(Question):
    """A query that the library has handed over."""

    def __init__(self, query: zenoh.Query, later: Callable[..., None]) -> None:
        self.key = str(query.key_expr)
        self.payload = content(query.payload)
        self.encoding = encoding_of(query.encoding)
        self.attachment = content(query.attachment)
        self._query, self._later = query, later
        self._is_closed = False

    def reply(self, key: str, payload: bytes, encoding: str = "", attachment: bytes = b"", timestamp: str = "") -> None:
        if not self._is_closed:
            args = (key, payload, encoding or None, attachment or None, timestamp)
            self._later(self._reply, args, None, len(payload))

    def _reply(self, key: str, payload: bytes, encoding: str | None, attachment: bytes | None, timestamp: str) -> None:
        with contextlib.suppress(zenoh.ZError):  # whoever asked is gone
            stamp = timestamp_of(timestamp)
            self._query.reply(key, payload, encoding=encoding, attachment=attachment, timestamp=stamp)

    def fail(self, payload: bytes) -> None:
        if not self._is_closed:
            self._later(self._fail, (payload,), None, len(payload))

    def _fail(self, payload: bytes) -> None:
        with contextlib.suppress(zenoh.ZError):
            self._query.reply_err(payload)

    def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._later(self._query.drop)

    def drop(self) -> None:
        """Close it at once, unanswered. It may have to wait for the network: in a worker thread."""
        self._is_closed = True
        self._query.drop()
