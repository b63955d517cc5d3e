"""The `health` command: a probe from outside, where no supervisor gets the signs of life of a run."""

from __future__ import annotations

import time
from collections.abc import Sequence

from taktora_trio.errors import ConfigError, ConnectorError
from taktora_trio.runners.options import Half
from taktora_trio.transport.domain import ROLES, Domain, Role
from taktora_trio.transport.pulse import silence

__all__ = ["NotAlive", "check_alive"]


_PATIENCE = 3.0  # seconds: longer than from one sign to the next
_PAUSE = 0.05


class NotAlive(ConnectorError):
    """A half is not there, or gives no sign of life. The command shows its message in one line and exits with 1."""


def check_alive(domain: Domain, half: Half | None, max_age: float) -> list[str]:
    """Return a line about each process of the run, or about the one that has this half. Each has given a sign lately.

    Raises `NotAlive` if one is not there, or its last sign is more than `max_age` seconds old and none comes within
    3 seconds: the whole run may have been stopped, this process too, and have gone on just now. A gateway that waits
    for its plugin is alive. Raises `ConfigError` for a `max_age` that can't be.
    """
    if not max_age > 0:
        raise ConfigError(f"--max-age {max_age:g}: give more than 0 seconds")
    roles: Sequence[Role] = ROLES if half is None else (half,)
    until = time.monotonic() + _PATIENCE
    return [_check(domain, role, max_age, until) for role in roles]


def _check(domain: Domain, role: Role, max_age: float, until: float) -> str:
    """Return a line about one role's process. It looks again and again, since nothing announces a sign of life."""
    while True:
        pid = domain.holder(role)
        age = None if pid is None else silence(domain, role)
        waits = pid is None and role == "gateway" and domain.is_awaited()
        if age is not None and age <= max_age:
            return f"the {role} lives (pid {pid}): its last sign of life came {age:.1f} s ago"
        if waits and not domain.is_ready():
            return "the gateway waits for its plugin"
        if pid is None and not waits:
            raise NotAlive(f"domain {domain.name!r} has no {role} now")
        if time.monotonic() >= until:
            who = f"the {role} (pid {pid})" if pid is not None else f"the {role}, for which its plugin is there,"
            since = "no sign of life at all" if age is None else f"no sign of life for {age:.1f} s"
            raise NotAlive(f"domain {domain.name!r}: {who} hangs, or is stopped: {since}")
        time.sleep(_PAUSE)
