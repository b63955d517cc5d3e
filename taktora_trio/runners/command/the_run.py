"""Which run is meant: by its deployment, by its domain, or the only one that there is."""

from __future__ import annotations

from taktora_trio.errors import ConfigError, NoSuchDomain
from taktora_trio.runners.command.target import domain_of_run
from taktora_trio.transport.domain import Domain
from taktora_trio.vitals.reading import nothing_runs, running

__all__ = ["the_run"]


def the_run(target: str | None, domain: str | None, config: str | None) -> Domain:
    """Return the domain that is meant. Raises `NoSuchDomain` and `ConfigError`."""
    if target is not None or domain is not None:
        return domain_of_run(target, domain, config)
    there = running()
    if not there:
        raise NoSuchDomain(nothing_runs())
    if len(there) > 1:
        raise ConfigError(f"say which run: MODULE:DEPLOYMENT, or --domain NAME; there are {', '.join(there)}")
    return Domain(there[0])
