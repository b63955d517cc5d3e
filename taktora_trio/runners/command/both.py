"""Both halves of a deployment, in either shape, as `run` has them: configured, logged, stopped by signals."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from functools import partial

import msgspec
import trio

from taktora_trio.processes.child.life_signs import inherited_life_signs
from taktora_trio.processes.time_slice import SHORT, set_time_slice
from taktora_trio.runners.chosen import choose, read_again
from taktora_trio.runners.command.relayed_output import open_relayed_output
from taktora_trio.runners.command.start_halves import open_halves, open_warm_start
from taktora_trio.runners.configuration.reading import Configuration, Part, Sources, read_configuration
from taktora_trio.runners.deployment import Deployment
from taktora_trio.runners.endpoint import open_endpoint, open_endpoint_socket
from taktora_trio.runners.loading import hiding_python, load_app, load_deployment
from taktora_trio.runners.options import Mode, RunOptions, Shape
from taktora_trio.runners.parts.control import Control
from taktora_trio.runners.parts.reload import Reload
from taktora_trio.runners.this_process.collecting import collect_less
from taktora_trio.runners.this_process.fencing import put_up
from taktora_trio.runners.this_process.limits import make_room
from taktora_trio.runners.this_process.logs import set_up_logging, shown_as
from taktora_trio.runners.this_process.punctual import be_punctual
from taktora_trio.runners.this_process.signals import has_terminal, open_revive_signal
from taktora_trio.runners.this_process.until_stopped import until_stopped
from taktora_trio.transport.domain import Domain

__all__ = ["run_both"]

log = logging.getLogger(__name__)

_SHARED = (
    "in one process the gateway shares the app's interpreter, memory and CPUs, so its fence would be the app's, too:"
    " use --mode split, or fence all of it by fence.plugin"
)


def run_both(run: RunOptions, shape: Shape | None = None, deployment: Deployment | None = None) -> int:
    """Run both halves in this process or from it, and return the exit code.

    A `shape` is run instead of the usual one, and a `deployment` instead of the one that the options name.
    """
    collect_less()
    loaded = load_deployment(run.target) if deployment is None else deployment
    if loaded.app is None:
        load_app(loaded)  # says what is missing
    sources = Sources(typed=run.typed, config=run.shared.config, default=deployment is None)
    part: Part = "supervisor" if run.mode == "split" else "in-process"
    configuration = read_configuration(loaded, sources, part)
    configured, settings, domain = configuration.configured, configuration.settings, Domain(configuration.domain)
    _check(configuration, run.mode)
    _settle(configuration, run.mode, part)
    kill_halves: list[Callable[[], None]] = []
    reloads: list[Reload] = []  # none before the run has begun
    controls: list[Control] = []

    async def run_shape(stop: trio.Event) -> int:
        with open_revive_signal(lambda: any(control.look() for control in controls)) as revive:
            if not configuration.await_peers:
                await settings.preflight(configured)
            async with settings.supplied(configuration.declared) as supplied:
                chosen = choose(configuration, supplied)
                again = read_again(loaded, sources, part, settings.supplies(supplied))
                reload = Reload(chosen, again, life)
                control = Control(domain, stop, reload)
                reloads.append(reload)
                controls.append(control)
                more = {"control": control} if _takes_control(shape) else {}
                begin = partial(shape or _usual_shape(run.mode), chosen.deployment, domain, stop)
                run_chosen = partial(begin, revive=revive, life=life, reload=reload, **more)
                if run.mode == "in-process":
                    async with open_endpoint(configuration, listener):
                        return await run_chosen()
                shown = msgspec.structs.replace(configuration, log=shown_as(configuration.log))
                async with (
                    open_relayed_output(shown.log) as write,
                    open_warm_start(configuration, chosen.deployment) as zygote,
                    open_halves(run.target, shown, supplied, write, zygote) as halves,
                ):
                    kill_halves.append(halves.kill)
                    async with open_endpoint(shown, listener, halves):
                        return await run_chosen(halves)

    def hang_up() -> None:
        for reload in reloads:
            reload.hang_up()

    def end_at_once() -> None:
        for kill in kill_halves:
            kill()
        domain.remove_if_alone()

    with contextlib.closing(inherited_life_signs()) as life, open_endpoint_socket(configuration.endpoint) as listener:
        on_hangup = None if has_terminal() else hang_up
        return trio.run(until_stopped, run_shape, None, run.seconds, end_at_once, on_hangup)


def _check(configuration: Configuration, mode: Mode) -> None:
    """Raise `ConfigError` for what no run can begin with."""
    if mode == "in-process":
        configuration.refuse("fence.gateway", _SHARED)
    configuration.fences.plugin.check("plugin")
    configuration.fences.gateway.check("gateway")
    configuration.configured.check_files()
    configuration.configured.check_stores(configuration.domain)


def _settle(configuration: Configuration, mode: Mode, part: Part) -> None:
    """Make this process what it is to be: its limits, its log, its place among others."""
    connectors = configuration.configured.connectors
    if mode == "split":
        make_room(connectors, "app", owner=False)  # the other half needs no more, nor does this process
    else:
        make_room(connectors, "app", "gateway", owner=True)
    set_up_logging(configuration.log, part, level=configuration.level)
    if configuration.file is not None:
        log.info("configured by %s", configuration.file, extra={"event": "configured"})
    _warn_of_hidden_modules()
    if mode == "in-process":
        be_punctual()
        put_up(configuration.fences.plugin, "plugin")
    else:
        set_time_slice(SHORT)  # it computes little, and tells the app how its gateway ended


def _takes_control(shape: Shape | None) -> bool:
    """Return false for a shape that was copied before there was control."""
    if shape is None:
        return True
    from inspect import signature  # which a supervisor of the usual shape never imports

    return "control" in signature(shape).parameters


def _usual_shape(mode: Mode) -> Shape:
    if mode == "in-process":  # each process imports the one shape that it runs
        from taktora_trio.runners.scripts.in_process import run_in_process

        return run_in_process
    from taktora_trio.runners.scripts.split import run_split

    return run_split


def _warn_of_hidden_modules() -> None:
    for name, path in hiding_python().items():
        log.warning(
            "%s has the name of Python's own module %r, and whatever needs that may fail: rename it",
            path,
            name,
            extra={"event": "module-hidden"},
        )
