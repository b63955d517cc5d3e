"""The `forget` command: the other side forgets a deployment that is gone for good."""

from __future__ import annotations

from functools import partial

import trio

from taktora_trio.errors import ConfigError
from taktora_trio.runners.command.half import read_for_gateway
from taktora_trio.runners.options import Options, TypedSettings
from taktora_trio.runners.this_process.outcome import show
from taktora_trio.transport.domain import ROLES, Domain

__all__ = ["forget_deployment"]


def forget_deployment(target: str, options: Options, typed: TypedSettings, even_if_up: bool) -> int:
    """Have the other side of each connector forget its gateway, and say so; return the exit code.

    Raises `ConfigError` where the deployment runs, and, unless `even_if_up`, where a gateway seems to be connected.
    """
    configuration = read_for_gateway(target, options, typed)
    deployment, domain, settings = configuration.configured, Domain(configuration.domain), configuration.settings
    deployment.check_files()
    if not settings.identify:  # else it may be another machine's
        _check_does_not_run(domain)
        domain.forget()
    for connector in deployment.connectors:
        forget = partial(connector.forget, connector.known_as(domain.identity), even_if_up=even_if_up)
        if forgotten := trio.run(forget):
            show(forgotten)
    return 0


def _check_does_not_run(domain: Domain) -> None:
    for role in ROLES:
        if pid := domain.holder(role):
            raise ConfigError(
                f"the deployment runs: pid {pid} is the {role} of domain {domain.name!r}; stop it first, for its"
                " gateway would lose its connection"
            )
