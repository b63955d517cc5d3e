"""Items made of items: one after the other, or only if."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from taktora_trio.checks import is_async_function
from taktora_trio.errors import ConfigError
from taktora_trio.executor.context import Context, Step

__all__ = ["chain", "check_step", "name_of", "only_if", "run_step"]

T = TypeVar("T")


class _Chain:
    def __init__(self, steps: tuple[Step[Any], ...]) -> None:
        self._steps = steps
        self.__name__ = "-".join(name_of(step) or "step" for step in steps)

    def __repr__(self) -> str:
        return f"chain({', '.join(name_of(step) or repr(step) for step in self._steps)})"

    async def __call__(self, ctx: Context[Any]) -> None:
        ctx = ctx.for_step()
        for step in self._steps:
            await run_step(step, ctx)
            if ctx.rest_is_skipped:
                break


def chain(*steps: Step[T]) -> Step[T]:
    """Return an item that runs these in order, with the same context, up to one that calls `ctx.skip_rest()`."""
    if not steps:
        raise ConfigError("chain(): give it at least one item")
    for step in steps:
        check_step("chain", step)
    return _Chain(steps)


class _OnlyIf:
    def __init__(self, step: Step[Any], predicate: Callable[[Context[Any]], bool]) -> None:
        self._step = step
        self._predicate = predicate
        self.__name__ = name_of(step)

    def __repr__(self) -> str:
        return f"only_if({name_of(self._step) or repr(self._step)}, {self._predicate!r})"

    async def __call__(self, ctx: Context[Any]) -> None:
        if self._predicate(ctx):
            await self._step(ctx)


def only_if(item: Step[T], predicate: Callable[[Context[T]], bool]) -> Step[T]:
    """Return an item that runs `item` in those cycles in which `predicate(ctx)`, a plain function, is true."""
    check_step("only_if", item)
    if not callable(predicate):
        raise ConfigError(f"only_if: the predicate is {predicate!r}; it must be a function that takes a context")
    return _OnlyIf(item, predicate)


async def run_step(step: Step[Any], ctx: Context[Any]) -> None:
    """Run a step. If it fails, its name is added as a note, for the traceback."""
    try:
        await step(ctx)
    except Exception as exc:
        exc.add_note(f"in step {name_of(step) or repr(step)} of item {ctx.item!r}")
        raise


def name_of(step: object) -> str:
    """Return its own name; empty if it has none."""
    name = getattr(step, "__name__", "")
    return name if isinstance(name, str) else ""


def check_step(where: str, step: object) -> None:
    """Raise `ConfigError` for what can't be awaited with a context."""
    if not is_async_function(step) and not is_async_function(getattr(step, "__call__", None)):  # noqa: B004 - it may be async
        hint = "use in_thread(...) for it, or make it an async function" if callable(step) else "it can't be called"
        raise ConfigError(f"{where}: {step!r} is no async function: {hint}")
