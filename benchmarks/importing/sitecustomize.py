"""Writes at a process's end what each of its imports has cost, for `benchmarks/memory.py`.

Python imports this by its name, since its folder is in PYTHONPATH. It imports nothing itself that is not built in.
"""

from __future__ import annotations

import os
import sys


def _watch(folder: str, by_objects: bool) -> None:
    import _frozen_importlib as machinery

    if by_objects:
        import tracemalloc

        tracemalloc.start()

        def used() -> int:
            return tracemalloc.get_traced_memory()[0]
    else:

        def used() -> int:
            with open("/proc/self/smaps_rollup", "rb") as file:  # noqa: PTH123 - pathlib is one of those to be measured
                rss = next(line for line in file if line.startswith(b"Rss:"))
            return int(rss.split()[1]) * 1024

    real = machinery._load_unlocked  # type: ignore[attr-defined]
    costs: dict[str, int] = {}
    inner = [0]

    def load(spec: object) -> object:
        before = used()
        inner.append(0)
        try:
            return real(spec)
        finally:
            taken = used() - before
            costs[str(getattr(spec, "name", spec))] = taken - inner.pop()
            inner[-1] += taken

    def write() -> None:
        words = sys.orig_argv[sys.orig_argv.index("-m") + 1 :]
        name = words[1] if words[1:2] in (["plugin"], ["gateway"]) else "supervisor"
        if words[0].startswith("taktora_trio"):
            lines = [f"{module} {cost}\n" for module, cost in costs.items()]
            with open(f"{folder}/{name}", "w") as file:  # noqa: PTH123
                file.writelines(lines)

    import atexit

    machinery._load_unlocked = load  # type: ignore[attr-defined]
    atexit.register(write)


if (_asked := os.environ.get("BENCHMARK_IMPORTS")) is not None:
    _what, _, _folder = _asked.partition(":")
    _watch(_folder, _what == "objects")
