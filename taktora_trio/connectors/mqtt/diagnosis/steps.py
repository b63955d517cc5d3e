"""Examines one broker step by step, each bounded in time, and only if the one before has worked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import attrs
import trio
from trio_util import move_on_when

from taktora_trio.channels import ChannelDescriptor
from taktora_trio.connectors.examining.reaching import Server, connections, names
from taktora_trio.connectors.finding import Finding, fail, ok
from taktora_trio.connectors.mqtt.diagnosis.capabilities import compare, subscriptions
from taktora_trio.connectors.mqtt.diagnosis.login import refused, unanswered
from taktora_trio.connectors.mqtt.diagnosis.trial import try_out
from taktora_trio.connectors.mqtt.options import MqttOptions
from taktora_trio.connectors.mqtt.own_topics import of_client
from taktora_trio.connectors.mqtt.routing import MqttRouting
from taktora_trio.connectors.mqtt.sessions.client_state import ClientState
from taktora_trio.connectors.mqtt.sessions.endpoints import resolve
from taktora_trio.connectors.mqtt.sessions.native import NativeSession, open_native_session
from taktora_trio.connectors.mqtt.sessions.session import ConnectFailed, ConnectRefused, SessionLost
from taktora_trio.connectors.mqtt.wire.message import Message
from taktora_trio.connectors.sockets import SocketAddress
from taktora_trio.escaping import escaped

__all__ = ["examine"]

_SMALL = 256  # bytes of a payload that is looked at: that of a presence
_AT_ONCE = 100  # filters
_RETAINED_WITHIN = 0.5  # seconds: nothing tells that there is no retained message


async def examine(options: MqttOptions, channels: Sequence[ChannelDescriptor[Any]], trial: str | None) -> list[Finding]:
    """Return what was found of the one broker that is in these options. `options` have the client id of the gateway."""
    broker = options.broker
    server = Server(
        what="broker",
        host=broker.host,
        port=broker.port,
        is_unix=broker.transport == "unix",
        within=options.connect_timeout,
    )
    findings, endpoints = await names(server, partial(resolve, broker))
    reached: list[SocketAddress] = []
    if endpoints:
        found, reached = await connections(server, endpoints)
        findings += found
    if reached and broker.tls:
        findings += await _tls(options, reached[0])
    if reached and not _failed(findings):
        guest = attrs.evolve(options, client_id=None, persistent=False, will=None, session="native")
        findings += await _login(guest, options, channels)
        if trial is not None and not any(finding.check in ("login", "session") for finding in _failed(findings)):
            findings += await try_out(guest, trial)
    return findings


async def _tls(options: MqttOptions, endpoint: SocketAddress) -> list[Finding]:
    from taktora_trio.connectors.examining.tls import TlsServer, examine_tls  # with it comes OpenSSL

    server = TlsServer(
        what="broker",
        host=options.broker.bare_host,
        ca_file=options.ca_file,
        cert_file=options.cert_file,
        context=options.tls_context,
        within=options.connect_timeout,
        no_tls="check the port (8883 is usual for TLS), and write mqtt:// or ws:// for a port without TLS",
    )
    return await examine_tls(server, endpoint)


def _failed(findings: Sequence[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.status == "fail"]


class _Presence:
    """What the broker has retained of this gateway."""

    def __init__(self, topic: str | None) -> None:
        self._topic = topic
        self._said = b""
        self._heard = trio.Event()

    def hear(self, message: Message) -> None:
        if message.retained and message.topic == self._topic:
            self._said = bytes(message.payload)
            self._heard.set()

    async def look(self, session: NativeSession) -> list[Finding]:
        if self._topic is None:
            return []
        topic = repr(escaped(self._topic))
        if await session.subscribe({self._topic: 0}):
            return [ok("presence", f"{topic} may not be read by this user")]
        with trio.move_on_after(_RETAINED_WITHIN):
            async with move_on_when(session.wait_until_lost):
                await self._heard.wait()
        if not self._heard.is_set():
            return [ok("presence", f"nothing is retained at {topic}: no gateway of this name was there yet")]
        return [ok("presence", f"retained at {topic}: {escaped(self._said)}")]


async def _login(guest: MqttOptions, options: MqttOptions, channels: Sequence[ChannelDescriptor[Any]]) -> list[Finding]:
    findings: list[Finding] = []
    presence = _Presence(options.presence_topic)

    begun = trio.current_time()
    patience = 4 * options.connect_timeout  # as the attempt at four addresses takes at most
    with trio.move_on_after(patience) as scope:
        try:
            async with open_native_session(guest, presence.hear, ClientState(), _SMALL) as session:
                took = 1000 * (trio.current_time() - begun)
                who = f"as {escaped(guest.broker.username)!r}" if guest.broker.username else "without a user name"
                findings.append(ok("login", f"accepted {who}, by MQTT {options.protocol}, in {took:.1f} ms"))
                limits = session.limits if options.protocol == "5" else None
                try:  # here, for what leaves the block is a group
                    findings += await _subscribed(session, options, channels)
                    findings += await presence.look(session)
                except SessionLost as exc:
                    advice = "the broker's log says why: this user may not be allowed to do this"
                    return [*findings, fail("session", escaped(str(exc), 300), advice)]
        except ConnectRefused as exc:
            return [refused(options, exc)]
        except ConnectFailed as exc:
            return [unanswered(options, exc)]
    if scope.cancelled_caught:
        return [*findings, fail("login", f"not done within {patience:g} s", "look at the broker's load, and its log")]
    if limits is None:
        return [*findings, *await _limits_of_5(guest, options, channels)]
    return [*findings, *compare(limits, options, channels)]


async def _subscribed(
    session: NativeSession, options: MqttOptions, channels: Sequence[ChannelDescriptor[Any]]
) -> list[Finding]:
    """Subscribe as a gateway would, but for shared subscriptions, whose messages others would miss."""
    own, _ = of_client(channels, options.client_id or "guest")
    routings = [cast(MqttRouting, channel.routing) for channel in own if channel.direction == "in"]
    wanted: dict[str, int] = {}
    for routing in routings:
        if not routing.is_shared:
            wanted[routing.subscription] = max(routing.qos, wanted.get(routing.subscription, 0))
    if not wanted:
        return []
    refusals: dict[str, str] = {}
    granted: dict[str, int] = {}
    filters = list(wanted.items())
    for start in range(0, len(filters), _AT_ONCE):
        refusals |= await session.subscribe(dict(filters[start : start + _AT_ONCE]))
        granted |= session.granted
    return list(subscriptions(wanted, refusals, granted))


async def _limits_of_5(
    guest: MqttOptions, options: MqttOptions, channels: Sequence[ChannelDescriptor[Any]]
) -> list[Finding]:
    """Ask once more by MQTT 5, for with MQTT 3.1.1 a broker announces nothing."""
    nothing = ok("limits", f"MQTT {options.protocol} announces none, and the broker does not answer by MQTT 5")
    with trio.move_on_after(options.connect_timeout if options.connect_timeout < math.inf else 3.0):
        try:
            five = attrs.evolve(guest, protocol="5")
            async with open_native_session(five, lambda message: None, ClientState(), _SMALL) as session:
                limits = session.limits
        except (ConnectFailed, ConnectRefused):
            return [nothing]
        return list(compare(limits, attrs.evolve(options, persistent=False), channels))
    return [nothing]
