"""The `healthcheck` command: the probe of a container, without HTTP.

It is asked again and again, in each container, so it starts fast: as it is mostly typed it needs neither the parser nor
the deployment.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, cast

import msgspec

from taktora_trio.errors import ConnectorError
from taktora_trio.escaping import escaped
from taktora_trio.operate.liveness import NotAlive, check_alive
from taktora_trio.operate.probes import ready
from taktora_trio.runners.this_process.outcome import show
from taktora_trio.transport.domain import HALVES, Domain

if TYPE_CHECKING:
    from taktora_trio.runners.options import Half
    from taktora_trio.vitals import DomainVitals

__all__ = ["MAX_AGE", "NotReady", "check", "plain_healthcheck"]

MAX_AGE = 10.0
"""Seconds that the last sign of life may be old, where nothing else is said."""
_LONGEST = 400  # characters of a line


class NotReady(ConnectorError):
    """Messages can't pass now. The command shows its message in one line and exits with 1."""


def check(
    domain: Domain, half: Half | None = None, max_age: float = MAX_AGE, is_ready: bool = False, as_json: bool = False
) -> int:
    """Show what is well, and return 0. With `is_ready`, messages have to be able to pass, too.

    Raises `NotAlive`, `NotReady`, and `NoSuchDomain` where there is no run at all. `as_json` shows a failure instead,
    and returns 1.
    """
    try:
        lines = _checked(domain, half, max_age, is_ready)
    except (NotAlive, NotReady) as exc:
        if not as_json:
            raise
        show(_as_json(False, [str(exc)]))
        return 1
    show(_as_json(True, lines) if as_json else "\n".join(lines))
    return 0


def plain_healthcheck(arguments: Sequence[str]) -> Callable[[], int] | None:
    """Return the check that these arguments ask for, ready to be called. `None` if the parser has to look at them."""
    if arguments[:1] != ["healthcheck"]:
        return None
    given: dict[str, str] = {}
    flags: set[str] = set()
    rest = list(reversed(arguments[1:]))
    while rest:
        option, equals, text = rest.pop().partition("=")
        if option in ("--ready", "--json") and not equals:
            flags.add(option)
        elif option in ("--domain", "--half", "--max-age") and option not in given and (equals or rest):
            given[option] = text if equals else rest.pop()
        else:
            return None
    half = given.get("--half")
    if "--domain" not in given or half not in (None, *HALVES):
        return None
    try:
        max_age = float(given.get("--max-age", MAX_AGE))
    except ValueError:
        return None
    return partial(_check_named, given["--domain"], half, max_age, "--ready" in flags, "--json" in flags)


def _check_named(domain: str, half: str | None, max_age: float, is_ready: bool, as_json: bool) -> int:
    return check(Domain(domain), cast("Half | None", half), max_age, is_ready, as_json)


def _checked(domain: Domain, half: Half | None, max_age: float, is_ready: bool) -> list[str]:
    try:
        lines = check_alive(domain, half, max_age)
    except NotAlive:
        if domain.generation is None:
            _read(domain)  # raises, and says which runs there are
        raise
    if not is_ready:
        return lines
    checks = ready(_read(domain), half)
    if failed := [one.line for one in checks if not one.is_well]:
        raise NotReady(escaped(f"domain {domain.name!r} is not ready: {'; '.join(failed)}", _LONGEST))
    return [escaped(one.line, _LONGEST) for one in checks]


def _read(domain: Domain) -> DomainVitals:
    from taktora_trio.vitals import read  # a run that lives needs none of it

    return read(domain)


def _as_json(is_well: bool, lines: Sequence[str]) -> str:
    return msgspec.json.encode({"healthy": is_well, "checks": lines}).decode()
