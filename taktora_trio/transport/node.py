"""iceoryx2 nodes: one for each process of a domain, by which it opens services."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import TypeAlias

import iceoryx2 as iox2

from taktora_trio.transport.cleaning import clean_up_dead_nodes, without_own_cleaning
from taktora_trio.transport.descriptors import refusal
from taktora_trio.transport.domain import Domain
from taktora_trio.transport.reservation import reserve
from taktora_trio.transport.segments import PAGE
from taktora_trio.transport.spec import KEPT_WRITERS

__all__ = ["Node", "config_of", "open_node"]

Node: TypeAlias = iox2.Node

_NODE = 4 * PAGE
# A subscriber with more connections than this to writers that are gone ends its process (iceoryx2 0.10). Each costs it
# 4 KB; the default is 128.
_SPARE = 16


def config_of(domain: Domain) -> iox2.config.Config:
    """Return the iceoryx2 configuration for the domain's present files. Raises `TransportError` if it has no owner."""
    present = domain.present()
    config = iox2.config.default()
    config.global_cfg.root_path = iox2.Path.new(str(present.path))
    config.global_cfg.prefix = iox2.FileName.new(present.prefix)
    config.defaults.publish_subscribe.subscriber_expired_connection_buffer = KEPT_WRITERS + _SPARE
    return without_own_cleaning(config)


@contextlib.asynccontextmanager
async def open_node(domain: Domain, name: str) -> AsyncIterator[iox2.Node]:
    """Open an iceoryx2 node in the domain, and clean up dead ones.

    The caller must hold a role, and hold it for longer than any reference to the node lasts: a local variable of the
    same function outlives the block that the node was opened for.

    Raises `TransportError` (`SharedMemoryFull` is one) and `TooFewDescriptors`.
    """
    iox2.set_log_level(iox2.LogLevel.Error)  # here, so that an import of ours changes nothing for others
    config = config_of(domain)
    try:
        async with reserve(config, _NODE, f"a node of domain {domain.name!r}"):
            node = (
                iox2.NodeBuilder.new()
                .name(iox2.NodeName.new(name))
                .config(config)
                # By default iceoryx2 takes 13 signals, and trio would never see SIGINT or SIGTERM again.
                .signal_handling_mode(iox2.SignalHandlingMode.Disabled)
                .create(iox2.ServiceType.Ipc)
            )
    except iox2.NodeCreationFailure as exc:
        what = f"a node of domain {domain.name!r}"
        raise refusal(what, exc, f"cannot open {what}: {exc}; see the iceoryx2 documentation") from exc
    await clean_up_dead_nodes(node)
    yield node
