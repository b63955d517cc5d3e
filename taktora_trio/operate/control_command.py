"""The commands by which an operator rules a run from another terminal: `stop`, `start`, `restart`, `revive`, `reload`,
`log-level`. Their help is in `cli`.
"""

from __future__ import annotations

from typing import Annotated

import attrs
from cyclopts import Parameter

from taktora_trio.errors import ConfigError
from taktora_trio.escaping import escaped
from taktora_trio.runners.command.target import Configured, OfRun, RunDomain, as_configured, domain_of_run
from taktora_trio.runners.options import Half
from taktora_trio.runners.parts.requests import Answer, Verb
from taktora_trio.runners.this_process.log_formats import LogLevel
from taktora_trio.runners.this_process.outcome import complain, show

__all__ = ["log_level", "reload", "restart", "revive", "start", "stop"]

_LENGTH = 4000  # characters of a line
_LONGEST = 3600.0

OneHalf = Annotated[Half | None, Parameter(help="This half alone; by default all of the run.")]


@attrs.frozen(kw_only=True)
class Ask:
    """Which run or half is meant, and how long to wait."""

    domain: RunDomain = None
    config: Configured = None
    half: OneHalf = None
    timeout: Annotated[float, Parameter(help="Seconds to wait until it is so.")] = 30.0


Asked = Annotated[Ask, Parameter(name="*")]
OF_ALL = Ask()


def stop(target: OfRun = None, /, *, asked: Asked = OF_ALL) -> int:
    """Stop a run or a half."""
    return _ask("stop", target, asked)


def start(target: OfRun = None, /, *, asked: Asked = OF_ALL) -> int:
    """Start what was stopped."""
    return _ask("start", target, asked)


def restart(target: OfRun = None, /, *, asked: Asked = OF_ALL) -> int:
    """Restart a run's halves."""
    if target is not None:
        from taktora_trio.operate.fitting import check_fits

        check_fits(as_configured(target, asked.config)[0], domain_of_run(target, asked.domain, asked.config))
    return _ask("restart", target, asked)


def revive(target: OfRun = None, /, *, domain: RunDomain = None, config: Configured = None) -> int:
    """Revive a gateway."""
    from taktora_trio.runners.parts.revival import ask_to_revive

    return _shown(ask_to_revive(domain_of_run(target, domain, config)))


def reload(target: OfRun = None, /, *, domain: RunDomain = None, config: Configured = None) -> int:
    """Reload a configuration."""
    from taktora_trio.operate.controlling import ask_who_supervises

    return _shown(ask_who_supervises(domain_of_run(target, domain, config), "reload"))


def log_level(
    level: Annotated[LogLevel, Parameter(help="The least level that is logged from now on.")],
    target: OfRun = None,
    /,
    *,
    domain: RunDomain = None,
    config: Configured = None,
    half: OneHalf = None,
) -> int:
    """Log more or less."""
    return _ask("log-level", target, Ask(domain=domain, config=config, half=half, timeout=10.0), what=level)


def _ask(verb: Verb, target: str | None, asked: Ask, *, what: str = "") -> int:
    from taktora_trio.operate.controlling import ask

    if not 1 <= asked.timeout <= _LONGEST:
        raise ConfigError(f"--timeout {asked.timeout:g}: give 1 to {_LONGEST:g} seconds")
    run = domain_of_run(target, asked.domain, asked.config)
    return _shown(ask(run, verb, asked.half or "", asked.timeout, what))


def _shown(answer: Answer) -> int:
    """Show an answer, and return its exit code."""
    for text in answer.lines:
        line = escaped(text, _LENGTH)
        if answer.code:
            complain(line)
        else:
            show(line)
    return answer.code
