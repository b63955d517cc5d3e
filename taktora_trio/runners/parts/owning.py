"""A domain that this process has roles in, ready to be used: its node, its services, its signs of life."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence

import msgspec

from taktora_trio.connectors.base import Connector
from taktora_trio.connectors.plan import specs_of
from taktora_trio.transport.domain import Domain, Role
from taktora_trio.transport.node import open_node
from taktora_trio.transport.orphans import wait_for_orphans
from taktora_trio.transport.ports import Node
from taktora_trio.transport.pulse import open_pulse
from taktora_trio.transport.services import open_services
from taktora_trio.transport.sizing import check_plan, plan_memory

__all__ = ["OpenDomain", "open_domain"]


class OpenDomain(msgspec.Struct, frozen=True):
    """A domain as its owner has it: with a node, and with every service of the connectors."""

    domain: Domain
    node: Node
    beat: Callable[[], None]
    """Gives a sign of life for each role of this process."""


@contextlib.asynccontextmanager
async def open_domain(
    domain: Domain, connectors: Sequence[Connector], *roles: Role, joins: bool = False
) -> AsyncIterator[OpenDomain]:
    """Own a domain for as long as the block lasts: have these roles in it, and create every service.

    Services are created by the process that lives longest, so that either half can be killed at any moment. It removes
    what a killed run has left. With `joins`, a half that is there already may stay; else a half of a killed run has 5 s
    to end by itself.

    Raises `ConfigError` where the plan does not fit into shared memory, and `DomainInUse`.
    """
    specs = specs_of(connectors)
    check_plan(plan_memory(specs))
    if not joins:
        await wait_for_orphans(domain)
    with domain.hold("owner", *roles), open_pulse(domain, "owner", *roles) as beat:
        async with open_node(domain, "owner") as node, open_services(node, specs):
            if "gateway" not in roles:
                domain.announce_ready()
            yield OpenDomain(domain, node, beat)
