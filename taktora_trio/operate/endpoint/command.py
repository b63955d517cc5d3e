"""The command `taktora-trio endpoint`: the process that serves an endpoint. Its help is in `cli`.

A run with `--endpoint` starts it as its child, with a socket that listens already. Beside halves that systemd or
Kubernetes supervise, it is started like them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from functools import partial
from typing import Annotated

import trio
from cyclopts import Parameter
from trio_util import move_on_when

from taktora_trio.errors import ConfigError
from taktora_trio.operate.endpoint.sampling import Sampler
from taktora_trio.processes.child.life_signs import LifeSigns, inherited_life_signs
from taktora_trio.processes.child.supervisor_link import inherited_link
from taktora_trio.runners.command.target import Configured, OfRun, RunDomain
from taktora_trio.runners.configuration.endpoint import Endpoint, endpoint_of
from taktora_trio.runners.configuration.from_flags import apart
from taktora_trio.runners.configuration.given import Given, Source
from taktora_trio.runners.configuration.keys import variable_for
from taktora_trio.runners.configuration.reading import Sources, effective, read_endpoint
from taktora_trio.runners.endpoint.beside import listening
from taktora_trio.runners.endpoint.listening import url_of
from taktora_trio.runners.endpoint.token import read_token
from taktora_trio.runners.loading import load_deployment
from taktora_trio.runners.options import EndpointOptions
from taktora_trio.runners.this_process.collecting import collect_less
from taktora_trio.runners.this_process.log_formats import LogFormat, LogLevel
from taktora_trio.runners.this_process.logs import set_up_logging
from taktora_trio.runners.this_process.outcome import printing_aside
from taktora_trio.runners.this_process.pid1 import leave_pid_1
from taktora_trio.runners.this_process.until_stopped import until_stopped
from taktora_trio.transport.domain import Domain
from taktora_trio.vitals import read

__all__ = ["serve_endpoint"]

log = logging.getLogger(__name__)

_KEYS = ("endpoint", "endpoint-page", "endpoint-token-file")


def serve_endpoint(
    target: OfRun = None,
    /,
    *,
    domain: RunDomain = None,
    config: Configured = None,
    endpoint: Annotated[EndpointOptions, Parameter(name="*", negative="")] = EndpointOptions(),
    log_: Annotated[LogFormat, Parameter(name="--log", help="Log lines for people, or JSON for machines.")] = "console",
) -> int:
    """Serve an endpoint."""
    leave_pid_1()
    collect_less()
    with contextlib.ExitStack() as stack:
        life = stack.enter_context(contextlib.closing(inherited_life_signs()))
        if (link := inherited_link()) is not None:
            stack.callback(link.close)
        chosen, named = _chosen(target, config, endpoint, domain)
        own = Domain(named)
        listener = stack.enter_context(listening(chosen))
        if link is None:
            read(own)  # a name that was mistyped is to be said at once; later the run may come and go
        # A run says itself that its endpoint is there, and when it stops.
        level: LogLevel = "info" if link is None else "warning"
        set_up_logging(log_, "endpoint", level=level, tagged=link is not None)
        return trio.run(until_stopped, partial(_serve, own, chosen, listener, life), link)


async def _serve(domain: Domain, endpoint: Endpoint, listener: socket.socket, life: LifeSigns, stop: trio.Event) -> int:
    """Answer until `stop` is set. Connections are closed at once then: whoever watches is to ask who comes after us."""
    # They use libraries of the extra, which `listening` has looked for.
    from taktora_trio.operate.endpoint.access import Access
    from taktora_trio.operate.endpoint.answers import Answers
    from taktora_trio.operate.endpoint.http import serve_http

    sampler = Sampler(domain) if endpoint.page else None
    access = Access(read_token(endpoint.token_file), checks_host=listener.family != socket.AF_UNIX)
    served = trio.SocketListener(trio.socket.from_stdlib_socket(listener.dup()))
    async with served, move_on_when(stop.wait), trio.open_nursery() as nursery:
        await life.ready("serves")
        log.info(
            "domain %s: probes, metrics%s at %s",
            domain.name,
            " and a page" * endpoint.page,
            url_of(listener),
            extra={"event": "endpoint", "address": url_of(listener)},
        )
        nursery.start_soon(life.serve)
        if sampler is not None:
            nursery.start_soon(sampler.serve)
        await serve_http(served, Answers(domain, access, sampler))
    return 0


def _chosen(
    target: str | None, config: str | None, options: EndpointOptions, domain: str | None
) -> tuple[Endpoint, str]:
    """Return what is to be served, and for which domain. Raises `ConfigError`."""
    if target is not None:
        given = (*options.typed, *((("domain", domain),) if domain is not None else ()))
        with printing_aside():
            deployment = load_deployment(target)
        endpoint, domain = read_endpoint(deployment, Sources(typed=given, config=config, default=True))
    elif domain is None:
        raise ConfigError("say which run: MODULE:DEPLOYMENT, or --domain NAME")
    else:  # nothing says which settings a file may have
        named = {variable_for(key): key for key in _KEYS}
        given_by_environment = [
            Given(key, text, Source.ENVIRONMENT, name) for name, key in named.items() if (text := os.environ.get(name))
        ]
        endpoint = endpoint_of(effective([*given_by_environment, *apart(options.typed)[0]]))
    if endpoint is None:
        raise ConfigError("say where to listen: --endpoint 127.0.0.1:9464, or --endpoint unix:PATH")
    return endpoint, domain
