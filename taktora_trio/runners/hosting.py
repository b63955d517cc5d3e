"""A deployment in a program that has a trio loop of its own: start it, use its host, stop it."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import AsyncIterator, Iterator

import msgspec
import trio

from taktora_trio.host.host import ConnectorHost
from taktora_trio.host.open import open_connector_host
from taktora_trio.processes import interpreter
from taktora_trio.processes.link import LinkEnd
from taktora_trio.processes.parent.process import StartProcess, as_process, spawn
from taktora_trio.runners.child_log import log_line
from taktora_trio.runners.configuration.from_program import ProgramSettings, as_typed
from taktora_trio.runners.configuration.reading import Configuration, Sources, read_configuration
from taktora_trio.runners.configuration.settings import Settings
from taktora_trio.runners.deployment import Deployment
from taktora_trio.runners.endpoint import open_endpoint, open_endpoint_socket
from taktora_trio.runners.finding import name_of
from taktora_trio.runners.loading import load_deployment
from taktora_trio.runners.options import Mode, Options, check_mode
from taktora_trio.runners.parts.flight import open_flight_recorder
from taktora_trio.runners.parts.outlasting import open_outlasting
from taktora_trio.runners.parts.owning import open_domain
from taktora_trio.runners.parts.relay import Relay
from taktora_trio.runners.parts.status import open_life
from taktora_trio.runners.secrets import passwords_as_settings
from taktora_trio.supervision.supervisor import Supervisor
from taktora_trio.transport.domain import Domain

__all__ = ["open_deployment"]


@contextlib.asynccontextmanager
async def open_deployment(
    deployment: Deployment | str,
    *,
    mode: Mode = "in-process",
    domain: str | None = None,
    settings: ProgramSettings | None = None,
    store: str | os.PathLike[str] | None = None,
    config: str | os.PathLike[str] | None = None,
) -> AsyncIterator[ConnectorHost]:
    """Run a deployment's gateway for as long as the block lasts, and yield the host. The program itself is the app.

    With `mode="in-process"` the gateway is a task of this program; with `"split"` it is a child process, which imports
    the deployment by its name: that is looked for in the modules of this program, or given as "module:attribute"
    instead of the deployment. Either way the gateway is restarted by the deployment's `gateway_policy`.

    `domain` is the name under which both halves find each other, by default the deployment's. `settings` are those of
    the connectors, by their names at the command line, as `{"broker": URL}`, or `{"broker": {CONNECTOR: URL}}`.
    `store` is the folder in which outbound messages are kept on disk, by default as the deployment says. `config` is a
    file of settings (TOML), by default the one that the environment variable TAKTORA_CONFIG names, or none. What is
    given here wins over the environment, and that over the file.

    After the block the gateway publishes what was sent last. A block that raises or is cancelled waits for that no
    longer than the policy's `stop_grace`. Nothing outlives the block. No signal handler is installed.

    Raises `ConfigError` for what can't work, and `Escalated`, in a group, if the gateway failed too often and its
    policy says so.
    """
    check_mode(mode)
    if isinstance(deployment, str):
        target, declared = deployment, load_deployment(deployment)
    else:
        declared = deployment
        target = name_of(deployment) if mode == "split" else ""
    options = Options(
        domain=domain,
        store=None if store is None else os.fspath(store),
        config=None if config is None else os.fspath(config),
    )
    with passwords_as_settings(take=False) as passwords:
        typed = (*options.typed, *as_typed(settings or {}), *passwords)
        configuration = read_configuration(declared, Sources(typed=typed, config=options.config), "in-process")
    configuration.refuse("fence.plugin", "the program is the app here: fence it where it is started")
    if mode == "in-process":
        configuration.refuse("fence.gateway", 'the gateway is a task of the program: use mode="split"')
    configuration.fences.gateway.check("gateway")
    own = Domain(configuration.domain)
    async with contextlib.AsyncExitStack() as stack:
        listener = stack.enter_context(open_endpoint_socket(configuration.endpoint))
        supplied = await stack.enter_async_context(configuration.settings.supplied(configuration.declared))
        configured = supplied.applied_to(configuration.declared)
        configured.check_files()
        await trio.to_thread.run_sync(configured.check_stores, own.name)
        await stack.enter_async_context(open_endpoint(configuration, listener))
        if mode == "in-process":
            from taktora_trio.runners.scripts.in_process import open_in_process  # the split shape has no use for it

            async with open_in_process(configured, own, trio.Event()) as host:
                yield host
        else:
            with _gateway_command(target, configuration, supplied) as start_gateway:
                async with _open_with_gateway_process(configured, own, start_gateway) as host:
                    yield host


@contextlib.asynccontextmanager
async def _open_with_gateway_process(
    deployment: Deployment, domain: Domain, start_gateway: StartProcess
) -> AsyncIterator[ConnectorHost]:
    """Run the gateway in a child process, and yield the host: this process owns the domain, and is the plugin."""
    connectors, policy = deployment.connectors, deployment.gateway_policy
    async with (
        open_domain(domain, connectors, "plugin") as opened,
        _open_link() as (to_host, to_supervisor),
        open_connector_host(
            opened.node,
            connectors,
            link=to_supervisor,
            observers=deployment.observers,
            settings=deployment.app_settings,
            deployment=deployment.name,
        ) as host,
        open_life(None, trio.Event(), opened.beat, "the app runs") as nursery,
    ):
        relay = Relay(domain, nursery)
        about_gateway = relay.gateway(lambda: gateway.revive(), ended=lambda exit_: gateway.ended(exit_))
        relay.plugin_started(to_host)  # the host hears how its gateway fares as one in a process of its own does
        gateway = Supervisor(
            "gateway",
            as_process(
                "gateway",
                start_gateway,
                policy,
                write=log_line,
                on_start=about_gateway.started,
                on_end=about_gateway.ended,
                on_exit=about_gateway.exited,
            ),
            policy,
            on_failure=about_gateway.failed,
            on_revived=about_gateway.revived,
        )
        # A process is asked to stop by SIGTERM, and has the policy's grace.
        async with (
            open_outlasting(gateway.run, trio.CancelScope.cancel, policy.stop_grace),
            open_flight_recorder(deployment, domain, "plugin", host),
        ):
            yield host


@contextlib.asynccontextmanager
async def _open_link() -> AsyncIterator[tuple[LinkEnd, LinkEnd]]:
    ours, theirs = (LinkEnd(end) for end in socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
    try:
        yield ours, theirs
    finally:
        ours.close()
        theirs.close()


@contextlib.contextmanager
def _gateway_command(target: str, configuration: Configuration, settings: Settings) -> Iterator[StartProcess]:
    program, environment = interpreter.program("taktora_trio"), interpreter.environment()
    arguments, descriptors = settings.as_arguments()
    given = [
        *msgspec.structs.replace(configuration, log="json").arguments(),
        *arguments,
        *configuration.store_arguments(),
        *configuration.fences.gateway.options("gateway"),
    ]
    try:
        yield spawn([*program, "gateway", target, *given], descriptors, environment)
    finally:
        for fd in descriptors:
            os.close(fd)
