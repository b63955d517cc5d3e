"""What an operator asks of a run from another terminal: to stop, start or restart a half, to log more or less.

One request is carried out after the other, and none while a reload is, for they act upon the same supervisors.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from functools import partial
from typing import TypeAlias, get_args

import trio

from taktora_trio.runners.options import Half
from taktora_trio.runners.parts.arrival import Arrival
from taktora_trio.runners.parts.audit import log_outcome
from taktora_trio.runners.parts.levels import PATIENCE, Told
from taktora_trio.runners.parts.reload import Reload
from taktora_trio.runners.parts.requests import Answer, Asked, Request, take_requests
from taktora_trio.runners.parts.revival import HELD, answer
from taktora_trio.runners.this_process.log_formats import LogLevel
from taktora_trio.supervision.supervisor import Supervisor
from taktora_trio.transport.domain import Domain

__all__ = ["Control", "SetLevel"]

SetLevel: TypeAlias = Callable[[LogLevel, str, Told], None]
"""Called with a level of the log, with the half that is to have it (without a name, both), and with what to call when
it is known who has it."""

_SLACK = 20.0  # seconds more than was asked for, in which a half that has to be killed is
_ENDS = Answer(1, ("the run ends",))
_FOREIGN = Answer(1, ("this run can't do that: its runner is one of its own, or waits for its other half",))
_ONE_PROCESS = (
    "in one process the app can't be started again without its process: stop the run and start it again, or restart its"
    " gateway alone, with --half gateway"
)


class Control:
    """Takes what is asked for at each SIGUSR1, and carries it out."""

    def __init__(self, domain: Domain, stop: trio.Event, reload: Reload, *, is_gateway: bool = False) -> None:
        """`stop` ends the run in order. `is_gateway` is for a gateway alone, which its own end stops."""
        self._domain = domain
        self._stop = stop
        self._reload = reload
        self._is_gateway = is_gateway
        self._to_do, self._to_be_done = trio.open_memory_channel[Request](16)
        self._is_served = self._has_app_here = False
        self._gateway: Supervisor | None = None
        self._set_level: SetLevel = _set_own_level

    def look(self) -> bool:
        """Take what somebody asks for. Returns true if the signal has come for that alone, and not for a revival."""
        requests = take_requests(self._domain)
        revivals = [request for request in requests if request.asked.verb == "revive"]
        is_held = self._gateway is not None and self._gateway.is_held
        for request in revivals:
            self._answer(request, Answer(1, (HELD,)) if is_held else Answer(0, ()))
        if revivals and is_held:
            answer(self._domain, HELD)
            revivals = []
        self._reload.take([request for request in requests if request.asked.verb == "reload"])
        for request in requests:
            if request.asked.verb not in ("revive", "reload"):
                self._take(request)
        return bool(requests) and not revivals

    async def serve(
        self,
        gateway: Supervisor,
        watch: Callable[[Collection[str]], Arrival],
        plugin: Supervisor | None = None,
        set_level: SetLevel | None = None,
    ) -> None:
        """Serve: carry out what is asked for. Runs until cancelled.

        `watch` returns what will be known of the gateway that starts next. Without a `plugin` of its own the app is a
        task of this process. `set_level` is for halves that have a log of their own.
        """
        self._is_served, self._has_app_here = True, plugin is None and not self._is_gateway
        self._set_level = set_level or _set_own_level
        self._gateway = gateway
        halves = _Halves(self._domain, self._reload, gateway, watch, plugin)
        try:
            async for request in self._to_be_done:
                outcome = _ENDS  # unless it goes on
                try:
                    async with self._reload.turn:
                        outcome = await halves.carry_out(request.asked)
                finally:
                    self._answer(request, outcome)
        finally:
            self._is_served = False
            while True:
                try:
                    self._answer(self._to_be_done.receive_nowait(), _ENDS)
                except trio.WouldBlock:
                    break

    def _take(self, request: Request) -> None:
        asked = request.asked
        match asked.verb, asked.half:
            case ("stop", "") | ("stop", "gateway") if self._is_gateway or not asked.half:
                self._end(request, "all of it stops")
            case "stop", "plugin" if self._has_app_here:
                self._end(request, "in one process the app is the run, and all of it stops")
            case "log-level", half:
                level = next((name for name in get_args(LogLevel) if name == asked.what), None)
                if level is None:
                    self._answer(request, Answer(2, (f"there is no level {asked.what!r}",)))
                    return
                request.expect(PATIENCE + _SLACK)
                self._set_level(level, half, partial(self._level_is_set, request, level))
            case _ if not self._is_served:
                self._answer(request, _FOREIGN)
            case _:
                request.expect(asked.seconds + _SLACK)
                try:
                    self._to_do.send_nowait(request)
                except trio.WouldBlock:
                    self._answer(request, Answer(1, ("too much is asked for at once",)))

    def _level_is_set(self, request: Request, level: LogLevel, silent: Collection[str]) -> None:
        half = request.asked.half
        lines = [
            f"the {name} has not answered within {PATIENCE:g} s: it hangs, or is stopped, and logs from {level} up when"
            " it goes on"
            for name in silent
        ]
        if not silent:
            lines.append(f"{half or 'both halves'}: logged from {level} up")
        elif not half:
            lines.append(f"the rest of the run logs from {level} up")
        self._answer(request, Answer(1 if silent else 0, tuple(lines)))

    def _end(self, request: Request, text: str) -> None:
        self._answer(request, Answer(0, (text,), ends=True))
        self._stop.set()

    def _answer(self, request: Request, outcome: Answer) -> None:
        log_outcome(request.asked, outcome)
        request.answer(outcome)


class _Halves:
    def __init__(
        self,
        domain: Domain,
        reload: Reload,
        gateway: Supervisor,
        watch: Callable[[Collection[str]], Arrival],
        plugin: Supervisor | None,
    ) -> None:
        self._domain = domain
        self._reload = reload
        self._gateway = gateway
        self._watch = watch
        self._plugin = plugin

    async def carry_out(self, asked: Asked) -> Answer:
        gateway, plugin = asked.half in ("", "gateway"), asked.half in ("", "plugin")
        if asked.half not in ("", "gateway", "plugin"):
            return Answer(2, (f"there is no half {asked.half!r}",))
        match asked.verb:
            case "stop":
                return await self._stop("gateway" if gateway else "plugin")
            case "restart" if plugin and self._plugin is None:
                return Answer(2, (_ONE_PROCESS,))
            case "restart" if plugin and gateway and self._plugin is not None:
                # The app ends first, while its gateway works, and starts last, when there is one again.
                self._domain.set_at_rest("plugin", True)
                await self._plugin.hold()
                try:
                    started = await self._start_gateway(asked.seconds)
                finally:
                    self._release_plugin()
                return _both(started, await self._wait_for_plugin(asked.seconds))
            case "restart" if gateway:
                return await self._start_gateway(asked.seconds)
            case "restart" if self._plugin is not None:
                self._domain.set_at_rest("plugin", False)
                await self._plugin.restart()
                return await self._wait_for_plugin(asked.seconds)
            case "start":
                answers = []
                if gateway:
                    rests = self._gateway.is_held or self._gateway.is_given_up
                    answers.append(await self._start_gateway(asked.seconds) if rests else _runs("gateway"))
                if plugin:
                    rests = self._release_plugin()
                    answers.append(await self._wait_for_plugin(asked.seconds) if rests else _runs("app"))
                return _both(*answers)
            case _:
                return Answer(2, (f"nothing is known of {asked.verb!r}",))

    async def _stop(self, name: Half) -> Answer:
        half = self._gateway if name == "gateway" else self._plugin
        if half is None:
            return Answer(2, (_ONE_PROCESS,))
        if half.is_held:
            return Answer(0, (f"the {half.name} was stopped before",))
        self._domain.set_at_rest(name, True)  # first, so that no probe finds it gone without a reason
        await half.hold()
        return Answer(0, (f"the {half.name} has stopped; `taktora-trio start --half {half.name}` starts it again",))

    def _release_plugin(self) -> bool:
        self._domain.set_at_rest("plugin", False)
        return self._plugin is not None and self._plugin.release()

    async def _start_gateway(self, seconds: float) -> Answer:
        names = [connector.name for connector in self._reload.present.deployment.connectors]
        arrival = self._watch(names)
        with trio.move_on_after(seconds):
            self._domain.set_at_rest("gateway", False)
            await self._gateway.restart()
            if await arrival.is_complete():
                return Answer(0, (f"the gateway is Up ({', '.join(names)})",))
        return Answer(1, ("the gateway is not Up yet", *arrival.shortcomings()))

    async def _wait_for_plugin(self, seconds: float) -> Answer:
        assert self._plugin is not None
        with trio.move_on_after(seconds):
            await self._plugin.wait_for("up", "given-up", "ended", "escalated")
        if self._plugin.state.phase == "up":
            return Answer(0, ("the app runs",))
        return Answer(1, (f"the app does not run yet: it is {self._plugin.state.phase}",))


def _runs(what: str) -> Answer:
    return Answer(0, (f"the {what} runs already",))


def _both(*answers: Answer) -> Answer:
    return Answer(max(each.code for each in answers), tuple(line for each in answers for line in each.lines))


def _set_own_level(level: LogLevel, half: str, told: Told) -> None:
    logging.getLogger().setLevel(level.upper())
    told(())
