"""Runs that are none: pages as halves write them, in a domain that this process holds."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from typing import Any

from taktora_trio.transport.domain import Domain, Role
from taktora_trio.transport.health import start_time
from taktora_trio.transport.snapshot import map_snapshot, page_bytes
from taktora_trio.vitals.model import Change, Channel, Connector, Page
from taktora_trio.vitals.reading import page_name
from taktora_trio.vitals.writing import PageWriter

NOW = 1_764_158_400.0


def up(name: str = "mqtt", **more: Any) -> Connector:
    return Connector(**{"name": name, "health": "Up", "since": NOW, "peer": "mqtt://broker:1883", **more})


def down(name: str = "mqtt", reason: str = "connection refused", **more: Any) -> Connector:
    return Connector(**{"name": name, "health": "Down", "since": NOW, "reason": reason, "cause": reason, **more})


def channel(name: str = "north", direction: str = "out", **more: Any) -> Channel:
    """A channel with 1,000 messages of 100 bytes, all done with."""
    values = {
        "connector": "mqtt",
        "name": name,
        "direction": direction,
        "address": f"greenhouse/{name}",
        "window": 64,
        "messages": 1000,
        "payload_bytes": 100_000,
        "done": 1000,
        "in_use": 0,
        **more,
    }
    return Channel(**values)


def change(after: str, before: str = "Up", connector: str = "mqtt", at: float = NOW, **more: Any) -> Change:
    return Change(**{"at": at, "connector": connector, "before": before, "after": after, **more})


def page(domain: Domain | str, name: str, **more: Any) -> Page:
    """What this half of the domain says, in this process, if it is as every half is; `more` are its other fields."""
    values: dict[str, Any] = {
        "name": name,
        "app": "greenhouse",
        "pid": os.getpid(),
        "process_started": start_time(os.getpid()) or 0,
        "incarnation": 1,
        "restarts": 0,
        "started_at": time.clock_gettime(time.CLOCK_BOOTTIME) - 60,
        "interval": 1.0,
        "memory": 40_000_000,
        "cpu": 1.5,
        "loop_lag": 0.001,
        "connectors": [up()],
        "channels": [channel("north"), channel("all", "in")],
        "history": [change("Up", "Connecting")],
        **more,
    }
    return Page(**values)


def write(domain: Domain, written: Page) -> None:
    """Write a page into a domain that has an owner, as that half does."""
    path = domain.present().path / page_name(written.name)
    most = page_bytes(len(written.connectors), len(written.channels))
    with contextlib.closing(map_snapshot(path, most)) as snapshots:
        PageWriter(snapshots).write(written)


@contextlib.contextmanager
def open_run(domain: Domain, *pages: Page, roles: tuple[Role, ...] = ("owner", "plugin", "gateway")) -> Iterator[None]:
    """Hold a domain in these roles, with these pages; without any, one of each half that is well."""
    with domain.hold(*roles):
        for each in pages or (page(domain, "plugin"), page(domain, "gateway")):
            write(domain, each)
        yield
