"""The gateway half of the MQTT connector: channels on one side, a session on the other.

Outbound, each channel has a pump that publishes in order, and publishes again on the next connection what the last one
did not acknowledge (`outbound.py`). Inbound, a message is acknowledged when every channel that wants it has it
(`inbound.py`). Here is what both share: the connection, again and again.
"""

from __future__ import annotations

import contextlib
import logging
import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import trio
from trio_util import move_on_when

from taktora_trio.channels import ChannelDescriptor
from taktora_trio.connectors.base import GatewayChannels
from taktora_trio.connectors.mqtt import poison, reconnect
from taktora_trio.connectors.mqtt.filters import ChannelFilters
from taktora_trio.connectors.mqtt.inbound import DEGRADED_FOR, InboundMessages
from taktora_trio.connectors.mqtt.outbound import OutboundPump
from taktora_trio.connectors.mqtt.poison import Alone, Suspicion
from taktora_trio.connectors.mqtt.presence import with_presence
from taktora_trio.connectors.mqtt.record import record_of
from taktora_trio.connectors.mqtt.routing import MqttRouting
from taktora_trio.connectors.mqtt.sessions import open_session
from taktora_trio.connectors.mqtt.sessions.client_state import ClientState
from taktora_trio.connectors.mqtt.sessions.session import OWN_PACKET_IDS, Session, SessionLost
from taktora_trio.connectors.mqtt.subscriptions import Subscriptions
from taktora_trio.errors import ConnectorError, leaves, summary
from taktora_trio.executor import Executor, on_message
from taktora_trio.health import Connecting, ConnectorHealth, Degraded, Down, HealthBoard, Up

if TYPE_CHECKING:
    from taktora_trio.connectors.mqtt.connector import MqttConnector

__all__ = ["serve_bridge"]

log = logging.getLogger(__name__)

_TOLD = 10  # channels that are named at once
_FAREWELL = 0.5  # seconds to tell whoever looks at the presence
_PUMPS = {"taktora_trio.connectors.mqtt.inbound", "taktora_trio.connectors.mqtt.outbound"}


async def serve_bridge(
    connector: MqttConnector, channels: GatewayChannels, health: HealthBoard, stop: trio.Event
) -> None:
    """Carry messages both ways until `stop` is set; then publish what is queued, disconnect, and return.

    Connects again and again, with backoff (`reconnect.py`). Whatever goes wrong with a connection is the end of that
    connection alone; what goes wrong in a pump is raised.
    """
    await _Bridge(connector, channels, health, stop).serve()


class _Ended(NamedTuple):
    """How a connection went wrong, and the seconds for which it had been up; `None` if it never was."""

    failure: Exception
    uptime: float | None


class _Bridge:
    def __init__(
        self, connector: MqttConnector, channels: GatewayChannels, health: HealthBoard, stop: trio.Event
    ) -> None:
        self._name = connector.name
        self._options, self._presence = with_presence(connector.options_as(channels.name))
        self._health = health
        self._stop = stop
        self._revive = channels.revive
        self._state = ClientState()
        self._inbound = InboundMessages(connector, channels.inbound, health)
        filters = ChannelFilters(channel for channel in connector.channels if channel.direction == "in")
        self._subscriptions = Subscriptions(connector.name, filters, record_of(self._options))
        self._pumps = _pumps(connector, channels, health)
        self._of_qos_2 = _of_qos_2(connector)
        self._executor = channels.executor or Executor()
        self._suspicion = Suspicion()
        self._alone: tuple[str, int, float, bool] | None = None  # as in `Alone`, with the time of its publishing
        self._complaints: list[str] = []  # that were told last
        self._unexpected = ""  # the last one, of which the traceback has been logged
        channels.duties.extend(pump.stalled for pump in self._pumps)
        _add_items(self._executor, connector, self._pumps, self._inbound)

    async def serve(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._executor.run)
            history = reconnect.History()
            while not self._stop.is_set():
                self._health.report(self._name, Connecting())
                ended = await self._connect()
                if self._stop.is_set() or ended is None:
                    break
                history, retry = reconnect.after(history, *ended, self._options.reconnect, self._options.client_id)
                self._look_for_poison(ended)
                self._presence.ended(ended.failure)
                self._report(ended, retry)
                if await self._pause(retry.delay):
                    history = reconnect.History()
                    self._presence.revived()
            self._health.report(self._name, Down("the gateway was stopped"))
            for pump in self._pumps:
                pump.log_unpublished()
            self._inbound.log_undelivered()
            nursery.cancel_scope.cancel()

    async def _connect(self) -> _Ended | None:
        """One connection, from its beginning to its end. `None` if it ended because of a stop."""
        self._revive.value = False
        options, since = self._presence.applied_to(self._options), None
        failure: Exception | None = None
        try:
            async with (
                move_on_when(self._stop.wait),
                open_session(options, self._inbound.deliver, self._state, self._inbound.max_payload) as session,
            ):
                self._inbound.attach(session)  # before anything can come
                await self._subscriptions.renew(session)
                since = trio.current_time()
                self._presence.up(session)
                log.info("%s: connected to %s", self._name, options.broker)
                self._show_subscriptions()
                if self._of_qos_2 > session.limits.of_qos_2:
                    told = "%s: %d channels of QoS 2, and a broker may drop what is beyond %d messages at once%s"
                    way_out = "" if options.protocol == "5" else "; with protocol='5' it says how many it takes"
                    log.warning(told, self._name, self._of_qos_2, session.limits.of_qos_2, way_out)
                for pump in self._pumps:
                    pump.tell_put_aside()
                failure = await self._carry(session)
        except* Exception as group:
            # Whatever goes wrong with a connection must not end the gateway.
            causes = leaves(group)
            if any(isinstance(cause, MemoryError) or _is_of_a_pump(cause) for cause in causes):
                raise
            expected = [cause for cause in causes if isinstance(cause, ConnectorError)]
            failure = cast(Exception, (expected or causes)[0])
        if failure is None:
            return None
        return _Ended(failure, None if since is None else trio.current_time() - since)

    def _show_subscriptions(self) -> None:
        complaints = self._subscriptions.complaints
        if len(complaints) > _TOLD:
            complaints[_TOLD:] = [f"and {len(complaints) - _TOLD} more channels"]
        if complaints != self._complaints:
            self._complaints = complaints
            for complaint in complaints:
                log.error("%s: %s", self._name, complaint)
        self._health.report(self._name, Degraded("; ".join(complaints)) if complaints else Up())

    async def _subscribe_again(self, session: Session) -> None:
        """Serve: ask now and then for what the broker has refused, until it refuses nothing."""
        delays = reconnect.REFUSED.delays()
        while self._subscriptions.complaints:
            if await self._pause(next(delays)):
                delays = reconnect.REFUSED.delays()
            self._revive.value = False
            await self._subscriptions.ask_again(session)
            self._show_subscriptions()

    async def _carry(self, session: Session) -> SessionLost:
        """Let the pumps publish until the session is lost. When cancelled by a stop, drain them first."""
        try:
            if self._suspicion.trial:
                async with move_on_when(session.wait_until_lost):
                    await self._publish_one_by_one(session)
            with contextlib.ExitStack() as lent:
                for pump in self._pumps:
                    lent.enter_context(pump.publishing(session))
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._subscribe_again, session)
                    lost = await session.wait_until_lost()
                    nursery.cancel_scope.cancel()
                return lost
        finally:
            if self._stop.is_set():
                # What the app has sent before it stopped is still to be published, and this is the last chance.
                with trio.CancelScope(shield=True, deadline=trio.current_time() + self._options.drain_timeout):
                    async with move_on_when(session.wait_until_lost), trio.open_nursery() as nursery:
                        for pump in self._pumps:
                            nursery.start_soon(pump.drain, session)
                with trio.CancelScope(shield=True, deadline=trio.current_time() + _FAREWELL):
                    await self._presence.down(session)

    async def _publish_one_by_one(self, session: Session) -> None:
        """What is not acknowledged, with nothing else on its way: so it is certain behind what a connection ends."""
        log.warning("%s: connections end right behind a message: publishing one by one, to find which", self._name)
        await trio.sleep(poison.QUIET)
        others_pass = self._presence.is_answered
        unfinished = [(pump.channel.name, number) for pump in self._pumps for number in pump.unfinished]
        pumps = {pump.channel.name: pump for pump in self._pumps}
        for channel, number in poison.in_order(unfinished, self._suspicion.suspect, others_pass=others_pass):
            self._alone = (channel, number, trio.current_time(), others_pass)
            with trio.move_on_after(poison.SOON) as patience:
                await pumps[channel].publish_alone(session, number)
            self._alone = None
            if patience.cancelled_caught:
                break
            others_pass = others_pass or pumps[channel].is_acknowledged
        self._suspicion = Suspicion()

    def _look_for_poison(self, ended: _Ended) -> None:
        """Suspect a message, or set it aside, if that is why the connection ended."""
        alone, self._alone = self._alone, None
        silent = isinstance(ended.failure, SessionLost) and ended.failure.silent
        if ended.uptime is None:
            self._suspicion = Suspicion()
        elif not self._suspicion.trial:
            heads = {pump.channel.name: pump.unfinished[0] for pump in self._pumps if pump.unfinished}
            self._suspicion = poison.after_loss(self._suspicion, heads, ended.uptime, silent=silent)
        elif alone is None:
            self._suspicion = Suspicion()
        else:
            channel, number, since, others_pass = alone
            told = Alone(channel, number, trio.current_time() - since, others_pass)
            self._suspicion, guilty = poison.after_trial(self._suspicion, told, silent=silent)
            if guilty:
                next(pump for pump in self._pumps if pump.channel.name == channel).set_aside(number)

    def _report(self, ended: _Ended, retry: reconnect.Retry) -> None:
        """Say and show what went wrong, and when it is tried again."""
        if not isinstance(ended.failure, ConnectorError):
            self._log_unexpected(ended.failure)
        name, broker = self._name, self._options.broker
        if retry.refused:
            again = "%s: %s: %s; trying again in %.0f s, or when asked to by `taktora-trio revive`"
            log.error(again, name, broker, retry.reason, retry.delay)
            state: ConnectorHealth = Down(retry.reason, next_attempt=time.time() + retry.delay)
        else:
            verb = "cannot reach" if ended.uptime is None else "lost"
            log.warning("%s: %s %s: %s; trying again in %.1f s", name, verb, broker, retry.reason, retry.delay)
            state = Connecting()
        self._health.report(name, state, retry.reason)

    def _log_unexpected(self, failure: Exception) -> None:
        told = summary(failure)
        if told != self._unexpected:  # else its traceback is in the log already
            self._unexpected = told
            log.error("%s: the connection ended by an error: %s", self._name, told, exc_info=failure)

    async def _pause(self, seconds: float) -> bool:
        """Wait for so long, or until a stop, or until somebody asks for an attempt at once: whether that was it."""
        async with move_on_when(self._stop.wait), move_on_when(self._revive.wait_value, True) as waiting:
            await trio.sleep(seconds)
        return bool(waiting.cancelled_caught)


def _is_of_a_pump(exc: BaseException) -> bool:
    """Whether it came out of a pump, which the session has called: then it would come again on every connection."""
    return any(frame.f_globals.get("__name__") in _PUMPS for frame, _ in traceback.walk_tb(exc.__traceback__))


def _of_qos_2(connector: MqttConnector) -> int:
    """How many channels publish at QoS 2."""
    return sum(ch.direction == "out" and cast(MqttRouting, ch.routing).qos == 2 for ch in connector.channels)


def _pumps(connector: MqttConnector, channels: GatewayChannels, health: HealthBoard) -> list[OutboundPump]:
    """One for each outbound channel, and packet identifiers for each that needs them."""
    outbound = [channel for channel in connector.channels if channel.direction == "out"]
    most = max(1, (OWN_PACKET_IDS - 1) // max(1, len(outbound)))
    inflight = min(connector.options.max_inflight, most)

    def trouble(channel: str) -> Callable[[str], None]:
        def tell(reason: str) -> None:
            health.degrade(connector.name, f"channel {channel}: {reason}", DEGRADED_FOR)

        return tell

    return [
        OutboundPump(
            channel,
            channels.outbound[channel.name],
            inflight,
            1 + number * inflight,
            _of_qos_2(connector),
            on_trouble=trouble(channel.name),
        )
        for number, channel in enumerate(outbound)
    ]


def _add_items(
    executor: Executor, connector: MqttConnector, pumps: list[OutboundPump], inbound: InboundMessages
) -> None:
    """An item for each channel, in one cycle a batch of messages: by these the observers see what the gateway does."""

    def name(channel: ChannelDescriptor[Any]) -> str:
        return f"gateway.{connector.name}.{channel.name}"

    for pump in pumps:
        executor.add(pump.publish_batch, on_message(pump), name=name(pump.channel))
    inbound.add_items(executor, name)
