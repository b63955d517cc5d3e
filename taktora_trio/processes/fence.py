"""Fences: which CPUs a half may use, how it shares them with others, and how much memory it may take.

An operator puts them up. One half that takes all that it can get then leaves the other what that needs.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
from collections.abc import Callable, Iterable
from typing import Any

import attrs

from taktora_trio.checks import field_name, optional, whole_number
from taktora_trio.errors import ConfigError

__all__ = ["Fence", "Fences", "GatewayFence", "PluginFence"]

_LEAST_MEMORY = 64 * 10**6  # bytes: an idle gateway has 30 MB, and imports some more for a moment
_RANGE = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?")


def _cpus(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, str) or not _numbers(value):
        name = field_name(instance, attribute)
        raise ConfigError(f"{name} is {value!r}; write numbers of CPUs, such as 0-2,5")


def _numbers(text: str) -> frozenset[int]:
    """Return the numbers in a text such as `0-2,5`; none if it is no such text."""
    numbers: set[int] = set()
    for part in text.split(","):
        match = _RANGE.fullmatch(part.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last:
            return frozenset()
        numbers.update(range(first, last + 1))
    return frozenset(numbers)


@attrs.frozen(kw_only=True)
class Fence:
    """What both halves may have. Raises `ConfigError` for what no machine has."""

    cpus: str | None = attrs.field(default=None, validator=optional(_cpus))
    """The CPUs that it may use, and no others, such as `0-2,5`; `None` for all. What it starts inherits that."""
    nice: int | None = attrs.field(default=None, validator=optional(whole_number(-20, 19)))
    """Its nice value: 19 gets the least of a CPU that others want too. A lower one than before takes a privilege."""

    def check(self, half: str) -> None:
        """Raise `ConfigError` for a CPU that this machine does not have."""
        there = os.sysconf("SC_NPROCESSORS_CONF")
        if self.cpus is not None and max(_numbers(self.cpus)) >= there:
            has = f"the CPUs 0 to {there - 1}" if there > 1 else "CPU 0 alone"
            raise ConfigError(f"fence.{half}.cpus is {self.cpus}: this machine has {has}")

    def put_up(self) -> list[str]:
        """Apply it to this process, which may have threads already. Return what could not be, and what would help."""
        failed = []
        if self.cpus is not None and (why := _confine(_numbers(self.cpus))):
            failed.append(f"cpus {self.cpus}: {why}")
        if (nice := self.nice) is not None and _each_thread(
            lambda thread: os.setpriority(os.PRIO_PROCESS, thread, nice)
        ):
            failed.append(
                f"nice {nice}: this user may not lower it so far: LimitNICE={nice} in a unit, or Nice={nice} itself"
            )
        return failed

    def options(self, half: str) -> list[str]:
        """Return the options by which a process of this half puts it up."""
        given = attrs.asdict(self)
        return [f"--fence.{half}.{name}={value}" for name, value in given.items() if value is not None]


@attrs.frozen(kw_only=True)
class PluginFence(Fence):
    """The fence of the app's half; in one process, of all."""

    fifo: int | None = attrs.field(default=None, validator=optional(whole_number(1, 99)))
    """The priority by which the app's loop runs before all else that is not of real time (SCHED_FIFO, sched(7)); `None`
    for not so. Its threads, and programs that it starts, run as usual. It takes a privilege."""

    def put_up(self) -> list[str]:
        failed = super().put_up()
        if self.fifo is not None:
            try:
                # What this thread starts is not to run so.
                policy = os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
                os.sched_setscheduler(0, policy, os.sched_param(self.fifo))
            except OSError:
                failed.append(
                    f"fifo {self.fifo}: this user may not run so: LimitRTPRIO={self.fifo} in a unit, `ulimit -r` of a"
                    " shell, or the capability SYS_NICE"
                )
        return failed


@attrs.frozen(kw_only=True)
class GatewayFence(Fence):
    """The fence of the protocol's half, where that is a process."""

    memory: int | None = attrs.field(default=None, validator=optional(whole_number(_LEAST_MEMORY)))
    """Bytes of memory, at which it ends, and starts again. Under a supervisor that may make a control group it is the
    group's limit, with all that the gateway starts; else that of the process's own data (RLIMIT_DATA)."""

    def put_up(self) -> list[str]:
        failed = super().put_up()
        if self.memory is not None:
            _, hard = resource.getrlimit(resource.RLIMIT_DATA)
            limit = self.memory if hard == resource.RLIM_INFINITY else min(self.memory, hard)
            resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        return failed


@attrs.frozen
class Fences:
    """The fences of both halves."""

    plugin: PluginFence = PluginFence()
    gateway: GatewayFence = GatewayFence()


def _confine(cpus: frozenset[int]) -> str | None:
    """Let each thread of this process have these CPUs alone. Return what keeps them from it."""
    if _each_thread(lambda thread: os.sched_setaffinity(thread, cpus)):
        return f"this process may have none of them, only {_shown(os.sched_getaffinity(0))} (its container, or cpuset)"
    if lacking := cpus - (got := os.sched_getaffinity(0)):
        return f"this process may have {_shown(got)} of them, and not {_shown(lacking)} (its container, or cpuset)"
    return None


def _each_thread(change: Callable[[int], None]) -> bool:
    """Change all threads of this process; new ones inherit it. Return whether one could not be changed."""
    failed = False
    for thread in map(int, os.listdir("/proc/self/task")):
        with contextlib.suppress(ProcessLookupError):  # it has ended
            try:
                change(thread)
            except ProcessLookupError:
                raise
            except OSError:
                failed = True
    return failed


def _shown(cpus: Iterable[int]) -> str:
    return ",".join(map(str, sorted(cpus)))
