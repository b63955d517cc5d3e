"""The memory of idle processes in the split shape, and what their imports cost.

    python -m benchmarks.memory [--quick] [--protocol zenoh]

The app is an echo, which holds little itself, connected to a broker or a router. For each process it shows RSS, which
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
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import attrs
import msgspec
import trio

from benchmarks.children import halves_of, open_python
from benchmarks.mosquitto import find_mosquitto, open_mosquitto
from benchmarks.report import Figure, grid, machine, table
from taktora_trio.processes.lines import read_lines
from taktora_trio.testing.zenoh.router import open_router

__all__ = ["main", "measure_memory"]

_START_TIMEOUT, _IDLE, _RUN = 60.0, 1.0, 90.0
_PROCESSES = ("supervisor", "plugin", "gateway")
_TARGETS = {"supervisor": 35, "plugin": 60, "gateway": 60}  # MB of RSS
_LARGEST = 25
_HOOK = Path(__file__).parent / "importing"


@attrs.frozen
class _Protocol:
    """An app on a protocol, and what is at its other end."""

    target: str
    setting: str
    """By which the app is told where that is, with `{port}` in it."""
    open_peer: Callable[[], AbstractAsyncContextManager[int]]
    sums: Mapping[str, int]
    """What the three processes may take together, in MB."""

    def arguments(self, port: int) -> list[str]:
        return [self.target, *self.setting.format(port=port).split()]


@contextlib.asynccontextmanager
async def _open_router() -> AsyncIterator[int]:
    with tempfile.TemporaryDirectory() as folder:
        async with open_router(Path(folder)) as router:
            yield router.port


_PROTOCOLS = {
    "mqtt": _Protocol(
        "examples.echo:deployment", "--broker mqtt://127.0.0.1:{port}", open_mosquitto, {"Rss": 100, "Pss": 60}
    ),
    "zenoh": _Protocol(
        "examples.zenoh_echo:deployment", "--connect tcp/127.0.0.1:{port}", _open_router, {"Rss": 120, "Pss": 70}
    ),
}


async def measure_memory(rounds: int, protocol: str = "mqtt") -> list[Figure]:
    """Return the median of `rounds` starts, after one that fills the bytecode cache."""
    used = _PROTOCOLS[protocol]
    starts: list[dict[str, dict[str, float]]] = []
    with tempfile.TemporaryDirectory() as cache:
        async with used.open_peer() as port:
            for _ in range(rounds + 1):
                async with _open_run(used.arguments(port), cache) as processes:
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
            beside=f"PSS {median(name, 'Pss'):.1f} MB, of which {median(name, 'Anonymous'):.1f} MB are its own;"
            f" {median(name, 'Threads'):.0f} threads",
        )
        for name in _PROCESSES
    ]
    for kind, target in used.sums.items():
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


async def measure_imports(protocol: str = "mqtt") -> str:
    """Return a table of the packages whose import costs most, in KB: objects, and RSS, of each process."""
    used = _PROTOCOLS[protocol]
    costs: dict[str, Counter[str]] = {}
    with tempfile.TemporaryDirectory() as cache, tempfile.TemporaryDirectory() as folder:
        async with used.open_peer() as port:
            async with _open_run(used.arguments(port), cache):  # the bytecode
                pass
            for what in ("objects", "resident"):
                env = {"BENCHMARK_IMPORTS": f"{what}:{folder}", "PYTHONPATH": str(_HOOK)}
                # It is stopped after that, and each process comes to its end.
                async with _open_run(used.arguments(port), cache, env):
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
async def _open_run(
    arguments: Sequence[str], cache: str, more: Mapping[str, str] | None = None
) -> AsyncIterator[dict[str, int]]:
    """Start the deployment, wait until the plugin sees its connector up, and a little more; yield the process ids."""
    command = ["taktora_trio", "run", *arguments, "--mode", "split", "--log", "json"]
    env = {**os.environ, "PYTHONPYCACHEPREFIX": cache, **(more or {})}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    command += ["--domain", f"benchmark-memory-{os.getpid()}", "--for", f"{_RUN:g}"]
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
    """Return each amount of /proc/PID/smaps_rollup, in MB; and the number of its threads."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    sizes = {name: int(amount.split()[0]) * 1024 / 1e6 for name, _, amount in (line.partition(":") for line in lines)}
    return {**sizes, "Threads": len(list(Path(f"/proc/{pid}/task").iterdir()))}


async def _measure(quick: bool, protocol: str) -> None:
    if protocol == "mqtt":
        find_mosquitto()
    print(machine(), "\n")
    print(table(await measure_memory(1 if quick else 5, protocol)), "\n")
    print(await measure_imports(protocol))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one start instead of five")
    parser.add_argument("--protocol", choices=sorted(_PROTOCOLS), default="mqtt", help="the gateway's")
    given = parser.parse_args()
    trio.run(_measure, given.quick, given.protocol)


if __name__ == "__main__":
    main()
