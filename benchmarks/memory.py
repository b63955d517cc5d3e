"""The resident memory of idle processes: the plugin's and the supervisor's, in the split shape.

The app is `examples.echo`, which holds little itself, connected to a broker. What is read is VmRSS, the kernel's
own figure, which also counts pages that processes share: an upper bound. MB are 10**6 bytes. Bytecode is cached, as
it is for an installed package, since compiling at the start leaves its traces in the heap.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import tempfile
from pathlib import Path

import msgspec
import trio

from benchmarks.children import halves_of, open_python
from benchmarks.mosquitto import open_mosquitto
from benchmarks.report import Figure
from taktora_trio.processes.lines import read_lines

__all__ = ["measure_memory"]

_START_TIMEOUT, _IDLE, _RUN = 30.0, 1.0, 60.0


async def measure_memory(rounds: int) -> list[Figure]:
    """Return the median of `rounds` starts, after one that fills the bytecode cache."""
    plugins, supervisors, gateways = [], [], []
    with tempfile.TemporaryDirectory() as cache:
        async with open_mosquitto() as port:
            await _measure_once(port, cache)
            for _ in range(rounds):
                sizes = await _measure_once(port, cache)
                plugins.append(sizes["plugin"])
                supervisors.append(sizes["supervisor"])
                gateways.append(sizes["gateway"])
    return [
        Figure(
            what="idle plugin process, resident",
            measured=statistics.median(plugins),
            target=60,
            unit="MB",
            at_most=True,
            beside=f"its gateway process: {statistics.median(gateways):.1f} MB",
        ),
        Figure(
            what="idle supervisor process, resident",
            measured=statistics.median(supervisors),
            target=35,
            unit="MB",
            at_most=True,
            beside=f"largest of {rounds} starts: {max(supervisors):.1f} MB",
        ),
    ]


async def _measure_once(port: int, cache: str) -> dict[str, float]:
    """Start the deployment, wait until the plugin sees its connector up, and a little more; the sizes in MB."""
    command = ["taktora_trio", "run", "examples.echo:deployment", "--mode", "split", "--log", "json"]
    where = ["--broker", f"mqtt://127.0.0.1:{port}", "--domain", f"benchmark-memory-{os.getpid()}"]
    env = {**os.environ, "PYTHONPYCACHEPREFIX": cache}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    async with open_python(*command, *where, "--for", f"{_RUN:g}", stderr=subprocess.PIPE, env=env) as supervisor:
        with trio.fail_after(_START_TIMEOUT):
            await _wait_until_up(supervisor)
        await trio.sleep(_IDLE)
        processes = {"supervisor": supervisor.pid, **halves_of(supervisor.pid)}
        return {name: _resident(pid) for name, pid in processes.items()}


async def _wait_until_up(supervisor: trio.Process) -> None:
    assert supervisor.stderr is not None
    async with contextlib.aclosing(read_lines(supervisor.stderr, unfinished=False)) as lines:
        async for line in lines:
            entry = msgspec.json.decode(line)
            if entry["process"] == "plugin" and entry["message"].endswith("-> Up"):
                return
    raise RuntimeError("the deployment ended before it was up")


def _resident(pid: int) -> float:
    """Return VmRSS in MB (proc_pid_status(5))."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError(f"process {pid} has ended")
