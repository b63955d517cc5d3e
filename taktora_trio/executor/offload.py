"""Blocking or heavy work as an item, so that it holds up no other: in a thread, or in a process of its own."""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import trio

from taktora_trio.checks import is_async_function
from taktora_trio.errors import ConfigError, missing_extra
from taktora_trio.executor.chains import check_step, name_of
from taktora_trio.executor.context import Context, Step

__all__ = ["in_process", "in_thread"]

log = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")


class _Offloaded(ABC):
    """Common to both kinds: arguments in, a result out, and a limit of time."""

    def __init__(
        self,
        where: str,
        function: Callable[..., Any],
        arguments: Callable[[Context[Any]], tuple[Any, ...]] | None,
        then: Callable[[Context[Any], Any], Awaitable[object]] | None,
        timeout: float,
        limiter: trio.CapacityLimiter | None,
    ) -> None:
        if not callable(function):
            raise ConfigError(f"{where}: {function!r} can't be called; give it a plain function")
        if is_async_function(function):
            raise ConfigError(f"{where}: {function!r} is async and needs no thread and no process: add it itself")
        if isinstance(timeout, bool) or not timeout > 0:
            raise ConfigError(f"{where}: timeout is {timeout!r}; it must be more than 0 seconds")
        if then is not None:
            check_step(f"{where}: then", then)
        self._where = where
        self._function = function
        self._arguments = arguments
        self._then = then
        self._timeout = timeout
        self._limiter = limiter
        self.__name__ = name_of(function)

    def __repr__(self) -> str:
        return f"{self._where}({name_of(self._function) or repr(self._function)})"

    async def __call__(self, ctx: Context[Any]) -> None:
        if self._limiter is None:
            self._limiter = trio.CapacityLimiter(1)
        arguments = () if self._arguments is None else self._arguments(ctx)
        with trio.move_on_after(self._timeout) as scope:
            result = await self._run(ctx, arguments, self._limiter)
        if scope.cancelled_caught:
            raise trio.TooSlowError(f"{self!r} took longer than its {self._timeout:g} s")
        if self._then is not None:
            await self._then(ctx, result)

    @abstractmethod
    async def _run(self, ctx: Context[Any], arguments: tuple[Any, ...], limiter: trio.CapacityLimiter) -> Any:
        """Call the function where it belongs, and return what it returns."""


class _InThread(_Offloaded):
    async def _run(self, ctx: Context[Any], arguments: tuple[Any, ...], limiter: trio.CapacityLimiter) -> Any:
        try:
            return await trio.to_thread.run_sync(
                self._function, *arguments, abandon_on_cancel=True, limiter=limiter, thread_name=ctx.item
            )
        except trio.Cancelled:
            if limiter.borrowed_tokens:
                log.warning(
                    "%s: cancelled; its thread is left to end by itself, with the call that it is in",
                    ctx.item,
                    extra={"event": "offload-abandoned", "item": ctx.item},
                )
            raise


class _InProcess(_Offloaded):
    async def _run(self, ctx: Context[Any], arguments: tuple[Any, ...], limiter: trio.CapacityLimiter) -> Any:
        return await ctx.runtime.workers.run(self._function, *arguments, limiter=limiter)


def in_thread(
    function: Callable[..., R],
    *,
    arguments: Callable[[Context[T]], tuple[Any, ...]] | None = None,
    then: Callable[[Context[T], R], Awaitable[object]] | None = None,
    timeout: float = math.inf,
    limiter: trio.CapacityLimiter | None = None,
) -> Step[T]:
    """Return an item that calls a plain function in a thread: for what blocks.

    `arguments(ctx)` are what it is called with (nothing, unless given); `then(ctx, result)` is awaited with what it
    returned, back on the loop. After `timeout` seconds the item fails with `trio.TooSlowError`.

    A thread can't be killed. One that is cancelled, or takes too long, is left to end by itself, and its result is
    dropped; a long function can look with `trio.from_thread.check_cancelled()`. Until it has ended it counts
    against `limiter`, which is one at a time unless given (share one to limit several items together): so the threads
    of an item that hangs do not pile up.
    """
    return _InThread("in_thread", function, arguments, then, timeout, limiter)


def in_process(
    function: Callable[..., R],
    *,
    arguments: Callable[[Context[T]], tuple[Any, ...]] | None = None,
    then: Callable[[Context[T], R], Awaitable[object]] | None = None,
    timeout: float = math.inf,
    limiter: trio.CapacityLimiter | None = None,
) -> Step[T]:
    """Return an item that calls a plain function in a worker process: for what computes, or may crash or hang for good.

    As `in_thread`, but one that is cancelled, or takes too long, is killed. Function, arguments and result are pickled,
    so the function is one of a module. The executor keeps idle workers for the next cycle, and none outlives its `run`.
    Needs trio-parallel: install `taktora-trio[parallel]`.
    """
    try:
        import trio_parallel  # noqa: F401 - say at once that it is missing, not in the first cycle
    except ModuleNotFoundError as exc:
        raise missing_extra("in_process", "trio-parallel", "parallel") from exc
    return _InProcess("in_process", function, arguments, then, timeout, limiter)
