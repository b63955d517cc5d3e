"""The command `logs`: the latest lines of a run that is there, or that was killed, wherever its output goes."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Literal

import msgspec
import trio
from cyclopts import Parameter
from trio_util import move_on_when

from taktora_trio.errors import ConfigError
from taktora_trio.operate.log_reading import Line, Wanted, follow, read, shown
from taktora_trio.runners.command.target import Configured, OfRun, RunDomain
from taktora_trio.runners.command.the_run import the_run
from taktora_trio.runners.this_process.outcome import show
from taktora_trio.runners.this_process.until_stopped import until_stopped
from taktora_trio.transport.domain import Domain

__all__ = ["logs"]

_AGO = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|d)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def logs(
    target: OfRun = None,
    /,
    *,
    domain: RunDomain = None,
    config: Configured = None,
    half: Annotated[
        Literal["plugin", "gateway", "supervisor"] | None, Parameter(help="Only lines of this process.")
    ] = None,
    event: Annotated[
        tuple[str, ...], Parameter(negative="", help="Only lines with this event code; it may be a pattern of a shell.")
    ] = (),
    since: Annotated[str | None, Parameter(help="Only lines since then: 90s, 10m or 2h ago, or a time.")] = None,
    follow: Annotated[bool, Parameter(negative="", help="Go on with what comes, until the run ends.")] = False,
    json: Annotated[bool, Parameter(negative="", help="Each line as JSON, with all that it has.")] = False,
) -> int:
    """Show log lines."""
    run = the_run(target, domain, config)
    wanted = Wanted(half or "", event, 0 if since is None else _since(since, time.time()))
    written = _as_json if json else shown
    if follow:
        return _follow(run, wanted, written)
    if lines := read(run, wanted):
        show("\n".join(map(written, lines)))
    return 0


def _since(text: str, now: float) -> int:
    """Return the time that is meant, as unix time in nanoseconds. Raises `ConfigError`."""
    if found := _AGO.fullmatch(text):
        return int((now - float(found[1]) * _SECONDS[found[2]]) * 1e9)
    try:
        return int(datetime.fromisoformat(text).astimezone().timestamp() * 1e9)
    except (ValueError, OverflowError):
        raise ConfigError(
            f"--since {text!r}: give a time ago, such as 90s, 10m or 2h, or a time such as 2026-11-26T12:00"
        ) from None


def _follow(run: Domain, wanted: Wanted, written: Callable[[Line], str]) -> int:
    async def work(stop: trio.Event) -> int:
        async with move_on_when(stop.wait), contextlib.aclosing(follow(run, wanted)) as batches:
            async for lines in batches:
                show("\n".join(map(written, lines)))
        return 0

    return trio.run(until_stopped, work)


def _as_json(line: Line) -> str:
    return msgspec.json.encode(line.entry).decode()
