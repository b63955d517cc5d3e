"""The library's node and session. It alone imports `zenoh`.

The library has threads of its own, which call back. They hand over to trio's thread, and never wait for it
(`handover.py`). What may wait for the network is called in a worker thread (`sender.py`).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import trio
import zenoh
from msgspec.structs import replace
from trio_util import AsyncValue

from taktora_trio.connectors.connection import ConnectFailed, ConnectionLost
from taktora_trio.connectors.zenoh.configuring import configuration
from taktora_trio.connectors.zenoh.handover import Handover
from taktora_trio.connectors.zenoh.options import ZenohOptions
from taktora_trio.connectors.zenoh.sender import Sender
from taktora_trio.connectors.zenoh.session import Node, OnQuestion, OnSample, Quality, Question, Sample, Session
from taktora_trio.errors import ConfigError
from taktora_trio.escaping import escaped

__all__ = ["NativeNode", "open_node", "reason"]

_OVERHEAD = 480  # bytes of an item in a queue, besides its content
_BYTES = "zenoh/bytes"  # the default encoding
_MOST_PUBLISHERS = 1024


def reason(error: zenoh.ZError) -> str:
    """Return the error's text as one line, without the places in the library's source that end it."""
    text = str(error).split(" at /", 1)[0]
    return escaped(" ".join(text.split())) or "no reason is given"


def _config(options: ZenohOptions) -> zenoh.Config:
    try:
        config = zenoh.Config.from_file(options.config) if options.config is not None else zenoh.Config()
        for place, value in configuration(options).items():
            config.insert_json5(place, json.dumps(value))
    except zenoh.ZError as exc:
        raise ConfigError(f"ZenohOptions: the configuration is refused: {reason(exc)}") from None
    return config


def _call(function: Callable[[Any], None], *, drop: Callable[[], None] | None = None) -> Any:
    return zenoh.handlers.Callback(function, drop, indirect=False)


def _encoding(encoding: zenoh.Encoding | None) -> str:
    text = "" if encoding is None else str(encoding)
    return "" if text == _BYTES else text


def _bytes(content: zenoh.ZBytes | None) -> bytes:
    return b"" if content is None else content.to_bytes()


def _sample(sample: zenoh.Sample) -> Sample:
    return Sample(
        str(sample.key_expr),
        sample.payload.to_bytes(),
        _encoding(sample.encoding),
        _bytes(sample.attachment),
        sample.kind == zenoh.SampleKind.DELETE,
    )


def _stamped(sample: zenoh.Sample) -> Sample:
    stamp = sample.timestamp
    return replace(_sample(sample), timestamp="" if stamp is None else stamp.to_string_rfc3339_lossy())


def _timestamp(text: str) -> zenoh.Timestamp | None:
    return zenoh.Timestamp.parse_rfc3339(text) if text else None


def _size(sample: Sample) -> int:
    return _OVERHEAD + len(sample.key) + len(sample.payload) + len(sample.attachment)


class NativeQuestion(Question):
    """A query that the library has handed over."""

    def __init__(self, query: zenoh.Query, session: NativeSession) -> None:
        self.key = str(query.key_expr)
        self.payload = _bytes(query.payload)
        self.encoding = _encoding(query.encoding)
        self.attachment = _bytes(query.attachment)
        self._query, self._later = query, session.later
        self._is_closed = False

    def reply(self, key: str, payload: bytes, encoding: str = "", attachment: bytes = b"", timestamp: str = "") -> None:
        if not self._is_closed:
            self._later(partial(self._reply, key, payload, encoding or None, attachment or None, _timestamp(timestamp)))

    def _reply(
        self, key: str, payload: bytes, encoding: str | None, attachment: bytes | None, stamp: zenoh.Timestamp | None
    ) -> None:
        self._query.reply(key, payload, encoding=encoding, attachment=attachment, timestamp=stamp)

    def fail(self, payload: bytes) -> None:
        if not self._is_closed:
            self._later(partial(self._query.reply_err, payload))

    def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._later(self._query.drop)

    def drop(self) -> None:
        """Close it at once, in whatever thread, unanswered."""
        self._is_closed = True
        self._query.drop()


class NativeSession(Session):
    """What one connection has declared on the library's session."""

    def __init__(self, library: zenoh.Session, handover: Handover, sender: Sender, lost: AsyncValue[str]) -> None:
        self._library, self._handover, self._sender, self._lost = library, handover, sender, lost
        self._declared: list[Any] = []
        self._publishers: dict[tuple[str, Quality], zenoh.Publisher] = {}  # the sender's thread alone has this
        self.later = sender.later

    def put(
        self,
        key: str,
        payload: bytes,
        quality: Quality,
        encoding: str = "",
        attachment: bytes = b"",
        on_written: Callable[[], None] | None = None,
        *,
        timestamp: str = "",
    ) -> None:
        if timestamp:
            call = partial(self._put_at, timestamp, key, payload, quality, encoding or None, attachment or None)
        else:
            call = partial(self._put, key, payload, quality, encoding or None, attachment or None)
        self.later(call, on_written)

    def delete(
        self,
        key: str,
        quality: Quality,
        attachment: bytes = b"",
        on_written: Callable[[], None] | None = None,
        *,
        timestamp: str = "",
    ) -> None:
        self.later(partial(self._delete, key, quality, attachment or None, timestamp), on_written)

    def timestamp(self) -> str:
        return self._library.new_timestamp().to_string_rfc3339_lossy()

    def _put(self, key: str, payload: bytes, quality: Quality, encoding: str | None, attachment: bytes | None) -> None:
        self._publisher(key, quality).put(payload, encoding=encoding, attachment=attachment)

    def _put_at(
        self, stamp: str, key: str, payload: bytes, quality: Quality, encoding: str | None, attachment: bytes | None
    ) -> None:
        publisher = self._publisher(key, quality)
        publisher.put(payload, encoding=encoding, attachment=attachment, timestamp=_timestamp(stamp))

    def _delete(self, key: str, quality: Quality, attachment: bytes | None, stamp: str) -> None:
        self._publisher(key, quality).delete(attachment=attachment, timestamp=_timestamp(stamp))

    def _publisher(self, key: str, quality: Quality) -> zenoh.Publisher:
        publisher = self._publishers.get((key, quality))
        if publisher is None:
            if len(self._publishers) >= _MOST_PUBLISHERS:
                for other in self._publishers.values():
                    other.undeclare()
                self._publishers.clear()
            publisher = self._library.declare_publisher(
                key,
                congestion_control=_CONGESTION_CONTROL[quality.congestion_control],
                priority=_PRIORITY[quality.priority],
                reliability=_RELIABILITY[quality.reliability],
                express=quality.express,
            )
            self._publishers[key, quality] = publisher
        return publisher

    def ask(
        self,
        key: str,
        payload: bytes,
        quality: Quality,
        encoding: str,
        attachment: bytes,
        timeout: float,
        on_reply: OnSample,
        on_failure: Callable[[bytes], None],
        on_end: Callable[[], None],
        *,
        complete: bool = False,
    ) -> None:
        tell = self._handover.tell

        def take(reply: zenoh.Reply) -> None:
            if reply.ok is not None:
                tell(partial(on_reply, _stamped(reply.ok)))
            elif reply.err is not None:
                tell(partial(on_failure, reply.err.payload.to_bytes()))

        self.later(
            partial(
                self._library.get,
                key,
                _call(take, drop=partial(tell, on_end)),
                target=_TARGET[complete],
                consolidation=zenoh.ConsolidationMode.NONE,
                timeout=timeout,
                congestion_control=_CONGESTION_CONTROL[quality.congestion_control],
                priority=_PRIORITY[quality.priority],
                express=quality.express,
                payload=payload,
                encoding=encoding or None,
                attachment=attachment or None,
            )
        )

    async def subscribe(
        self, key: str, on_sample: OnSample, *, stamped: bool = False, others_only: bool = False
    ) -> None:
        take, read = self._handover.take, _stamped if stamped else _sample

        def came(sample: zenoh.Sample) -> None:
            item = read(sample)
            take(on_sample, item, _size(item))

        declare = partial(self._library.declare_subscriber, allowed_origin=_ORIGIN[others_only])
        await self._declare(partial(declare, key, _call(came)))

    async def answer(
        self, key: str, on_question: OnQuestion, *, complete: bool = True, others_only: bool = False
    ) -> None:
        take = self._handover.take

        def came(query: zenoh.Query) -> None:
            question = NativeQuestion(query, self)
            size = _OVERHEAD + len(question.key) + len(question.payload) + len(question.attachment)
            if not take(on_question, question, size):
                query.drop()

        declare = partial(self._library.declare_queryable, complete=complete, allowed_origin=_ORIGIN[others_only])
        await self._declare(partial(declare, key, _call(came)))

    async def token(self, key: str) -> None:
        await self._declare(partial(self._library.liveliness().declare_token, key))

    async def watch_tokens(self, key: str, on_token: OnSample) -> None:
        tell = self._handover.tell

        def came(sample: zenoh.Sample) -> None:
            tell(partial(on_token, _sample(sample)))

        declare = self._library.liveliness().declare_subscriber
        await self._declare(partial(declare, key, _call(came), history=True))

    async def watch_matching(self, key: str, on_change: Callable[[bool], None], *, complete: bool = False) -> None:
        tell = self._handover.tell

        def declare() -> tuple[Any, Any]:
            querier = self._library.declare_querier(key, target=_TARGET[complete])

            def tell_now() -> None:
                status: Any = querier.matching_status  # whose type is told wrongly
                on_change(status.matching)

            def changed(_: object = None) -> None:  # what two threads tell may come out of order: so look then
                tell(tell_now)

            listener = querier.declare_matching_listener(_call(changed))
            changed()
            return listener, querier

        await self._declare(declare)

    async def _declare(self, declare: Callable[[], Any]) -> None:
        try:
            declared = await trio.to_thread.run_sync(declare)
        except zenoh.ZError as exc:
            raise ConnectionLost(reason(exc)) from None
        self._declared += declared if isinstance(declared, tuple) else (declared,)

    async def flush(self) -> None:
        await self._sender.flush()

    def pause(self) -> None:
        self._handover.pause()

    def resume(self) -> None:
        self._handover.resume()

    async def wait_until_lost(self) -> ConnectionLost:
        return ConnectionLost(await self._lost.wait_value(bool))

    def end(self) -> None:
        """Undeclare everything. In a worker thread, when the sender has ended."""
        for declared in (*self._declared, *self._publishers.values()):
            with contextlib.suppress(zenoh.ZError):
                declared.undeclare()


class NativeNode(Node):
    """A node by the library."""

    def __init__(self, library: zenoh.Session, options: ZenohOptions) -> None:
        self._library, self._options = library, options
        self._links = AsyncValue(0)
        self._handover = Handover(options.inbound_backlog)

    @contextlib.asynccontextmanager
    async def served(self) -> AsyncIterator[None]:
        """Count the links while the block lasts."""

        def changed(event: zenoh.TransportEvent) -> None:
            self._handover.tell(partial(self._count, 1 if event.kind == zenoh.SampleKind.PUT else -1))

        self._library.info.declare_transport_events_listener(_call(changed), history=True)
        try:
            yield
        finally:
            self._handover.close()

    def _count(self, change: int) -> None:
        self._links.value += change

    async def wait_until_linked(self) -> None:
        await self._links.wait_value(lambda links: links > 0)

    @contextlib.asynccontextmanager
    async def open_session(self) -> AsyncIterator[Session]:
        lost, handover = AsyncValue(""), Handover(self._options.inbound_backlog)

        async def notice() -> None:
            await self._links.wait_value(lambda links: links <= 0)
            lost.value = "the other side ended the connection, or it broke"

        def failed(failure: Exception) -> None:
            if not isinstance(failure, zenoh.ZError):
                raise failure
            lost.value = lost.value or reason(failure)

        sender = Sender(failed)
        session = NativeSession(self._library, handover, sender, lost)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(notice)
            nursery.start_soon(handover.raise_failure)
            nursery.start_soon(sender.serve)
            try:
                yield session
            finally:
                for left in handover.close():
                    if isinstance(left, NativeQuestion):
                        left.drop()
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(session.end)
            nursery.cancel_scope.cancel()


def _open(config: zenoh.Config) -> zenoh.Session:
    try:
        return zenoh.open(config)
    except zenoh.ZError as exc:
        raise ConnectFailed(reason(exc)) from None


@contextlib.asynccontextmanager
async def open_node(options: ZenohOptions) -> AsyncIterator[NativeNode]:
    """Join the network. In client mode raises `ConnectFailed` if there is no router within `connect_timeout`."""
    library = await trio.to_thread.run_sync(_open, _config(options))
    try:
        node = NativeNode(library, options)
        async with node.served():
            yield node
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(library.close)


_PRIORITY = {
    "real-time": zenoh.Priority.REAL_TIME,
    "interactive-high": zenoh.Priority.INTERACTIVE_HIGH,
    "interactive-low": zenoh.Priority.INTERACTIVE_LOW,
    "data-high": zenoh.Priority.DATA_HIGH,
    "data": zenoh.Priority.DATA,
    "data-low": zenoh.Priority.DATA_LOW,
    "background": zenoh.Priority.BACKGROUND,
}
_CONGESTION_CONTROL = {"block": zenoh.CongestionControl.BLOCK, "drop": zenoh.CongestionControl.DROP}
_ORIGIN = {False: zenoh.Locality.ANY, True: zenoh.Locality.REMOTE}
_TARGET = {False: zenoh.QueryTarget.ALL, True: zenoh.QueryTarget.ALL_COMPLETE}
_RELIABILITY = {"reliable": zenoh.Reliability.RELIABLE, "best-effort": zenoh.Reliability.BEST_EFFORT}
