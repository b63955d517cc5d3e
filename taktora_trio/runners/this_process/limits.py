"""The limits of getrlimit(2): raises one that a deployment needs, or says so before anything starts."""

from __future__ import annotations

import contextlib
import os
import resource
import threading
from collections.abc import Iterable

from taktora_trio.connectors.base import Connector
from taktora_trio.connectors.plan import specs_of
from taktora_trio.errors import ConfigError
from taktora_trio.transport.descriptors import check_descriptors
from taktora_trio.transport.sizing import file_sizes, for_end, for_services
from taktora_trio.transport.spec import End

__all__ = ["give_back", "make_room"]

_inherited = resource.getrlimit(resource.RLIMIT_NOFILE)


def make_room(connectors: Iterable[Connector], *ends: End, owner: bool) -> None:
    """Let this process open what it needs of the deployment, besides the app's own: these ends, and as the owner of the
    domain all services.

    Where they are less than half of what is allowed, nothing is changed: programs that the app starts inherit the soft
    limit, which is there for those that use select(2) (systemd.exec(5), LimitNOFILE=). Else so many more are allowed,
    and a forked child is given back the old limit; a program that is started otherwise inherits the new one.

    Raises `ConfigError` where this limit, or another one, lets no run of the deployment start.
    """
    specs = specs_of(connectors)
    needed = for_services(specs) * owner + sum(for_end(spec, end) for spec in specs for end in ends)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if needed > soft // 2:
        with contextlib.suppress(OSError):  # a sandbox may forbid that
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft + needed, hard), hard))
        os.register_at_fork(after_in_child=give_back)
    check_descriptors(needed, f"a deployment of {len(specs)} connectors")
    _check_file_size(max(size for spec in specs for size in file_sizes(spec)))
    _check_threads()


def give_back(pid: int = 0) -> None:
    """Give a process (0 is this one) the limit of descriptors that this one was started with."""
    with contextlib.suppress(OSError, ValueError):  # it has ended already, or may not have it any more
        resource.prlimit(pid, resource.RLIMIT_NOFILE, _inherited)


def _check_file_size(largest: int) -> None:
    allowed, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if allowed != resource.RLIM_INFINITY and allowed < largest:
        raise ConfigError(
            f"this process may write files of {allowed:,} bytes, and one of {largest:,} in shared memory is needed:"
            " raise the limit (ulimit -f of a shell, LimitFSIZE= of a unit)"
        )


def _check_threads() -> None:
    thread = threading.Thread(target=bool)
    try:
        thread.start()
    except RuntimeError as exc:
        raise ConfigError(
            "this process can't start a thread: raise the limit of its user's processes (ulimit -u of a shell,"
            " LimitNPROC= of a unit) or of its container's (pids.max)"
        ) from exc
    thread.join()
