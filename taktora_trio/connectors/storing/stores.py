"""Which channels are kept on disk, how, and where: what an app and an operator say. Nothing here touches a disk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs
import msgspec

from taktora_trio.channels import ChannelDescriptor, Inbound, Outbound, Store
from taktora_trio.connectors.base import Connector
from taktora_trio.errors import ConfigError
from taktora_trio.statefolder import deployment_folder

__all__ = ["ConnectorStore", "check_stores", "inbound_stores_of", "stores_of"]

_SHARED = ("path", "max_bytes", "sync_every", "catch_up_rate")  # a connector has one folder, one disk, one other side


class ConnectorStore(msgspec.Struct, frozen=True):
    """The store of one connector: its folder, whose it is, and the policy of each channel that is kept there."""

    folder: Path
    identity: str
    """Whose it is: of which domain, since the next run under it goes on with what is there, and of which connector."""
    channels: Mapping[str, Store]
    priorities: Mapping[str, int]

    @property
    def shared(self) -> Store:
        """The policy whose `max_bytes`, `sync_every` and `catch_up_rate` hold for the connector as a whole."""
        return next(iter(self.channels.values()))


def stores_of(connectors: Iterable[Connector], default: Store | None, domain: str) -> dict[str, ConnectorStore]:
    """Return the stores of these connectors by name; none for one that keeps nothing on disk.

    Raises `ConfigError` for policies that contradict one another, and where no folder is given and there is no home.
    """
    stores = {}
    for connector in connectors:
        if kept := _kept(connector, default):
            policies = {channel.name: store for channel, store in kept}
            stores[connector.name] = ConnectorStore(
                _folder(connector, kept[0][1], domain),
                f"{domain}/{connector.name}",
                policies,
                {channel.name: channel.priority for channel, _ in kept},
            )
    return stores


def inbound_stores_of(connectors: Iterable[Connector], store: Store | None, domain: str) -> dict[str, ConnectorStore]:
    """Return the stores of channels that acknowledge a message when it is stored, by connector: each has its own.

    Raises `ConfigError` where the deployment has no store, or no folder is given and there is no home.
    """
    stores = {}
    for connector in connectors:
        names = [one.name for one in connector.channels if isinstance(one, Inbound) and one.acknowledge == "stored"]
        if names and store is None:
            raise ConfigError(
                f"channel {names[0]!r}: acknowledge='stored' needs a store: write Deployment(..., store=Store()), or"
                " give --store PATH"
            )
        if names and store is not None:
            folder = _folder(connector, store, domain, "inbound")
            stores[connector.name] = ConnectorStore(
                folder, f"{domain}/{connector.name}", dict.fromkeys(names, store), {}
            )
    return stores


def check_stores(connectors: Iterable[Connector], default: Store | None) -> None:
    """Raise `ConfigError` for policies that contradict one another, or what their connector can do."""
    for connector in connectors:
        _kept(connector, default)


def _kept(connector: Connector, default: Store | None) -> list[tuple[Outbound[Any], Store]]:
    kept = []
    for channel in connector.channels:
        if isinstance(channel, Outbound) and (store := _store_of(connector, channel, default)) is not None:
            _check(connector, channel, store)
            kept.append((channel, store))
    for channel, store in kept:
        first, theirs = kept[0]
        for field in _SHARED:
            if getattr(store, field) != getattr(theirs, field):
                raise ConfigError(
                    f"connector {connector.name!r}: channels {first.name!r} and {channel.name!r} have stores with"
                    f" another {field}, which a connector's channels share: give both the same"
                )
    return kept


def _store_of(connector: Connector, channel: Outbound[Any], default: Store | None) -> Store | None:
    if channel.store == "never":
        return None
    if isinstance(channel.store, Store):
        if channel.store.path is None and default is not None:
            return attrs.evolve(channel.store, path=default.path)
        return channel.store
    # Nobody acknowledges a message that arrives at most once, so only an app that says so has it kept for outages.
    return default if connector.guarantee(channel) != "at most once" else None


def _check(connector: Connector, channel: ChannelDescriptor[Any], store: Store) -> None:
    if connector.guarantee(channel) == "exactly once" and store.catch_up != "oldest-first":
        raise ConfigError(
            f"channel {channel.name!r}: catch_up is {store.catch_up!r}, and its messages are to arrive exactly once,"
            " which holds in the order of sending alone: use 'oldest-first', or let them arrive at least once"
        )
    if store.mark_backlog:
        try:
            connector.check_carries_metadata()
        except ConfigError as exc:
            raise ConfigError(f"channel {channel.name!r} sets mark_backlog: {exc}") from None


def _folder(connector: Connector, store: Store, domain: str, which: str = "outbound") -> Path:
    try:
        return deployment_folder(domain, store.path) / which / connector.name
    except OSError as exc:
        raise ConfigError(f"there is no folder for the store ({exc}): give one by --store PATH") from exc
