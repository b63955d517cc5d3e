"""Replaces the gateway of a run by one with the configuration as it is now, and goes back if that one does not work."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence

import trio
from trio_util import AsyncBool

from taktora_trio.errors import ConfigError
from taktora_trio.processes.child.life_signs import LifeSigns
from taktora_trio.runners.chosen import Chosen
from taktora_trio.runners.parts.arrival import Arrival
from taktora_trio.runners.parts.audit import log_outcome
from taktora_trio.runners.parts.requests import Answer, Request
from taktora_trio.supervision.supervisor import Runner, Supervisor

__all__ = ["Reload"]

log = logging.getLogger(__name__)

_NOTHING = "nothing has changed that a gateway is started with"
_UNTOUCHED = "the gateway goes on as it was"
_WENT_BACK = "the gateway has the configuration again that it had before"
_READING = 10.0  # seconds
_STARTS = 30.0  # seconds more that a request may take: for files to be read, and for gateways to end and to start


class Reload:
    """What a run does at `taktora-trio reload`, and at SIGHUP where no terminal sends it."""

    def __init__(
        self,
        present: Chosen,
        read: Callable[[], Chosen],
        life: LifeSigns | None = None,
    ) -> None:
        """`read` reads the configuration again, from where `present` came from, and checks it. It may block.

        `life` tells a supervisor of this process that it reloads.
        """
        self._first = self._present = present
        self._read = read
        self._life = life
        self._wanted = AsyncBool()
        self._requests: list[Request] = []
        self._is_served = False
        self.turn = trio.Lock()
        """Held by whoever acts upon the supervisors of the halves: a reload, or what else an operator asks for."""

    @property
    def present(self) -> Chosen:
        """The configuration that the gateway has."""
        return self._present

    def ask(self) -> None:
        """Reload, or do it once more if it is being done now."""
        self._wanted.value = True

    def hang_up(self) -> None:
        """Reload at SIGHUP."""
        log.info("SIGHUP: reading the configuration again", extra={"event": "sighup"})
        self.ask()

    def take(self, new: Sequence[Request]) -> None:
        """Reload, as somebody asks by `taktora-trio reload`."""
        if not self._is_served:
            for request in new:
                _answer(request, Answer(1, ("this run serves no reload: its runner is one of its own",)))
            return
        for request in new:
            request.expect((1 + len(self._requests)) * (self._present.reload_timeout + _STARTS))
        self._requests += new
        if new:
            self.ask()

    async def serve(
        self,
        gateway: Supervisor,
        make: Callable[[Chosen], Runner],
        watch: Callable[[Collection[str]], Arrival],
    ) -> None:
        """Serve: reload whenever that is asked for. Runs until cancelled.

        `make` returns a runner of a gateway with another configuration. `watch` returns what will be known of these
        connectors of the gateway that starts next.
        """
        self._is_served = True
        while True:
            await self._wanted.wait_value(True)
            self._wanted.value = False
            requests, self._requests = self._requests, []
            if self._life is not None:
                self._life.reloading()
            answer = Answer(1, ("the run ends",))  # unless it goes on
            try:
                async with self.turn:
                    answer = await self._reload(gateway, make, watch)
            finally:
                for request in requests:
                    _answer(request, answer)
            if self._life is not None:
                self._life.reloaded()
            level = logging.INFO if answer.code == 0 else logging.ERROR
            log.log(
                level,
                "reload: %s",
                "; ".join(answer.lines),
                extra={"event": "reload-done" if answer.code == 0 else "reload-failed", "exit_code": answer.code},
            )

    async def _reload(
        self, gateway: Supervisor, make: Callable[[Chosen], Runner], watch: Callable[[Collection[str]], Arrival]
    ) -> Answer:
        try:
            with trio.fail_after(_READING):
                new = await trio.to_thread.run_sync(self._read, abandon_on_cancel=True)
        except trio.TooSlowError:
            return Answer(2, (f"the configuration can't be read within {_READING:g} s", _UNTOUCHED))
        except ConfigError as exc:
            return Answer(2, (str(exc), _UNTOUCHED))
        changes, waits = self._present.changes(new), self._first.waits_in(new)
        later = [f"for the next start: {', '.join(waits)}"] if waits else []
        if not changes.keys:
            if gateway.is_given_up:
                gateway.revive()
                return Answer(0, (_NOTHING, *later, "the gateway was given up, and starts again"))
            return Answer(0, (_NOTHING, *later, _UNTOUCHED))
        changed = [f"changed: {', '.join(changes.keys)}", *later]
        if not new.configuration.await_peers:
            try:
                await new.preflight(changes.connectors)
            except ConfigError as exc:
                return Answer(1, (*changed, str(exc), _UNTOUCHED))
        try:
            back = self._present if self._present.contents == new.contents else self._present.pinned()
        except OSError as exc:
            return Answer(1, (*changed, f"there would be no way back: no file in memory ({exc.strerror})", _UNTOUCHED))
        log.info("reload: %s", "; ".join(changed), extra={"event": "reload-begun"})
        if gateway.is_held:
            await gateway.replace(make(new))
            self._keep(new)
            return Answer(0, (*changed, "the gateway is stopped, and starts with it (taktora-trio start)"))
        arrival, seconds = watch(changes.connectors), new.reload_timeout
        if await gateway.replace_on_trial(make(new), arrival.is_complete, seconds, make(back)):
            self._keep(new)
            back.close()
            return Answer(0, (*changed, f"the new gateway is Up ({', '.join(changes.connectors)})"))
        self._keep(back)
        ended = [f"the gateway's {gateway.last_failure}"] if gateway.last_failure is not None else []
        return Answer(1, (*changed, *arrival.shortcomings(), *ended, _WENT_BACK))

    def _keep(self, chosen: Chosen) -> None:
        if chosen is not self._present:
            self._present.close()
            self._present = chosen


def _answer(request: Request, answer: Answer) -> None:
    log_outcome(request.asked, answer)
    request.answer(answer)
