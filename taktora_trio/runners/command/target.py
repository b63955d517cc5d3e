"""The arguments by which a command says which deployment or which run is meant, and what they stand for."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from taktora_trio.errors import ConfigError
from taktora_trio.runners.deployment import Deployment
from taktora_trio.runners.loading import load_deployment
from taktora_trio.runners.this_process.outcome import printing_aside
from taktora_trio.transport.domain import Domain

__all__ = ["Configured", "OfRun", "RunDomain", "Target", "as_configured", "domain_of_run"]

Target = Annotated[str, Parameter(help="The app, as MODULE:DEPLOYMENT, for example examples.echo:deployment.")]
OfRun = Annotated[str | None, Parameter(help="The app that runs, as MODULE:DEPLOYMENT.")]
RunDomain = Annotated[str | None, Parameter(help="The domain of the run; by default the deployment's name.")]
Configured = Annotated[str | None, Parameter(help="The file of settings of the run, instead of `taktora.toml`.")]


def domain_of_run(target: str | None, domain: str | None, config: str | None) -> Domain:
    """Return the domain of the run that is meant. Raises `ConfigError` if nothing says which."""
    if domain is None:
        if target is None:
            raise ConfigError("say which run: MODULE:DEPLOYMENT, or --domain NAME")
        _, domain = as_configured(target, config)
    return Domain(domain)


def as_configured(target: str, config: str | None, **typed: str | None) -> tuple[Deployment, str]:
    """Return the deployment with its store and its policies as its runs have them, and their domain."""
    from taktora_trio.runners.configuration.reading import Sources, read_keys  # who names a domain needs none of it

    given = tuple((name, text) for name, text in typed.items() if text is not None)
    with printing_aside():
        deployment = load_deployment(target)
    return read_keys(deployment, Sources(typed=given, config=config, default=True))
