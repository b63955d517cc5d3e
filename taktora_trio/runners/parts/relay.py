"""Carries news between the halves: how each gateway process fares, and the plugin's wish to have it revived."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection

import trio

from taktora_trio.health import Failure
from taktora_trio.processes.link import ConnectorState, GatewayFailed, GatewayStarted, LinkEnd, LogFrom, ReviveGateway
from taktora_trio.runners.parts.arrival import Arrival
from taktora_trio.runners.parts.levels import LevelAnswers, Told
from taktora_trio.runners.parts.revival import STARTS_AGAIN, answer
from taktora_trio.runners.this_process.log_formats import LogLevel
from taktora_trio.supervision.supervisor import Exit
from taktora_trio.transport.domain import Domain

__all__ = ["GatewayRelay", "Relay"]


class Relay:
    """The supervisor's knowledge of its gateways, and its link to the plugin while that runs."""

    def __init__(self, domain: Domain, nursery: trio.Nursery) -> None:
        self.domain = domain
        self._answers = LevelAnswers()
        self._nursery = nursery
        self._gateways: list[GatewayRelay] = []
        self._to_plugin: LinkEnd | None = None
        self._levels: dict[str, LogFrom] = {}  # by half, as somebody has asked for

    def set_level(self, level: LogLevel, half: str, told: Told) -> None:
        """Have a half log from this level up, and its successors; without a name, both halves and this process.

        `told` is called when each that runs has said that it does, or has not said so in time.
        """
        for name in (half,) if half else ("plugin", "gateway"):
            self._levels[name] = LogFrom(level)
        if not half:
            logging.getLogger().setLevel(level.upper())
        links = {gateway.link: "gateway" for gateway in self._gateways if gateway.link is not None}
        if self._to_plugin is not None:
            links[self._to_plugin] = "plugin"
        links = {link: name for link, name in links.items() if half in ("", name)}
        waiting = self._answers.expect(LogFrom(level), links)
        for link, name in links.items():
            self.tell_level(name, link)
        self._nursery.start_soon(self._answers.wait, waiting, told)

    def tell_level(self, half: str, link: LinkEnd) -> None:
        """Tell a half the level that somebody has asked for, if anybody has."""
        if half in self._levels:
            link.send(self._levels[half])

    def gateway(
        self,
        revive: Callable[[], object],
        *connectors: str,
        ended: Callable[[Exit], None] = lambda exit_: None,
    ) -> GatewayRelay:
        """Make the relay of one gateway process, which has these connectors (none stands for all).

        `revive` is called when the plugin asks for that, and `ended`, which is `Supervisor.ended`, at each end.
        """
        relay = GatewayRelay(self, revive, ended, connectors)
        self._gateways.append(relay)
        return relay

    def plugin_started(self, link: LinkEnd) -> None:
        """Send the plugin the latest news of each gateway, and listen to it."""
        self._to_plugin = link
        self.tell_level("plugin", link)
        for gateway in self._gateways:
            if gateway.news is not None:
                link.send(gateway.news)
        self._nursery.start_soon(self._listen, link)

    def gateway_started(self, link: LinkEnd, arrival: Arrival) -> None:
        """Listen to what a gateway says of its start."""
        self._nursery.start_soon(self._listen_to_gateway, link, arrival)

    def plugin_ended(self) -> None:
        """Send nothing from now on."""
        self._to_plugin = None

    def tell_plugin(self, news: GatewayStarted | GatewayFailed) -> None:
        """Send this to the plugin, if it runs."""
        if self._to_plugin is not None:
            self._to_plugin.send(news)

    async def _listen(self, link: LinkEnd) -> None:
        async for message in link.messages():
            if isinstance(message, ReviveGateway):
                for gateway in self._gateways:
                    gateway.revive()
            elif isinstance(message, LogFrom):
                self._answers.answered(link, message)
        self._answers.ended(link)

    async def _listen_to_gateway(self, link: LinkEnd, arrival: Arrival) -> None:
        async for message in link.messages():
            if isinstance(message, ConnectorState):
                arrival.said(message)
            elif isinstance(message, LogFrom):
                self._answers.answered(link, message)
        self._answers.ended(link)


class GatewayRelay:
    """Callbacks for one gateway process: for `as_process`, and for its `Supervisor`."""

    def __init__(
        self,
        relay: Relay,
        revive: Callable[[], object],
        exited: Callable[[Exit], None],
        connectors: tuple[str, ...],
    ) -> None:
        self.connectors = connectors
        self.news: GatewayStarted | GatewayFailed | None = None
        self.revive = revive
        self.exited = exited
        self._relay = relay
        self.link: LinkEnd | None = None
        self._pid = 0
        self._arrival = Arrival()

    def watch(self, connectors: Collection[str]) -> Arrival:
        """Return what will be known of these connectors of the gateway that starts next, and of its successors."""
        self._arrival = Arrival(connectors)
        return self._arrival

    def started(self, incarnation: int, pid: int, link: LinkEnd) -> None:
        self._pid, self.link = pid, link
        self._relay.tell_level("gateway", link)
        self._relay.gateway_started(link, self._arrival)
        self._tell(GatewayStarted(incarnation, pid, self.connectors))

    def ended(self) -> None:
        self.link = None

    def failed(self, failure: Failure, exit_: Exit) -> None:
        self.link = None
        self._tell(GatewayFailed(self._pid, failure, self.connectors))

    def revived(self, starts_again: bool) -> None:
        if starts_again:
            answer(self._relay.domain, STARTS_AGAIN)
        elif self.link is not None:
            self.link.send(ReviveGateway())  # and it answers
        else:
            answer(self._relay.domain, "the gateway had ended, and starts now")

    def _tell(self, news: GatewayStarted | GatewayFailed) -> None:
        self.news = news
        self._relay.tell_plugin(news)
