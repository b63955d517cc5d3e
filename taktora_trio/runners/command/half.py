"""The `plugin` and `gateway` commands: one half in this process, alone or under a supervisor."""

from __future__ import annotations

import contextlib
import errno
import faulthandler
import logging
import os
import signal
import sys
from collections.abc import Callable, Collection, Iterator
from functools import partial

import trio

from taktora_trio.errors import ConfigError, ConnectorError
from taktora_trio.processes.child.life_signs import LifeSigns, inherited_life_signs
from taktora_trio.processes.child.supervisor_link import SupervisorLink, inherited_link
from taktora_trio.runners.configuration.reading import Configuration, Sources, read_configuration
from taktora_trio.runners.loading import load_deployment
from taktora_trio.runners.options import Half, Options, TypedSettings
from taktora_trio.runners.this_process.collecting import collect_less
from taktora_trio.runners.this_process.fencing import put_up
from taktora_trio.runners.this_process.limits import make_room
from taktora_trio.runners.this_process.logs import set_up_logging
from taktora_trio.runners.this_process.pid1 import leave_pid_1
from taktora_trio.runners.this_process.punctual import be_punctual
from taktora_trio.runners.this_process.signals import has_terminal, open_revive_signal
from taktora_trio.runners.this_process.until_stopped import until_stopped
from taktora_trio.transport.domain import Domain

log = logging.getLogger(__name__)

__all__ = ["launch_gateway", "launch_plugin", "read_for_gateway"]

_LONGEST = 3600.0  # seconds


def launch_plugin(target: str, options: Options, typed: TypedSettings) -> int:
    """Run the app's half in this process; return the exit code."""
    from taktora_trio.runners.command.plugin import run_plugin  # each process imports the one shape that it runs

    leave_pid_1()
    collect_less()
    link, life = inherited_link(), inherited_life_signs()
    with _ending_well(life, link):
        with _retried_under(link):
            configuration = _read(target, options, typed, "plugin", alone=link is None)
        deployment, domain = configuration.configured, Domain(configuration.domain)
        make_room(deployment.connectors, "app", owner=link is None)
        set_up_logging(configuration.log, "plugin", level=configuration.level, tagged=link is not None)
        be_punctual()
        put_up(configuration.fences.plugin, "plugin")
        half = partial(run_plugin, deployment, domain, life=life, link=link)
        end_at_once = domain.remove_if_alone if link is None else _nothing
        hang_up = partial(
            log.info,
            "SIGHUP: nothing is read again here: what a plugin has been told, it keeps",
            extra={"event": "sighup"},
        )
        return trio.run(until_stopped, half, link, None, end_at_once, _unless_stopped_by_it(link, hang_up))


def launch_gateway(
    target: str, options: Options, typed: TypedSettings, connectors: Collection[str] = (), outlast: float = 0.0
) -> int:
    """Run the protocol's half in this process, of these connectors or of all; return the exit code.

    When it is told to stop, it goes on until the plugin has ended, for `outlast` seconds at most.
    """
    if not 0 <= outlast <= _LONGEST:
        raise ConfigError(f"--outlast {outlast:g}: give 0 to {_LONGEST:g} seconds")
    from taktora_trio.runners.command.gateway import run_gateway
    from taktora_trio.runners.parts.plugin_first import open_later_stop

    leave_pid_1()
    collect_less()
    link, life = inherited_link(), inherited_life_signs()
    with _ending_well(life, link):
        with _retried_under(link):
            # Of all connectors: each gateway may be given the same options.
            loaded, sources = load_deployment(target), _sources(options, typed, alone=link is None)
            configuration = read_configuration(loaded, sources, "gateway", checks_needs=link is None)
            deployment, domain = configuration.configured, Domain(configuration.domain)
            deployment = deployment.with_connectors(connectors) if connectors else deployment
        if link is None:  # else a file that is away by now may come back
            deployment.check_files()
            deployment.check_stores(domain.name)
        make_room(deployment.connectors, "gateway", owner=False)
        set_up_logging(configuration.log, "gateway", level=configuration.level, tagged=link is not None)
        put_up(configuration.fences.gateway, "gateway")

        reload = None
        if link is None:
            from taktora_trio.runners.chosen import choose, read_again  # one under a supervisor of ours has none
            from taktora_trio.runners.parts.control import Control
            from taktora_trio.runners.parts.reload import Reload

            chosen = choose(configuration, configuration.settings, connectors)
            reload = Reload(chosen, read_again(loaded, sources, "gateway", {}, connectors), life)

        async def half(stop: trio.Event) -> int:
            async with open_later_stop(domain, stop, outlast) as later:
                # Who asks for this half alone to stop does not have the plugin go first.
                control = None if reload is None else Control(domain, later, reload, is_gateway=True)
                with open_revive_signal(_nobody if control is None else control.look) as revive:
                    return await run_gateway(
                        deployment,
                        domain,
                        later,
                        life,
                        link,
                        revive,
                        shares=bool(connectors),
                        reload=reload,
                        control=control,
                    )

        hang_up = (
            partial(log.info, "SIGHUP: ask the supervisor", extra={"event": "sighup"})
            if reload is None
            else reload.hang_up
        )
        return trio.run(until_stopped, half, link, None, _nothing, _unless_stopped_by_it(link, hang_up))


def _unless_stopped_by_it(link: SupervisorLink | None, hang_up: Callable[[], None]) -> Callable[[], None] | None:
    """Return what SIGHUP calls; `None` where it stops this half, since a terminal may close that is its own."""
    return None if link is None and has_terminal() else hang_up


@contextlib.contextmanager
def _retried_under(link: SupervisorLink | None) -> Iterator[None]:
    """Under a supervisor, make a `ConfigError` a failure like others: it could load this before, and tries again."""
    try:
        yield
    except ConfigError as exc:
        if link is None:
            raise
        raise ConnectorError(str(exc)) from exc


def read_for_gateway(target: str, options: Options, typed: TypedSettings, *, alone: bool = True) -> Configuration:
    """Return the configuration as a gateway needs it. Raises `ConfigError`."""
    return _read(target, options, typed, "gateway", alone=alone)


def _read(target: str, options: Options, typed: TypedSettings, half: Half, *, alone: bool) -> Configuration:
    """Read the configuration; under a supervisor, of what it has handed over alone, which it has checked."""
    sources = _sources(options, typed, alone=alone)
    return read_configuration(load_deployment(target), sources, half, checks_needs=alone)


def _sources(options: Options, typed: TypedSettings, *, alone: bool) -> Sources:
    return Sources(typed=(*options.typed, *typed), config=options.config, default=True, environment=alone)


@contextlib.contextmanager
def _ending_well(life: LifeSigns, link: SupervisorLink | None) -> Iterator[None]:
    """Tell the supervisor if memory ran out; if the supervisor is gone, end what this half has started."""
    faulthandler.enable()  # at SIGBUS, SIGSEGV, and at SIGABRT, by which the supervisor asks a hung one where it hangs
    try:
        yield
    except* MemoryError:
        life.dying("out of memory", errno.ENOMEM)
        raise
    finally:
        life.close()
        if link is not None:
            link.close()
            if link.is_gone and os.getpgrp() == os.getpid():
                sys.stdout.flush()
                os.killpg(0, signal.SIGKILL)  # nobody else is left to end our children


def _nothing() -> None:
    pass


def _nobody() -> bool:
    return False
