"""An item that is a graph of items: each runs when all before it have, and independent ones at the same time."""

from __future__ import annotations

import graphlib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import trio

from taktora_trio.errors import ConfigError, collapse
from taktora_trio.executor.chains import check_step, run_step
from taktora_trio.executor.context import Context, Step

__all__ = ["graph"]

T = TypeVar("T")


class _Graph:
    def __init__(self, vertices: Mapping[str, Step[Any]], after: Mapping[str, tuple[str, ...]]) -> None:
        self._vertices = vertices
        self._after = after
        self.__name__ = "-".join(vertices)

    def __repr__(self) -> str:
        return f"graph({', '.join(self._vertices)})"

    async def __call__(self, ctx: Context[Any]) -> None:
        done = {name: trio.Event() for name in self._vertices}

        async def run(name: str, step: Step[Any]) -> None:
            for before in self._after.get(name, ()):
                await done[before].wait()
            await run_step(step, ctx.for_step())
            done[name].set()

        failure: Exception | None = None
        try:
            async with trio.open_nursery() as nursery:
                for name, step in self._vertices.items():
                    nursery.start_soon(run, name, step, name=f"{ctx.item}: {name}")
        except ExceptionGroup as exc:
            failure = collapse(exc)
        if failure is not None:
            raise failure


def graph(vertices: Mapping[str, Step[T]], after: Mapping[str, Iterable[str]]) -> Step[T]:
    """Return an item in which each vertex runs when all that it comes after have, and independent ones concurrently.

        graph({"left": read_left, "right": read_right, "fuse": fuse}, after={"fuse": ["left", "right"]})

    If one fails the others are cancelled. Raises `ConfigError` for a name that is no vertex, and for a cycle, which
    it shows.
    """
    if not vertices:
        raise ConfigError("graph: give it at least one vertex")
    for name, step in vertices.items():
        check_step(f"graph: vertex {name!r}", step)
    order = {name: (before,) if isinstance(before, str) else tuple(before) for name, before in after.items()}
    for name in (*order, *(before for names in order.values() for before in names)):
        if name not in vertices:
            raise ConfigError(f"graph: there is no vertex {name!r}; there are {', '.join(vertices)}")
    try:
        graphlib.TopologicalSorter(order).prepare()
    except graphlib.CycleError as exc:
        raise ConfigError(f"graph: its vertices wait for each other: {' -> '.join(exc.args[1])}") from None
    return _Graph(dict(vertices), order)
