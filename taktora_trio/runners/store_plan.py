"""What a deployment's stores may take of the disk, for people and as data: a part of `plan`."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import attrs

from taktora_trio.connectors.storing.stores import ConnectorStore
from taktora_trio.runners.deployment import Deployment

__all__ = ["StorePlan", "plan_stores", "stores_text"]

_MIB = 2**20
_INBOUND = "inbound, acknowledged when stored"


@attrs.frozen
class StorePlan:
    """One connector's store, in bytes."""

    connector: str
    folder: str
    max_bytes: int
    free_bytes: int | None
    """Free on its disk now; `None` if that can't be told."""
    policies: Mapping[str, str]
    """The policy of each channel that is stored."""


def plan_stores(deployment: Deployment) -> list[StorePlan]:
    """Return the stores of a run under the deployment's own name. Raises `ConfigError` where there is no folder."""
    outbound, inbound = deployment.stores(deployment.name), deployment.inbound_stores(deployment.name)
    return [
        StorePlan(name, str(store.folder), store.shared.max_bytes, _free(store.folder), policies)
        for name, store, policies in (
            *((name, store, _policies(store)) for name, store in outbound.items()),
            *((name, store, dict.fromkeys(store.channels, _INBOUND)) for name, store in inbound.items()),
        )
    ]


def stores_text(plans: list[StorePlan]) -> str:
    """Return the plan for people, two lines a store; empty if there is none."""
    lines = []
    for plan in plans:
        free = "" if plan.free_bytes is None else f", {plan.free_bytes / _MIB:,.0f} MiB free there"
        lines.append(f"store of {plan.connector}: at most {plan.max_bytes / _MIB:,.0f} MiB in {plan.folder}{free}")
        lines += [f"    {channel}: {policy}" for channel, policy in plan.policies.items()]
    return "\n".join(lines)


def _policies(store: ConnectorStore) -> dict[str, str]:
    return {
        name: f"{policy.policy}, when full {policy.when_full}, catches up {policy.catch_up}"
        for name, policy in store.channels.items()
    }


def _free(folder: Path) -> int | None:
    try:
        return shutil.disk_usage(next(one for one in (folder, *folder.parents) if one.exists())).free
    except (OSError, StopIteration):
        return None
