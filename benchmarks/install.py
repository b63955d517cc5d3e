"""Measure an installation: packages, megabytes, and how long imports take.

    python -m benchmarks.install [--json FILE]

It makes a virtual environment of its own, installs the project there as a user does, measures, and installs one extra
after the other. MB are 10**6 bytes. Bytecode is cached, as pip does it. An import is timed in a fresh process; the time
in which a bare interpreter starts is shown for comparison.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import statistics
import subprocess
import tempfile
import time
import tomllib
import venv
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from benchmarks.report import grid, machine

__all__ = ["main"]

_ROOT = Path(__file__).parents[1]
_STARTS = 15
_LARGEST = 8
_IMPORTS = {
    "the package": "import taktora_trio",
    "what declares a channel": "from taktora_trio import Outbound",
    "what declares a connector": "from taktora_trio import MqttConnector",
    "the plugin half": "import taktora_trio.__main__, taktora_trio.runners.command.plugin",
    "the gateway half, with MQTT's native session": (
        "from importlib import import_module; import taktora_trio.__main__, taktora_trio.runners.command.gateway;"
        "from taktora_trio import MqttConnector, MqttRouting, Outbound;"
        "[import_module(name) for name in MqttConnector([Outbound('c', int, MqttRouting('t'))]).preload]"
    ),
    "the command": "import taktora_trio.__main__, taktora_trio.cli",
}
_PROBE = """
import sys, time
before = len(sys.modules)
started, worked = time.perf_counter(), time.process_time()
{statement}
taken, work = time.perf_counter() - started, time.process_time() - worked
resident = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmRSS:"))
print(taken, work, len(sys.modules) - before, resident)
"""


class Environment:
    """A virtual environment. It remembers what was in it before anything was installed."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, with_pip=True)
        self.python = folder / "bin" / "python"
        [self._site_packages] = folder.glob("lib/python*/site-packages")
        self._bare = (self.packages(), self.size())

    def install(self, *what: str) -> None:
        subprocess.run([str(self.python), "-m", "pip", "install", "-qq", *what], check=True)

    def packages(self) -> Mapping[str, str]:
        """Return the installed packages with their versions."""
        listed = subprocess.run([self.python, "-m", "pip", "list", "--format", "json"], capture_output=True, check=True)
        return {entry["name"]: entry["version"] for entry in msgspec.json.decode(listed.stdout)}

    def size(self) -> float:
        """Return the size of all that is installed, in MB."""
        return sum(path.stat().st_size for path in self._site_packages.rglob("*") if path.is_file()) / 1e6

    def sizes(self) -> dict[str, float]:
        """Return the size of each package in MB, by the record of its files."""
        found = {}
        for metadata in importlib.metadata.distributions(path=[str(self._site_packages)]):
            paths = (Path(str(metadata.locate_file(file))) for file in metadata.files or ())
            found[metadata.name] = sum(path.stat().st_size for path in paths if path.is_file()) / 1e6
        return found

    def installed(self) -> tuple[Mapping[str, str], float]:
        """Return the packages and the megabytes that have come since the environment was made."""
        bare, size = self._bare
        return {name: it for name, it in self.packages().items() if name not in bare}, self.size() - size

    def import_of(self, statement: str) -> dict[str, object]:
        """Return what it takes in fresh processes."""
        probe = [str(self.python), "-I", "-c", _PROBE.format(statement=statement)]
        found = []
        for start in range(_STARTS + 1):
            told = subprocess.run(probe, capture_output=True, check=True, text=True).stdout.split()
            if start:  # the first one reads the files
                found.append((float(told[0]) * 1e3, float(told[1]) * 1e3, int(told[2]), int(told[3]) * 1024 / 1e6))
        times, work, modules, sizes = zip(*found, strict=True)
        return {
            "best ms": round(min(times), 1),
            "median ms": round(statistics.median(times), 1),
            "CPU ms": round(min(work), 1),
            "modules": modules[0],
            "resident MB": round(statistics.median(sizes), 1),
        }

    def bare_start(self) -> dict[str, object]:
        """Return how long an interpreter takes to start and end."""
        times = []
        for _ in range(_STARTS):
            started = time.perf_counter()
            subprocess.run([self.python, "-I", "-c", ""], check=True)
            times.append((time.perf_counter() - started) * 1e3)
        return {"best ms": round(min(times), 1), "median ms": round(statistics.median(times), 1)}


def measure(environment: Environment, extras: Iterable[str]) -> dict[str, list[dict[str, object]]]:
    environment.install(str(_ROOT))
    packages, size = environment.installed()
    installed: list[dict[str, object]] = [
        {"what": "taktora-trio", "packages": len(packages), "MB": round(size, 1), "which": " ".join(sorted(packages))}
    ]
    sizes = [(its, name) for name, its in environment.sizes().items() if name in packages]
    largest: list[dict[str, object]] = [
        {"package": name, "MB": round(size, 1)} for size, name in sorted(sizes, reverse=True)[:_LARGEST]
    ]
    imports = [{"import": what, **environment.import_of(statement)} for what, statement in _IMPORTS.items()]
    imports.append({"import": "a bare interpreter, to its end", **environment.bare_start()})
    for extra in extras:
        environment.install(f"{_ROOT}[{extra}]")
        now, new_size = environment.installed()
        more = sorted(now.keys() - packages.keys())
        installed.append(
            {"what": f"+ [{extra}]", "packages": len(more), "MB": round(new_size - size, 1), "which": " ".join(more)}
        )
        packages, size = now, new_size
    return {"installed": installed, "largest": largest, "imports": imports}


def _table(rows: list[dict[str, object]]) -> str:
    columns = [column for column in rows[0] if column != "which"]
    return grid([columns, *([str(row.get(column, "-")) for column in columns] for row in rows)])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.install", description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    options = parser.parse_args()
    extras = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Environment(Path(folder)), sorted(extras))
    print(*(_table(rows) for rows in found.values()), sep="\n\n", end="\n\n")
    for row in found["installed"]:
        print(f"{row['what']}: {row['which'] or 'nothing that is not there already'}")
    if options.json is not None:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")


if __name__ == "__main__":
    main()
