"""Opens a connection while another one works, and hands it over: the new one is made before the old one is left."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import trio

from taktora_trio.connectors.mqtt.sessions.session import Session
from taktora_trio.connectors.mqtt.wire.message import Message, OnMessage

__all__ = ["OpenSession", "SessionAhead", "open_ahead"]

OpenSession = Callable[[OnMessage], AbstractAsyncContextManager[Session]]


class SessionAhead:
    """A session that the broker has accepted, and that nobody uses yet. It delivers nothing until `begin`."""

    def __init__(self, on_message: Callable[[Any], None]) -> None:
        self.session: Session
        self._on_message = on_message
        self._early: list[Message] | None = []
        self._used = trio.Event()
        self._closed = trio.Event()
        self._failure: Exception | None = None

    def deliver(self, message: Message) -> None:
        if self._early is None:
            self._on_message(message)
        else:
            self._early.append(message)

    def begin(self) -> None:
        """Deliver what has come so far, and whatever comes from now on."""
        early, self._early = self._early or [], None
        for message in early:
            self._on_message(message)

    @contextlib.asynccontextmanager
    async def use(self) -> AsyncIterator[Session]:
        """Use the session, as if it were opened at the beginning of the block; it is closed when the block is left.

        Raises what the session's tasks raise.
        """
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._raise_failure)
                try:
                    yield self.session
                finally:
                    nursery.cancel_scope.cancel()
        finally:
            self._used.set()
            with trio.CancelScope(shield=True):  # a session bounds the time for its own end
                await self._closed.wait()

    async def _raise_failure(self) -> None:
        await self._closed.wait()
        if self._failure is not None:
            raise self._failure

    async def serve(self, opened: AbstractAsyncContextManager[Session], task_status: trio.TaskStatus[None]) -> None:
        try:
            async with opened as self.session:
                self.session.pause_reading()  # which bounds what has come until `begin`
                task_status.started()
                await self._used.wait()
        except Exception as exc:
            if not hasattr(self, "session"):
                raise
            self._failure = exc  # it ends the connection alone
        finally:
            self._closed.set()


@contextlib.asynccontextmanager
async def open_ahead(open_session: OpenSession, on_message: Callable[[Any], None]) -> AsyncIterator[SessionAhead]:
    """Connect. The block lasts until the session was used, unless it is left by an error. Raises as `open_session`."""
    ahead = SessionAhead(on_message)
    async with trio.open_nursery() as nursery:
        await nursery.start(ahead.serve, open_session(ahead.deliver))
        yield ahead
