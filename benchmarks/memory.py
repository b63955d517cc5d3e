"""The memory of idle processes in the split shape, and what their imports cost.

    python -m benchmarks.memory [--quick]

The app is `examples.echo`, which holds little itself, connected to a broker. For each process it shows RSS, which
counts each page that is there, and PSS, which counts a page that n processes have as 1/n of it (proc_pid_smaps(5)):
the sum of PSS is what the three take together. Other Pythons that run at the same time make PSS smaller, for they share
the interpreter's pages. MB are 10**6 bytes. Bytecode is cached, as it is for an installed package, since compiling at
the start leaves its traces in the heap.

What imports cost comes from two more runs: the Python objects that a module has made (tracemalloc), and by how much its
import has made RSS larger, which counts native libraries too, and comes in lumps. Each is without the modules that it
imports in turn, and added up for a package.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import msgspec
import trio

from benchmarks.children import halves_of, open_python
from benchmarks.mosquitto import find_mosquitto, open_mosquitto
from benchmarks.report import Figure, grid, machine, table
from taktora_trio.processes.lines import read_lines

__all__ = ["main", "measure_memory"]

_START_TIMEOUT, _IDLE, _RUN = 60.0, 1.0, 90.0
_PROCESSES = ("supervisor", "plugin", "gateway")
_TARGETS = {"supervisor": 35, "plugin": 60, "gateway": 60}  # MB of RSS
_SUMS = {"Rss": 100, "Pss": 60}  # MB, of the three together
_LARGEST = 25
_HOOK = Path(__file__).parent / "importing"


async def measure_memory(rounds: int) -> list[Figure]:
    """Return the median of `rounds` starts, after one that fills the bytecode cache."""
    starts: list[dict[str, dict[str, float]]] = []
    with tempfile.TemporaryDirectory() as cache:
        async with open_mosquitto() as port:
            for _ in range(rounds + 1):
                async with _open_run(port, cache) as processes:
                    starts.append({name: _sizes(pid) for name, pid in processes.items()})
    del starts[0]

    def median(name: str, kind: str) -> float:
        return statistics.median(sizes[name][kind] for sizes in starts)

    figures = [
        Figure(
            what=f"idle {name} process, resident",
            measured=median(name, "Rss"),
            target=_TARGETS[name],
            unit="MB",
            at_most=True,
            beside=f"PSS {median(name, 'Pss'):.1f} MB, of which {median(name, 'Anonymous'):.1f} MB are its own",
        )
        for name in _PROCESSES
    ]
    for kind, target in _SUMS.items():
        parts = [median(name, kind) for name in _PROCESSES]
        figures.append(
            Figure(
                what=f"supervisor, plugin and gateway together, {kind.upper()}",
                measured=sum(parts),
                target=target,
                unit="MB",
                at_most=True,
                beside=" + ".join(f"{part:.1f}" for part in parts) + " MB",
            )
        )
    return figures


async def measure_imports() -> str:
    """Return a table of the packages whose import costs most, in KB: objects, and RSS, of each process."""
    costs: dict[str, Counter[str]] = {}
    with tempfile.TemporaryDirectory() as cache, tempfile.TemporaryDirectory() as folder:
        async with open_mosquitto() as port:
            async with _open_run(port, cache):  # the bytecode
                pass
            for what in ("objects", "resident"):
                env = {"BENCHMARK_IMPORTS": f"{what}:{folder}", "PYTHONPATH": str(_HOOK)}
                async with _open_run(port, cache, env):  # it is stopped after that, and each process comes to its end
                    pass
                for name in _PROCESSES:
                    costs[f"{name} {what}"] = _by_package(Path(folder, name))
    columns = [f"{name} {what}" for name in _PROCESSES for what in ("objects", "resident")]
    objects = [f"{name} objects" for name in _PROCESSES]
    resident = [f"{name} resident" for name in _PROCESSES]
    packages = {package for column in columns for package in costs[column]}
    largest = sorted(packages, key=lambda package: -max(costs[column][package] for column in columns))[:_LARGEST]
    rows: list[tuple[str, ...]] = [("import, KB: objects / resident", *_PROCESSES)]
    for label, picked in [*((package, [package]) for package in largest), ("all", list(packages))]:
        sums = [
            (sum(costs[one][package] for package in picked), sum(costs[two][package] for package in picked))
            for one, two in zip(objects, resident, strict=True)
        ]
        rows.append((label, *(f"{made / 1000:,.0f} / {grown / 1000:,.0f}" for made, grown in sums)))
    return grid(rows)


def _by_package(written: Path) -> Counter[str]:
    found: Counter[str] = Counter()
    for line in written.read_text().splitlines():
        module, cost = line.split()
        found[module.partition(".")[0]] += int(cost)
    return found


@contextlib.asynccontextmanager
async def _open_run(port: int, cache: str, more: Mapping[str, str] | None = None) -> AsyncIterator[dict[str, int]]:
    """Start the deployment, wait until the plugin sees its connector up, and a little more; yield the process ids."""
    command = ["taktora_trio", "run", "examples.echo:deployment", "--mode", "split", "--log", "json"]
    where = ["--broker", f"mqtt://127.0.0.1:{port}", "--domain", f"benchmark-memory-{os.getpid()}"]
    env = {**os.environ, "PYTHONPYCACHEPREFIX": cache, **(more or {})}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    command += [*where, "--for", f"{_RUN:g}"]
    async with open_python(*command, stderr=subprocess.PIPE, env=env) as supervisor:
        with trio.fail_after(_START_TIMEOUT):
            await _wait_until_up(supervisor)
        await trio.sleep(_IDLE)
        yield {"supervisor": supervisor.pid, **halves_of(supervisor.pid)}


async def _wait_until_up(supervisor: trio.Process) -> None:
    assert supervisor.stderr is not None
    async with contextlib.aclosing(read_lines(supervisor.stderr, unfinished=False)) as lines:
        async for line in lines:
            entry = msgspec.json.decode(line)
            if entry["process"] == "plugin" and entry["message"].endswith("-> Up"):
                return
    raise RuntimeError("the deployment ended before it was up")


def _sizes(pid: int) -> dict[str, float]:
    """Return each amount of /proc/PID/smaps_rollup, in MB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return {name: int(amount.split()[0]) * 1024 / 1e6 for name, _, amount in (line.partition(":") for line in lines)}


async def _measure(quick: bool) -> None:
    find_mosquitto()
    print(machine(), "\n")
    print(table(await measure_memory(1 if quick else 5)), "\n")
    print(await measure_imports())


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one start instead of five")
    trio.run(_measure, parser.parse_args().quick)


if __name__ == "__main__":
    main()
