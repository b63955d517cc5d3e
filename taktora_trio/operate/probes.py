"""What a probe asks of a run: does it live, and can it work? Each answer has its reasons, one a line.

*Live* means that each of its processes is there and its loop turns, by the signs of life in shared memory. A peer
that is away changes nothing in that, nor does a half that an operator has stopped: a restart would mend neither.
*Ready* means that messages can pass: each half runs, and each connector is `Up`, or `Degraded`, where something is
wrong and messages pass nevertheless.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from taktora_trio.escaping import escaped
from taktora_trio.operate.liveness import look
from taktora_trio.transport.domain import ROLES, Domain

if TYPE_CHECKING:  # a check of a container is to start fast
    from taktora_trio.runners.options import Half
    from taktora_trio.vitals import ConnectorVitals, DomainVitals, HalfVitals

__all__ = ["Check", "alive", "as_text", "ready"]

_LONGEST = 400  # characters of a line


class Check(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    is_well: bool
    line: str


def alive(domain: Domain, max_age: float) -> list[Check]:
    """Look at the signs of life of a run."""
    signs = [look(domain, role, max_age) for role in ROLES]
    return [Check(sign.is_alive, sign.line) for sign in signs]


def ready(vitals: DomainVitals, half: Half | None = None) -> list[Check]:
    """Look whether messages can pass a run, or one half."""
    checks = list(_halves(vitals, half))
    if half != "plugin":
        checks += [Check(one.health in ("Up", "Degraded"), _connector(one)) for one in vitals.connectors.values()]
        if not vitals.connectors:
            checks.append(Check(False, "no connector has said how it is yet"))
    return checks


def as_text(checks: list[Check], what: str) -> str:
    """Return the checks as probes show them, as those of Kubernetes do, and what comes of them."""
    lines = [f"[{'+' if check.is_well else '-'}] {escaped(check.line, _LONGEST)}" for check in checks]
    outcome = "passed" if all(check.is_well for check in checks) else "failed"
    return "\n".join([*lines, f"{what} {outcome}", ""])


def _halves(vitals: DomainVitals, half: Half | None) -> Iterator[Check]:
    for name, one in vitals.halves.items():
        if half is None or name.partition(":")[0] == half:
            yield Check(one is not None and one.state == "runs", _half(name, one))


def _half(name: str, half: HalfVitals | None) -> str:
    if half is None:
        return f"there is no {name}"
    pid = "" if half.pid is None else f" (pid {half.pid})"
    return f"the {name}{pid}: {half.state}{f', {half.problem}' if half.problem else ''}"


def _connector(one: ConnectorVitals) -> str:
    return f"connector {one.name}: {one.health}{f', {one.reason}' if one.reason else ''}"
