"""From the options of a command to a running process; without the command-line parser.

The supervisor of the split shape lives as long as its halves, so it should be small: `taktora-trio run --mode split`
replaces itself by `python -m taktora_trio.runners.launch OPTIONS`, which has not imported the parser.
"""

from __future__ import annotations

import contextlib
import errno
import faulthandler
import json
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Literal, NoReturn, TypeAlias

import attrs
import msgspec
import trio

from taktora_trio.errors import ConfigError, ConnectorError
from taktora_trio.processes import interpreter
from taktora_trio.processes.child.life_signs import LifeSigns, inherited_life_signs
from taktora_trio.processes.child.supervisor_link import SupervisorLink, inherited_link
from taktora_trio.processes.parent.output import Stream, open_writer
from taktora_trio.processes.parent.process import spawn
from taktora_trio.processes.parent.tags import tag_console, tag_json
from taktora_trio.runners.deployment import Deployment
from taktora_trio.runners.limits import BOTH_ENDS, ONE_END, OWNER_AND_ONE_END, make_room
from taktora_trio.runners.loading import hiding_python, load_deployment
from taktora_trio.runners.logs import LogFormat, logging_to, set_up_logging
from taktora_trio.runners.outcome import call
from taktora_trio.runners.pid1 import leave_pid_1
from taktora_trio.runners.settings import Asked, Settings, read_settings
from taktora_trio.runners.signals import open_revive_signal, open_stop_signals
from taktora_trio.runners.surroundings import settle
from taktora_trio.transport.domain import Domain

if TYPE_CHECKING:
    from taktora_trio.processes.parent.warm import Zygote
    from taktora_trio.runners.halves import Halves

__all__ = [
    "Mode",
    "Options",
    "Policies",
    "RunOptions",
    "Shape",
    "launch",
    "launch_gateway",
    "launch_plugin",
    "load_for_gateway",
]

log = logging.getLogger(__name__)

Mode: TypeAlias = Literal["in-process", "split"]
Shape: TypeAlias = Callable[..., Awaitable[int]]
"""Either `run_in_process` or `run_split`, or a function of a user's that takes the same arguments."""


@attrs.frozen(kw_only=True)
class Options:
    """The options that `run`, `plugin`, `gateway` and `forget` share."""

    domain: str | None = None
    """The name under which both halves find each other; by default the deployment's name."""
    log: LogFormat = "console"
    """Log lines for people, or JSON for machines."""


@attrs.frozen(kw_only=True)
class Policies:
    """Changes to what the deployment says, as `explain-policy` shows them."""

    gateway_policy: str | None = None
    """Change fields of the gateway's restart policy, such as intensity=3,period=30."""
    plugin_policy: str | None = None
    """Change fields of the plugin's restart policy."""


@attrs.frozen(kw_only=True)
class RunOptions:
    """What `run` has been told."""

    target: str
    mode: Mode
    seconds: float | None
    await_peers: bool
    warm: bool
    policies: Policies
    shared: Options
    settings: tuple[tuple[str, str | None], ...]
    """The connectors' settings, as they were typed."""


def launch(run: RunOptions, shape: Shape | None = None) -> int:
    """Run both halves in the shape that was asked for, and return the exit code.

    The split shape replaces this process by a smaller one, and does not return; unless a `shape` is given, which is run
    here instead of the usual `run_in_process` or `run_split`.
    """
    if run.warm and run.mode != "split":
        raise ConfigError("--warm is for --mode split: in one process the gateway starts at once anyway")
    if run.seconds is not None and not run.seconds > 0:
        raise ConfigError(f"--for {run.seconds:g}: give more than 0 seconds")
    if run.mode == "split" and shape is None:
        _become_supervisor(run)
    leave_pid_1()
    return _launch_here(run, shape)


def launch_plugin(target: str, options: Options, asked: Asked) -> int:
    """Run the app's half in this process; return the exit code."""
    from taktora_trio.runners.plugin import run_plugin  # each process imports the one shape that it runs

    leave_pid_1()
    link, life = inherited_link(), inherited_life_signs()
    with _last_words(life, link):
        with _judged_by(link):
            deployment, domain = _load(target, options)
            settings = read_settings(deployment, asked, secrets=False)
            deployment = settings.applied_to(deployment)
            if link is None:
                settings.needed_by(deployment)
        make_room(deployment.connectors, OWNER_AND_ONE_END if link is None else ONE_END)
        set_up_logging(options.log, "plugin", tagged=link is not None)
        half = partial(run_plugin, deployment, domain, life=life, link=link)
        return trio.run(_until_stopped, half, link, None, domain.remove_if_alone if link is None else _nothing)


def launch_gateway(target: str, options: Options, asked: Asked) -> int:
    """Run the protocol's half in this process; return the exit code."""
    from taktora_trio.runners.gateway import run_gateway

    leave_pid_1()
    link, life = inherited_link(), inherited_life_signs()
    with _last_words(life, link):
        with _judged_by(link):
            deployment, domain, settings = load_for_gateway(target, options, asked)
        if link is None:  # else it was checked at the start, and a file that is away by now may come back
            settings.needed_by(deployment)
            deployment.check_files()
        make_room(deployment.connectors, ONE_END)
        set_up_logging(options.log, "gateway", tagged=link is not None)

        async def half(stop: trio.Event) -> int:
            with open_revive_signal() as revive:
                return await run_gateway(deployment, domain, stop, life, link, revive)

        return trio.run(_until_stopped, half, link, None, _nothing)


@contextlib.contextmanager
def _judged_by(link: SupervisorLink | None) -> Iterator[None]:
    """What our supervisor could load can't be loaded any more: a failure like others, after which it tries again."""
    try:
        yield
    except ConfigError as exc:
        if link is None:
            raise
        raise ConnectorError(str(exc)) from exc


def _warn_of_names() -> None:
    for name, path in hiding_python().items():
        log.warning(
            "%s has the name of Python's own module %r, and whatever needs that may fail: rename it", path, name
        )


@contextlib.contextmanager
def _last_words(life: LifeSigns, link: SupervisorLink | None) -> Iterator[None]:
    """What is to be known of a half that does not end well; and what it has started does not outlive its supervisor."""
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


def _become_supervisor(run: RunOptions) -> NoReturn:
    # ASCII, whatever the locale: what came from a command line may have surrogates, which have no UTF-8.
    options = json.dumps(msgspec.to_builtins(run, enc_hook=str))
    sys.stdout.flush()
    interpreter.become(__name__, options)  # the same program, smaller


def _launch_here(run: RunOptions, shape: Shape | None = None) -> int:
    options = run.shared
    declared, domain = _load(run.target, options)
    declared = declared.with_policies(run.policies.gateway_policy, run.policies.plugin_policy)
    settings = read_settings(declared, run.settings, whole_run=True)
    deployment = settings.applied_to(declared)
    settings = settings.needed_by(deployment)
    deployment.check_files()
    make_room(deployment.connectors, ONE_END if run.mode == "split" else BOTH_ENDS)  # a half needs no more
    set_up_logging(options.log, "supervisor" if run.mode == "split" else "in-process")
    _warn_of_names()
    kill_halves: list[Callable[[], None]] = []

    async def run_shape(stop: trio.Event) -> int:
        with open_revive_signal() as revive:
            if not run.await_peers:
                await settings.preflight(deployment)
            async with settings.supplied(declared) as supplied:
                chosen = supplied.applied_to(declared)
                run_mode = shape or _shape(run.mode)
                if run.mode == "in-process":
                    return await run_mode(chosen, domain, stop, revive=revive, life=life)
                async with _relayed(options.log) as write, _zygote(run, chosen) as zygote:
                    halves = _halves(run, domain, supplied, write, zygote)
                    kill_halves.append(halves.kill)
                    return await run_mode(chosen, domain, stop, halves, revive=revive, life=life)

    def end_at_once() -> None:
        for kill in kill_halves:
            kill()
        domain.remove_if_alone()

    with contextlib.closing(inherited_life_signs()) as life:
        return trio.run(_until_stopped, run_shape, None, run.seconds, end_at_once)


def _shape(mode: Mode) -> Shape:
    if mode == "in-process":  # each process imports the one shape that it runs
        from taktora_trio.runners.scripts.in_process import run_in_process

        return run_in_process
    from taktora_trio.runners.scripts.split import run_split

    return run_split


@contextlib.asynccontextmanager
async def _relayed(log_format: LogFormat) -> AsyncIterator[Callable[[str, Stream, bytes], None]]:
    """What takes the lines of both halves; our own log goes the same way, so that all are whole, and in order."""
    tag = tag_json if log_format == "json" else tag_console
    async with (
        open_writer(1, partial(tag, "supervisor", "stdout")) as stdout,
        open_writer(2, partial(tag, "supervisor", "stderr")) as stderr,
    ):
        streams = {"stdout": stdout, "stderr": stderr}

        def write(name: str, stream: Stream, line: bytes) -> None:
            streams[stream].write(tag(name, stream, line))

        with logging_to(partial(write, "supervisor", "stderr"), log_format, "supervisor"):
            yield write


def _load(target: str, options: Options) -> tuple[Deployment, Domain]:
    deployment = load_deployment(target)
    return deployment, Domain(deployment.name if options.domain is None else options.domain)


def load_for_gateway(target: str, options: Options, asked: Asked) -> tuple[Deployment, Domain, Settings]:
    """Return the deployment with its settings, as a gateway needs it. Raises `ConfigError`."""
    deployment, domain = _load(target, options)
    settings = read_settings(deployment, asked)
    return settings.applied_to(deployment), domain, settings


def _halves(
    run: RunOptions,
    domain: Domain,
    settings: Settings,
    write: Callable[[str, Stream, bytes], None],
    zygote: Zygote | None,
) -> Halves:
    from taktora_trio.runners.halves import Halves

    program, environment = interpreter.program("taktora_trio"), interpreter.environment()

    def arguments(half: str, *more: str) -> list[str]:
        return [half, run.target, "--domain", domain.name, "--log", run.shared.log, *more]

    more, fds = settings.as_arguments()
    gateway = arguments("gateway", *more)
    start_gateway = spawn([*program, *gateway], fds, environment) if zygote is None else zygote.start(gateway, fds)
    return Halves(spawn([*program, *arguments("plugin")], (), environment), start_gateway, write)


@contextlib.asynccontextmanager
async def _zygote(run: RunOptions, deployment: Deployment) -> AsyncIterator[Zygote | None]:
    if run.warm:
        from taktora_trio.processes.parent.warm import open_zygote  # most runs have none, and the supervisor is small

        modules = [module for connector in deployment.connectors for module in connector.preload]
        async with open_zygote("taktora_trio.cli:main", ["taktora_trio.cli", *modules]) as zygote:
            yield zygote
    else:
        yield None


async def _until_stopped(
    work: Callable[[trio.Event], Awaitable[int]],
    link: SupervisorLink | None,
    seconds: float | None,
    end_at_once: Callable[[], None],
) -> int:
    """Run `work`, and set its stop event at a signal, after `seconds`, or when the supervisor is gone."""

    async def stop_when(wait: Callable[[], Awaitable[None]]) -> None:
        await wait()
        stop.set()

    async with open_stop_signals(end_at_once) as stop, trio.open_nursery() as nursery:
        if link is not None:
            nursery.start_soon(stop_when, partial(_wait_until_alone, link))
        if seconds is not None:
            nursery.start_soon(stop_when, partial(trio.sleep, seconds))
        code = await work(stop)
        nursery.cancel_scope.cancel()
    return code


async def _wait_until_alone(link: SupervisorLink) -> None:
    await link.wait_until_gone()
    # It was the supervisor who took our output: what we still say must not fail.
    with open(os.devnull, "w") as nowhere:  # noqa: ASYNC230, PTH123 - it never waits
        for fd in (1, 2):
            os.dup2(nowhere.fileno(), fd)


def _nothing() -> None:
    pass


def _run_as_told() -> int:
    settle()
    told = msgspec.convert(json.loads(sys.argv[1]), RunOptions, dec_hook=lambda kind, text: kind(text))
    return _launch_here(told)


if __name__ == "__main__":
    sys.exit(call(_run_as_told))
