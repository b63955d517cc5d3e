"""Which run is meant: by its deployment, by its domain, or the only one that there is."""

from __future__ import annotations

import contextlib

from taktora_trio.errors import ConfigError, NoSuchDomain
from taktora_trio.operate.seeing.wording import listed
from taktora_trio.runners.command.target import domain_of_run
from taktora_trio.transport.domain import ROLES, Domain
from taktora_trio.vitals import domains

__all__ = ["the_run"]


def the_run(target: str | None, domain: str | None, config: str | None) -> Domain:
    """Return the domain that is meant. Raises `NoSuchDomain` and `ConfigError`."""
    if target is not None or domain is not None:
        return domain_of_run(target, domain, config)
    there = [name for name in domains() if _runs(name)]
    if not there:
        raise NoSuchDomain("nothing runs here as this user: start a deployment, or be its user")
    if len(there) > 1:
        raise ConfigError(f"say which run: MODULE:DEPLOYMENT, or --domain NAME; there are {listed(there)}")
    return Domain(there[0])


def _runs(name: str) -> bool:
    """True if a process has a role in the domain; what a killed run has left is none that is meant."""
    with contextlib.suppress(ConfigError):  # a name that is known by its beginning alone
        return any(Domain(name).holder(role) is not None for role in ROLES)
    return False
