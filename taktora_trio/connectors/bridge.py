"""Bridge: one connector's channels on one side, connection after connection on the other. No protocol's own.

Outbound, each channel has an outbox, which publishes in order, and publishes again on the next connection what the last
one did not acknowledge. Inbound, the inbox acknowledges a message when the app is done with it in every channel that it
is for. The bridge is what both share: the connection, again and again.
"""

from __future__ import annotations

import contextlib
import logging
import time
import traceback
from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import trio
from trio_util import AsyncBool, AsyncValue, move_on_when

from taktora_trio.connectors import reconnect
from taktora_trio.connectors.base import Connector, GatewayChannels
from taktora_trio.connectors.connection import Connection, ConnectionLeft, ConnectionLost
from taktora_trio.connectors.inbox import DEGRADED_FOR, Inbox
from taktora_trio.connectors.outbox import Outbox, PublishFailed
from taktora_trio.connectors.retry import Retry
from taktora_trio.connectors.sending_again import SendingAgain
from taktora_trio.connectors.trial import Trials
from taktora_trio.errors import ConnectorError, leaves, summary
from taktora_trio.health import Connecting, ConnectorHealth, Degraded, Down, Up

if TYPE_CHECKING:
    from taktora_trio.connectors.storing.inbound import StoredInbox
    from taktora_trio.connectors.storing.keeper import StoreKeeper

__all__ = ["Bridge"]

log = logging.getLogger(__name__)

_NAMED = 10  # refused channels that are named at once
_FAREWELL = 0.5  # seconds to say goodbye
_PUMPS = {"taktora_trio.connectors.inbox", "taktora_trio.connectors.outbox"}


class _Ended(NamedTuple):
    """A failure, and the seconds for which the connection had been up; `None` if it never was."""

    failure: Exception
    uptime: float | None


class Bridge:
    """The gateway half of one connector, until `stop` is set. Make it, then let `serve` run once."""

    def __init__(
        self,
        connector: Connector,
        channels: GatewayChannels,
        stop: trio.Event,
        store: StoreKeeper | None = None,
        stored_inbox: StoredInbox | None = None,
    ) -> None:
        """`store` keeps some of the outbound channels on disk, and `stored_inbox` some of the inbound ones.

        Raises whatever the connector raises when it makes its client.
        """
        self.connections = 0
        """Counts the connections that were complete."""
        self._name = connector.name
        self._options = connector.options
        self._health = health = channels.health
        self._stop = stop
        self._attempt: trio.CancelScope | None = None  # to connect, which a stop cancels
        self._revive = AsyncBool()  # made false when an attempt begins: asked for just before a delay, it ends that
        self._failure = AsyncValue[PublishFailed | None](None)  # of this connection
        self._complaints: list[str] = []  # that were logged last
        self._unexpected = ""  # the last one, of which the traceback has been logged
        self._stored_inbox = stored_inbox
        sinks: dict[str, Any] = {**channels.inbound, **(stored_inbox.sinks if stored_inbox is not None else {})}
        self._pump = pump = channels.pump
        self.inbox = Inbox(
            connector.name,
            [(channel, sinks[channel.name]) for channel in connector.channels if channel.direction == "in"],
            lambda topic: self._client.channels_of(topic),
            connector.options.inbound_backlog,
            health,
            pump,
            lambda failure: self._publish_failed(PublishFailed(failure)),
            channels.dead_letters,
        )
        self._store = store
        self._dead_letters = channels.dead_letters
        self._client = connector.client(channels, self.inbox.deliver)
        self.outboxes = {
            channel.name: Outbox(
                channel.name,
                channels.outbound[channel.name],
                connector.options.max_inflight,
                pump,
                window=channel.window,
                guarantee=self._client.guarantee(channel.name),
                on_trouble=self._trouble_of(channel.name),
                on_failure=self._publish_failed,
            )
            for channel in connector.channels
            if channel.direction == "out"
        }
        self._again = (
            SendingAgain(connector.name, list(channels.inbound), self.inbox, channels.dead_letters)
            if channels.dead_letters is not None and channels.inbound
            else None
        )
        self._trials = Trials(connector.name, self._client, list(self.outboxes.values()))
        self._executor = channels.executor
        # An item, in one cycle a batch of messages: so the observers see what the gateway does.
        pump.add_to(self._executor, f"gateway.{self._name}")

    async def serve(self) -> None:
        """Serve: carry messages both ways until `stop` is set; then publish what is queued, disconnect, and return.

        Connects again and again, with backoff (`reconnect.py`). Whatever goes wrong with a connection is the end of
        that connection alone; what goes wrong in an outbox or the inbox is raised.
        """
        async with trio.open_nursery() as nursery:
            if self._store is not None:
                await nursery.start(self._store.serve)
            if self._stored_inbox is not None:
                await nursery.start(self._stored_inbox.serve)
            nursery.start_soon(self._executor.run)
            nursery.start_soon(self._cancel_attempt_at_stop)
            nursery.start_soon(self._client.serve)
            if self._again is not None:
                nursery.start_soon(self._again.serve)
            histories = defaultdict[str, reconnect.History](reconnect.History)  # by address
            while not self._stop.is_set():
                self._health.report(self._name, Connecting())
                ended = await self._connect()
                if ended is not None:
                    self._log_unexpected(ended.failure)
                if self._stop.is_set() or ended is None:
                    break
                address, place, backoff = self._client.address, self._client.place, self._options.reconnect
                histories[address], retry = reconnect.after(histories[address], *ended, backoff, self._client.hint)
                self._trials.ended(*ended)
                self._client.ended(ended.failure)
                retry = self._client.next_attempt(retry)
                self._report(ended, address, retry, f"{place}: {retry.reason}" if place else retry.reason)
                if await self._pause(retry.delay):
                    histories.clear()
                    self._client.revived()
            self._health.report(self._name, Down("the gateway was stopped"))
            for outbox in self.outboxes.values():
                outbox.log_unpublished()
            self.inbox.log_undelivered()
            if self._stored_inbox is not None:
                self._stored_inbox.log_undelivered()
            nursery.cancel_scope.cancel()

    @property
    def peer(self) -> str:
        """The address that it connects to, without secrets."""
        return self._client.address

    def revive(self) -> None:
        """Attempt to connect at once, or ask again at once for what the other side has refused."""
        self._revive.value = True

    def send_letters(self) -> None:
        """Give those dead letters to the app once more that an operator has marked."""
        if self._again is not None:
            self._again.look()

    def stalled(self) -> str | None:
        """Return the work that could be done and was not since the last call; `None` if there is none."""
        for outbox in self.outboxes.values():
            if reason := outbox.stalled():
                return f"{self._name}: {reason}"
        return None

    async def _connect(self) -> _Ended | None:
        """One connection, from its beginning to its end. Returns `None` if it ended because of a stop."""
        self._revive.value = False
        self._failure.value = None
        since: float | None = None
        failure: Exception | None = None
        try:
            with trio.CancelScope() as self._attempt:
                async with self._client.connect() as connection:
                    self.inbox.attach(connection)  # before anything can come
                    await connection.start()
                    self.inbox.started()
                    # From now on a stop cancels nothing of the connection, which is still needed for the drain.
                    self._attempt = None
                    since = trio.current_time()
                    self.connections += 1
                    log.info(
                        "%s: connected to %s",
                        self._name,
                        self._client.address,
                        extra={"event": "connected", "connector": self._name, "address": str(self._client.address)},
                    )
                    self._show_refused(connection)
                    for outbox in self.outboxes.values():
                        outbox.show_set_aside()
                    with contextlib.nullcontext() if self._store is None else self._store.connected():
                        failure = await self._carry(connection)
        except* Exception as group:
            # Whatever goes wrong with a connection must not end the gateway.
            causes = leaves(group)
            if any(isinstance(cause, MemoryError) or _is_of_a_pump(cause) for cause in causes):
                raise
            causes = [cause.failure if isinstance(cause, PublishFailed) else cause for cause in causes]
            expected = [cause for cause in causes if isinstance(cause, ConnectorError)]
            failure = cast(Exception, (expected or causes)[0])
        if failure is None:
            return None
        return _Ended(failure, None if since is None else trio.current_time() - since)

    def _show_refused(self, connection: Connection) -> None:
        complaints = list(connection.refused_channels())
        if len(complaints) > _NAMED:
            complaints[_NAMED:] = [f"and {len(complaints) - _NAMED} more channels"]
        if complaints != self._complaints:
            self._complaints = complaints
            for complaint in complaints:
                log.error("%s: %s", self._name, complaint, extra={"event": "channel-refused", "connector": self._name})
        self._health.report(self._name, Degraded("; ".join(complaints)) if complaints else Up(self._client.place))

    async def _ask_again(self, connection: Connection) -> None:
        """Serve: ask now and then for what the other side has refused, until it refuses nothing."""
        delays = reconnect.REFUSED.delays()
        while connection.refused_channels():
            if await self._pause(next(delays)):
                delays = reconnect.REFUSED.delays()
            self._revive.value = False
            await connection.ask_again()
            self._show_refused(connection)

    async def _cancel_attempt_at_stop(self) -> None:
        await self._stop.wait()
        if self._store is not None:
            self._store.stop()
        if self._attempt is not None:
            self._attempt.cancel()

    async def _carry(self, connection: Connection) -> ConnectionLost | None:
        """Let the outboxes publish until the connection is lost. At a stop drain them, and return `None`."""
        try:
            async with move_on_when(self._stop.wait):
                return await self._publish(connection)
            return None
        finally:
            if self._stop.is_set():
                await self._end_politely(connection)

    async def _end_politely(self, connection: Connection) -> None:
        try:
            # This is the last chance for messages that the app has sent before it stopped.
            with trio.CancelScope(shield=True, deadline=trio.current_time() + self._options.drain_timeout):
                async with move_on_when(connection.wait_until_lost), trio.open_nursery() as nursery:
                    for outbox in self.outboxes.values():
                        if outbox.has_work:  # there may be thousands that have none
                            nursery.start_soon(outbox.drain, connection)
        finally:
            self.inbox.settle()
            if self._dead_letters is not None:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + _FAREWELL):
                    await self._dead_letters.flush()
            with trio.CancelScope(shield=True, deadline=trio.current_time() + _FAREWELL):
                await connection.farewell()

    async def _publish(self, connection: Connection) -> ConnectionLost:
        if self._trials.is_due:
            async with move_on_when(connection.wait_until_lost):
                await self._trials.publish_one_by_one(connection)
        with self._pump.serving(connection), contextlib.ExitStack() as lent:
            for outbox in self.outboxes.values():
                lent.enter_context(outbox.publishing(connection))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._ask_again, connection)
                nursery.start_soon(self._raise_failure)
                lost = await connection.wait_until_lost()
                nursery.cancel_scope.cancel()
            return lost

    def _publish_failed(self, failure: PublishFailed) -> None:
        self._failure.value = failure

    async def _raise_failure(self) -> None:
        raise cast(PublishFailed, await self._failure.wait_value(lambda failure: failure is not None))

    def _report(self, ended: _Ended, address: str, retry: Retry, reason: str) -> None:
        """Log and show what went wrong at this address, and when it is tried again, or which is tried next."""
        name, following = self._name, self._client.address
        again = "again" if following == address else following
        if isinstance(ended.failure, ConnectionLeft):
            log.info(
                "%s: left %s: %s",
                name,
                address,
                retry.reason,
                extra={"event": "connection-left", "connector": name, "address": str(address)},
            )
            state: ConnectorHealth = Connecting()
        elif retry.refused:
            text = "%s: %s: %s; trying %s in %.0f s, or when asked to by `taktora-trio revive`"
            log.error(
                text,
                name,
                address,
                retry.reason,
                again,
                retry.delay,
                extra={"event": "login-refused", "connector": name, "address": str(address), "delay": retry.delay},
            )
            state = Down(reason, next_attempt=time.time() + retry.delay)
        else:
            verb = "cannot reach" if ended.uptime is None else "lost"
            text = "%s: %s %s: %s; trying %s in %.1f s"
            log.warning(
                text,
                name,
                verb,
                address,
                retry.reason,
                again,
                retry.delay,
                extra={
                    "event": "connection-failed" if ended.uptime is None else "connection-lost",
                    "connector": name,
                    "address": str(address),
                    "delay": retry.delay,
                },
            )
            state = Connecting()
        self._health.report(name, state, reason)

    def _log_unexpected(self, failure: Exception) -> None:
        text = summary(failure)
        if not isinstance(failure, ConnectorError) and text != self._unexpected:  # else its traceback is in the log
            self._unexpected = text
            log.error(
                "%s: the connection ended by an error: %s",
                self._name,
                text,
                exc_info=failure,
                extra={"event": "connection-error", "connector": self._name},
            )

    async def _pause(self, seconds: float) -> bool:
        """Wait for so long, or until a stop, or until `revive`. Returns true if it was `revive`."""
        async with move_on_when(self._stop.wait), move_on_when(self._revive.wait_value, True) as waiting:
            await trio.sleep(seconds)
        return bool(waiting.cancelled_caught)

    def _trouble_of(self, channel: str) -> Callable[[str], None]:
        def show(reason: str) -> None:
            self._health.degrade(self._name, f"channel {channel}: {reason}", DEGRADED_FOR)

        return show


def _is_of_a_pump(exc: BaseException) -> bool:
    """Return true if it was raised by the outbox or inbox: then it would be raised again on every connection."""
    if isinstance(exc, PublishFailed):
        return False
    return any(frame.f_globals.get("__name__") in _PUMPS for frame, _ in traceback.walk_tb(exc.__traceback__))
