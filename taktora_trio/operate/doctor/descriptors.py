"""The limits of processes: descriptors, and what else stops a run at its start."""

from __future__ import annotations

import resource
from collections.abc import Iterator, Sequence

from taktora_trio.connectors.finding import Finding, fail, ok, warn
from taktora_trio.transport.sizing import file_sizes, for_end, for_services
from taktora_trio.transport.spec import TrunkSpec

__all__ = ["examine_limits"]

_FEW = 256
_ELSE = 64  # pipes, sockets, libraries, files of the app
_RAISE = "raise it: LimitNOFILE= of a unit, ulimit -n of a shell, --ulimit nofile= of a container"


def examine_limits(specs: Sequence[TrunkSpec]) -> Iterator[Finding]:
    """Yield whether a process may open what a deployment needs; without one, whether it may open a usual number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = f"{_limit(soft)} descriptors, {_limit(hard)} if a process asks for more"
    # Both halves in one process take the most. The soft limit is raised at the start where it is needed.
    needed = for_services(specs) + sum(for_end(spec, end) for spec in specs for end in ("app", "gateway"))
    if specs and needed + _ELSE > hard:
        yield fail("descriptors", f"{allowed}; the deployment takes about {needed + _ELSE}", _RAISE)
    elif specs:
        yield ok("descriptors", f"{allowed}; the deployment takes about {needed + _ELSE}")
    elif hard < _FEW:
        yield warn("descriptors", f"{allowed}: few deployments can run so", _RAISE)
    else:
        yield ok("descriptors", allowed)
    largest = max((size for spec in specs for size in file_sizes(spec)), default=0)
    allowed_size, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if allowed_size != resource.RLIM_INFINITY and allowed_size < largest:
        text = f"a process may write files of {allowed_size:,} bytes, and one of {largest:,} is needed"
        yield fail("file size", text, "raise it: LimitFSIZE= of a unit, ulimit -f of a shell")


def _limit(value: int) -> str:
    return "no limit of" if value == resource.RLIM_INFINITY else f"{value:,}"
