"""Signs of life, looked at from outside: where no supervisor gets those of a run, somebody else has to."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from taktora_trio.errors import ConfigError, ConnectorError
from taktora_trio.transport.domain import ROLES, Domain, Role
from taktora_trio.transport.pulse import silence

if TYPE_CHECKING:  # a check of a container is to start fast
    from taktora_trio.runners.options import Half

__all__ = ["NotAlive", "Sign", "check_alive", "look"]


_PATIENCE = 3.0  # seconds: longer than from one sign to the next
_PAUSE = 0.05


class NotAlive(ConnectorError):
    """A half is not there, or gives no sign of life. The command shows its message in one line and exits with 1."""


class Sign(msgspec.Struct, frozen=True):
    """What is seen of the process that has a role."""

    is_alive: bool
    line: str
    """Says so, and why, for people."""
    may_come: bool = False
    """True if there is a process that gives no sign now, and may be about to."""


def look(domain: Domain, role: Role, max_age: float) -> Sign:
    """Look for the last sign of life of the process that has this role: it may be `max_age` seconds old.

    A gateway that waits for its plugin is alive. So is a half that an operator has stopped for now: a restart of the
    run would undo what somebody wants.
    """
    pid = domain.holder(role)
    age = None if pid is None else silence(domain, role)
    waits = pid is None and role == "gateway" and domain.is_awaited()
    if age is not None and age <= max_age:
        return Sign(True, f"the {role} lives (pid {pid}): its last sign of life came {age:.1f} s ago")
    if waits and not domain.is_ready():
        return Sign(True, "the gateway waits for its plugin")
    if pid is None and domain.is_at_rest(role):
        return Sign(True, f"the {role} was stopped by an operator: `taktora-trio start --half {role}` starts it again")
    if pid is None and not waits:
        return Sign(False, f"domain {domain.name!r} has no {role} now")
    who = f"the {role} (pid {pid})" if pid is not None else f"the {role}, for which its plugin is there,"
    since = "no sign of life at all" if age is None else f"no sign of life for {age:.1f} s"
    return Sign(False, f"domain {domain.name!r}: {who} hangs, or is stopped: {since}", may_come=True)


def check_alive(domain: Domain, half: Half | None, max_age: float) -> list[str]:
    """Return a line about each process of the run, or about the one that has this half. Each has given a sign lately.

    Raises `NotAlive` if one is not there, or its last sign is more than `max_age` seconds old and none comes within
    3 seconds: the whole run may have been stopped, this process too, and have gone on just now.
    Raises `ConfigError` for a `max_age` that can't be.
    """
    if not max_age > 0:
        raise ConfigError(f"--max-age {max_age:g}: give more than 0 seconds")
    roles: Sequence[Role] = ROLES if half is None else (half,)
    until = time.monotonic() + _PATIENCE
    return [_check(domain, role, max_age, until) for role in roles]


def _check(domain: Domain, role: Role, max_age: float, until: float) -> str:
    """Return a line about one role's process. It looks again and again, since nothing announces a sign of life."""
    while not (sign := look(domain, role, max_age)).is_alive:
        if not sign.may_come or time.monotonic() >= until:
            raise NotAlive(sign.line)
        time.sleep(_PAUSE)
    return sign.line
