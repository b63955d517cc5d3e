"""What `ps` shows: every run of this user, a line each. It needs no library of its own."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from taktora_trio import vitals
from taktora_trio.errors import ConfigError, NoSuchDomain
from taktora_trio.escaping import escaped
from taktora_trio.operate.monitoring.formatting import duration
from taktora_trio.operate.monitoring.table import table
from taktora_trio.vitals import DomainVitals, HalfVitals

__all__ = ["Run", "as_json", "as_lines", "runs"]

_WORST = ("Down", "Connecting", "Degraded", "Up")


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One run, in a few words."""

    domain: str
    app: str = ""
    mode: str = ""
    plugin: str
    """The state of this half, and its process id."""
    gateway: str
    health: str = ""
    """The worst health of a connector, and which."""
    uptime: float | None = None
    is_well: bool = False


def runs() -> Iterator[Run]:
    """Yield every run of this user, also what a killed one has left."""
    for name in vitals.domains():
        try:
            reading = vitals.read(name)
        except NoSuchDomain:  # it has ended meanwhile
            continue
        except ConfigError:  # it has left nothing that says its whole name
            yield Run(domain=name, plugin="gone", gateway="gone")
            continue
        yield _run(reading)


def as_json(found: list[Run]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n"


def as_lines(found: list[Run]) -> list[str]:
    rows = [("domain", "app", "mode", "plugin", "gateway", "health", "up")]
    rows += [
        (
            escaped(run.domain, 64),
            escaped(run.app, 24) or "-",
            run.mode or "-",
            run.plugin,
            run.gateway,
            escaped(run.health) or "-",
            duration(run.uptime),
        )
        for run in found
    ]
    return table(rows, "<<<<<<>")


def _run(reading: DomainVitals) -> Run:
    gateways = [half for name, half in reading.halves.items() if name != "plugin"]
    plugin = reading.halves["plugin"]
    # Where nobody is left, what was last said of a connector is so no more.
    said = reading.connectors.values() if any(half and half.state != "gone" for half in (plugin, *gateways)) else ()
    worst = min(said, key=lambda one: _WORST.index(one.health), default=None)
    health = "" if worst is None else worst.health if len(reading.connectors) == 1 else f"{worst.name} {worst.health}"
    return Run(
        domain=reading.domain,
        app=reading.app,
        mode=reading.mode,
        plugin=_half(plugin),
        gateway=", ".join(map(_half, gateways)),
        health=health,
        uptime=None if plugin is None else plugin.uptime,
        is_well=reading.is_well,
    )


def _half(half: HalfVitals | None) -> str:
    if half is None:
        return "none"
    return half.state if half.pid is None or half.state == "gone" else f"{half.state} {half.pid}"
