"""The `taktora-trio` command."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import attrs
import trio
from cyclopts import App, CycloptsError, Parameter

from taktora_trio.deployment import Deployment, load_deployment
from taktora_trio.errors import ConfigError, ConnectorError
from taktora_trio.logs import LogFormat, set_up_logging
from taktora_trio.mqtt.embedded import open_embedded_broker
from taktora_trio.mqtt.options import BrokerAddress
from taktora_trio.mqtt.preflight import check_reachable
from taktora_trio.passwords import PASSWORD_VARIABLE, hide_password_in_arguments, password_file, read_password
from taktora_trio.shapes.gateway import run_gateway
from taktora_trio.shapes.in_process import run_in_process
from taktora_trio.shapes.plugin import run_plugin
from taktora_trio.shapes.split import Halves, run_split
from taktora_trio.signals import open_stop_signals
from taktora_trio.supervision.link import SupervisorLink, inherited_link
from taktora_trio.transport.domain import Domain
from taktora_trio.transport.sizing import plan_memory

__all__ = ["main"]

app = App(
    name="taktora-trio",
    help="Run an app and its MQTT gateway, in one process or in two, with shared memory between them.",
    version_flags=["--version"],
)

Target = Annotated[str, Parameter(help="The app, as MODULE:DEPLOYMENT, for example examples.echo:deployment.")]
Mode = Literal["in-process", "split"]


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class Options:
    """What `run`, `plugin` and `gateway` share."""

    broker: Annotated[
        str | None,
        Parameter(
            help="mqtt://user:password@host:port, or mqtts:// for TLS, instead of the deployment's own; for `run` also"
            " `embedded`: a broker on loopback for trying things out."
        ),
    ] = None
    broker_password_file: Annotated[
        Path | None,
        Parameter(help=f"Read the broker's password from this file (else from ${PASSWORD_VARIABLE})."),
    ] = None
    ca_file: Annotated[Path | None, Parameter(help="Trust the certificate authorities in this PEM file.")] = None
    domain: Annotated[
        str | None,
        Parameter(help="The name under which both halves find each other; by default the deployment's name."),
    ] = None
    log: Annotated[LogFormat, Parameter(help="Log lines for people, or JSON for machines.")] = "console"


@app.command
def run(
    target: Target,
    /,
    *,
    mode: Annotated[Mode, Parameter(help="One process, or a supervisor with a plugin and a gateway process.")],
    for_: Annotated[float | None, Parameter(name="--for", help="Stop after so many seconds.")] = None,
    await_broker: Annotated[
        bool, Parameter(negative="", help="Start even if the broker can't be reached yet, and keep trying.")
    ] = False,
    options: Options = Options(),
) -> int:
    """Run both halves of a deployment until it ends, or until SIGINT or SIGTERM."""
    return run_shape(mode, target, options, seconds=for_, await_broker=await_broker)


@app.command
def plugin(target: Target, /, *, options: Options = Options()) -> int:
    """Run only the app's half, for a supervisor such as systemd. It waits for its gateway, or carries on with it."""
    link = inherited_link()
    deployment, domain = _load(target, options)
    set_up_logging(options.log, "plugin")

    async def half(stop: trio.Event) -> int:
        return await run_plugin(deployment, domain, stop, supervised=link is not None)

    return trio.run(_until_stopped, half, link, None, _nothing if link else domain.remove_if_alone)


@app.command
def gateway(target: Target, /, *, options: Options = Options()) -> int:
    """Run only the protocol's half, for a supervisor such as systemd. It waits for its plugin, or joins it."""
    link = inherited_link()
    deployment, domain = _load(target, options)
    set_up_logging(options.log, "gateway")

    async def half(stop: trio.Event) -> int:
        return await run_gateway(deployment, domain, stop)

    return trio.run(_until_stopped, half, link, None, _nothing)


@app.command
def plan(
    target: Target, /, *, json: Annotated[bool, Parameter(negative="", help="As JSON, with sizes in bytes.")] = False
) -> int:
    """Show the shared memory that each channel will take, and what is free."""
    memory = plan_memory(load_deployment(target).connectors)
    print(memory.to_json().decode() if json else memory.table())  # noqa: T201 - its result
    return 0 if memory.fits else 2


def run_shape(
    mode: Mode, target: str, options: Options, *, seconds: float | None = None, await_broker: bool = False
) -> int:
    """Run a deployment in one of the shapes; what `taktora-trio run` and the scripts in `supervisors/` do."""
    if seconds is not None and not seconds > 0:
        raise ConfigError(f"--for {seconds:g}: give more than 0 seconds")
    deployment, domain = _load(target, options)
    set_up_logging(options.log, "supervisor" if mode == "split" else "in-process")
    kill_halves: list[Callable[[], None]] = []

    async def shape(stop: trio.Event) -> int:
        async with _with_broker(deployment, options, await_broker) as (chosen, broker):
            if mode == "in-process":
                return await run_in_process(chosen, domain, stop)
            halves = _halves(target, options, domain, broker)
            kill_halves.append(halves.kill)
            return await run_split(chosen, domain, stop, halves)

    def end_at_once() -> None:
        for kill in kill_halves:
            kill()
        domain.remove_if_alone()

    return trio.run(_until_stopped, shape, None, seconds, end_at_once)


def _load(target: str, options: Options) -> tuple[Deployment, Domain]:
    deployment = load_deployment(target)
    domain = Domain(options.domain or deployment.name)
    if options.broker != "embedded":
        broker = _broker(deployment, options)
        if broker is not None:
            deployment = deployment.with_broker(broker, options.ca_file)
    deployment.check_files()
    return deployment, domain


def _broker(deployment: Deployment, options: Options) -> BrokerAddress | None:
    """The broker that the options name or complete; `None` if the deployment's own stands as it is."""
    password = read_password(options.broker_password_file)
    if options.broker is not None:
        broker = BrokerAddress.parse(options.broker)
    elif deployment.brokers() and (password is not None or options.ca_file is not None):
        broker = deployment.brokers()[0]
    else:
        return None
    if broker.username and broker.password is None:
        broker = attrs.evolve(broker, password=password)
    return broker


@contextlib.asynccontextmanager
async def _with_broker(
    deployment: Deployment, options: Options, await_broker: bool
) -> AsyncIterator[tuple[Deployment, BrokerAddress | None]]:
    if options.broker == "embedded":
        async with open_embedded_broker() as broker:
            yield deployment.with_broker(broker), broker
        return
    if not await_broker:
        for broker in deployment.brokers():
            await check_reachable(broker)
    yield deployment, _broker(deployment, options)


def _halves(target: str, options: Options, domain: Domain, broker: BrokerAddress | None) -> Halves:
    def command(half: str, *more: str) -> list[str]:
        python = [sys.executable, "-m", "taktora_trio"]
        return [*python, half, target, "--domain", domain.name, "--log", options.log, *more]

    more: list[str] = []
    fds: list[int] = []
    if broker is not None:
        more += ["--broker", str(broker)]
        if broker.password is not None:
            fd, path = password_file(broker.password)
            fds.append(fd)
            more += ["--broker-password-file", path]
    if options.ca_file is not None:
        more += ["--ca-file", str(options.ca_file.absolute())]
    return Halves(command("plugin"), command("gateway", *more), fds)


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
            nursery.start_soon(stop_when, link.wait_until_gone)
        if seconds is not None:
            nursery.start_soon(stop_when, partial(trio.sleep, seconds))
        code = await work(stop)
        nursery.cancel_scope.cancel()
    return code


def _nothing() -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The command's entry point. Bad input ends it with one clear line and exit code 2."""
    if arguments is None:
        arguments = sys.argv[1:]
        hide_password_in_arguments(arguments)
    sys.exit(call(lambda: app(arguments, exit_on_error=False, print_error=False, result_action="return_value")))


def call(command: Callable[[], int | None]) -> int:
    """Run a command, and turn the errors that are meant for its user into one line each and an exit code."""
    code = 0
    try:
        code = command() or 0
    except* CycloptsError as group:
        code = _complain(_leaves(group), 2)
    except* ConfigError as group:
        code = _complain(_leaves(group), 2)
    except* ConnectorError as group:
        code = _complain(_leaves(group), 1)
    return code


def _complain(errors: Sequence[BaseException], code: int) -> int:
    for error in errors:
        print(f"taktora-trio: {error}", file=sys.stderr)  # noqa: T201 - for the user, not for the log
    return code


def _leaves(exc: BaseException) -> list[BaseException]:
    if isinstance(exc, BaseExceptionGroup):
        return [leaf for inner in exc.exceptions for leaf in _leaves(inner)]
    return [exc]
