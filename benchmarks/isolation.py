"""The lateness of a 10 ms control item while its gateway fares badly, in four set-ups.

    python -m benchmarks.isolation                   all of it (20 minutes), and docs/isolation.{json,png,svg}
    python -m benchmarks.isolation --quick           a first look (2 minutes), with no files
    python -m benchmarks.isolation --from FILE.json  table and plot of an earlier run

Each combination runs in a process of its own, several times, in turn with all others, so that a busy minute of the
machine hurts all of them. It needs mosquitto, and matplotlib for the plot (dependency group `plot`).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import attrs
import msgspec
import trio
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks import message
from benchmarks.children import ROOT
from benchmarks.isolation_app import BATCH, PERIOD, TO_APP, TO_BROKER, VARIABLE, Fault, Order, Result, Setup
from benchmarks.mosquitto import open_mosquitto

__all__ = ["Collected", "Figures", "main", "run_once"]

SETUPS: dict[Setup, str] = {
    "plain": "plain app with aiomqtt",
    "in-process": "in-process",
    "thread": "in-process, gateway thread",
    "split": "split",
}
FAULTS: dict[Fault, str] = {
    "idle": "(a) idle",
    "busy": "(b) 2,000 msg/s each way",
    "dead": "(c) broker is dead",
    "killed": "(d) killed each second",
    "burning": "(e) burns CPU",
    "blocked": "(f) blocks in a call",
}
# iceoryx2 imports numpy where it is installed, which doubles the time of a start. It is there for the plot alone.
_NO_NUMPY = """
from importlib.machinery import PathFinder
find = PathFinder.find_spec
PathFinder.find_spec = lambda name, *rest: None if name == "numpy" else find(name, *rest)
"""
_POLICY = "initial=0.001,maximum=0.001,factor=1,jitter=0,intensity=1000000"
_TABLE_START, _TABLE_END = "<!-- figures -->", "<!-- end of figures -->"
_WARM_UP = 1.0  # seconds
_EXTRA = 60.0  # seconds that a run may take longer than it measures
_WITHIN = 2.0  # times its own p99 while idle: what the split shape is to keep


class Figures(msgspec.Struct, frozen=True):
    """One combination. Seconds."""

    setup: Setup
    fault: Fault
    ticks: int
    p50: float
    p99: float
    p999: float
    worst: float
    sent: float = 0.0
    """Messages a second that arrived behind the broker, where any were sent."""
    received: float = 0.0
    """And at the app."""


@attrs.define
class Collected:
    """What several runs of one combination have measured."""

    lateness: list[float] = attrs.field(factory=list)
    sent: int = 0
    received: int = 0
    seconds: float = 0.0

    def figures(self, setup: Setup, fault: Fault) -> Figures:
        ordered = sorted(self.lateness)

        def rank(per_mille: int) -> float:
            return ordered[-(-per_mille * len(ordered) // 1000) - 1]

        rates = (self.sent / self.seconds, self.received / self.seconds)
        return Figures(setup, fault, len(ordered), rank(500), rank(990), rank(999), ordered[-1], *rates)


# Running


async def _measure(
    rounds: int, seconds: float, setups: Sequence[Setup], faults: Sequence[Fault], warm: bool
) -> list[Figures]:
    collected = {(setup, fault): Collected() for setup in setups for fault in faults}
    async with open_mosquitto() as port:
        for number in range(rounds):
            for (setup, fault), so_far in collected.items():
                print(f"round {number + 1} of {rounds}: {SETUPS[setup]}, {FAULTS[fault]}", file=sys.stderr, flush=True)
                more = ["--warm"] if warm and setup == "split" else []
                await run_once(setup, fault, port, seconds, so_far, more)
    return [so_far.figures(setup, fault) for (setup, fault), so_far in collected.items()]


async def run_once(
    setup: Setup, fault: Fault, port: int, seconds: float, so_far: Collected, more: Sequence[str] = ()
) -> None:
    """Run one combination once; `more` are further options of `taktora-trio run`."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        (Path(folder) / "sitecustomize.py").write_text(_NO_NUMPY)
        order = Order(setup, fault, _nobodys_port() if fault == "dead" else port, _WARM_UP, seconds, str(result))
        env = {**os.environ, "PYTHONPATH": folder, VARIABLE: msgspec.json.encode(order).decode()}
        program = ["benchmarks.isolation_app"]
        if setup != "plain":
            mode = "split" if setup == "split" else "in-process"
            program = ["taktora_trio", "run", "benchmarks.isolation_app:deployment", "--mode", mode]
            program += ["--broker", f"mqtt://127.0.0.1:{order.port}", "--gateway-policy", _POLICY, "--await-broker"]
            program += ["--domain", f"isolation-{os.getpid()}", *more]
        async with contextlib.AsyncExitStack() as stack:
            count = await stack.enter_async_context(_load(port)) if fault == "busy" else None
            process = await trio.lowlevel.open_process(
                [sys.executable, "-m", *program], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE, cwd=ROOT, env=env, process_group=0,
            )  # fmt: skip
            words = bytearray()
            try:
                with trio.fail_after(seconds + _EXTRA):
                    assert process.stderr is not None
                    async for chunk in process.stderr:
                        words = (words + chunk)[-4000:]
                    await process.wait()
            finally:
                if process.returncode is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    await process.wait()
            if not result.exists():
                raise SystemExit(f"{setup}, {fault}: no result, exit code {process.returncode}\n{words.decode()}")
            read = msgspec.json.decode(result.read_bytes(), type=Result)
            so_far.lateness += read.lateness
            so_far.received += read.received
            so_far.sent += min(read.sent, count()) if count is not None else 0
            so_far.seconds += len(read.lateness) * PERIOD


def _nobodys_port() -> int:
    """Return a port at which connections are refused, as by a machine whose broker has died."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@contextlib.asynccontextmanager
async def _load(port: int) -> AsyncIterator[Any]:
    """2,000 messages a second to the app, by a client that is none of the library's; yields how many have come back."""
    arrived, connected = 0, threading.Event()

    def count(client: Client, data: object, received: MQTTMessage) -> None:
        nonlocal arrived
        arrived += 1

    def subscribe(client: Client, *_: object) -> None:
        client.subscribe(TO_BROKER)
        connected.set()

    client = Client(CallbackAPIVersion.VERSION2)
    client.on_message = count
    client.on_connect = subscribe
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        await trio.to_thread.run_sync(connected.wait, 10)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_publish, client)
            yield lambda: arrived
            nursery.cancel_scope.cancel()
    finally:
        client.disconnect()
        await trio.to_thread.run_sync(client.loop_stop)


async def _publish(client: Client) -> None:
    due = trio.current_time()
    while True:
        due += PERIOD
        await trio.sleep_until(due)
        for number in range(BATCH):
            client.publish(TO_APP, message.pack(number))


# Showing


def _table(figures: Sequence[Figures]) -> str:
    idle = {one.setup: one.p99 for one in figures if one.fault == "idle"}
    rows: list[tuple[str, ...]] = [
        ("set-up", "gateway", "p50", "p99", "p99.9", "worst", "p99 / idle", "ticks", "msg/s out, in")
    ]
    for one in figures:
        ratio = f"{one.p99 / idle[one.setup]:.1f} x" if one.setup in idle else ""
        carried = f"{one.sent:,.0f}, {one.received:,.0f}" if one.fault == "busy" else ""
        times = (f"{seconds * 1e3:.2f}" for seconds in (one.p50, one.p99, one.p999, one.worst))
        rows.append((SETUPS[one.setup], FAULTS[one.fault], *times, ratio, f"{one.ticks:,}", carried))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join(["lateness of a 10 ms item, ms", lines[0], "-" * max(map(len, lines)), *lines[1:]])


def _verdict(figures: Sequence[Figures]) -> str:
    split = {one.fault: one.p99 for one in figures if one.setup == "split"}
    if "idle" not in split:
        return ""
    beyond = [FAULTS[fault] for fault, p99 in split.items() if p99 > _WITHIN * split["idle"]]
    kept = "in all of (b) to (f)" if not beyond else f"except in {', '.join(beyond)}"
    return f"split keeps the p99 of (a) within {_WITHIN:g} x {kept}"


def _write_table(figures: Sequence[Figures], page: Path) -> None:
    """Write the table into the page, if that has a place for it."""
    if page.exists():
        before, start, rest = page.read_text().partition(_TABLE_START)
        _, end, after = rest.partition(_TABLE_END)
        if end:
            block = f"\n```text\n{_table(figures)}\n```\n\nOf this run: {_verdict(figures)}.\n"
            page.write_text(before + start + block + end + after)


def _plot(figures: Sequence[Figures], stem: Path) -> None:
    """Draw each combination as a line from its p50 to its worst, with its p99 as a dot and its p99.9 as a tick."""
    import matplotlib as mpl

    mpl.use("agg")
    mpl.rcParams["svg.hashsalt"] = "isolation"  # the same figures give the same file
    from matplotlib import pyplot

    colours = dict(zip(SETUPS, ("#767676", "#d1495b", "#edae49", "#00798c"), strict=True))
    faults = [fault for fault in FAULTS if any(one.fault == fault for one in figures)]
    figure, axes = pyplot.subplots(figsize=(12, 5.5), layout="constrained")
    for one in figures:
        place = faults.index(one.fault) + 0.22 * (list(SETUPS).index(one.setup) - 1.6)
        p50, p99, p999, worst = (max(s, 1e-5) * 1e3 for s in (one.p50, one.p99, one.p999, one.worst))
        colour = colours[one.setup]
        axes.plot([place, place], [p50, worst], color=colour, linewidth=3, alpha=0.45, solid_capstyle="butt")
        axes.plot(place, p50, marker="_", markersize=9, color=colour)
        axes.plot(place, p999, marker="_", markersize=9, color=colour)
        axes.plot(place, p99, marker="o", markersize=7, color=colour)
        axes.annotate(f"{p99:.3g}", (place, p99), (5, 0), textcoords="offset points", fontsize=6.5, va="center")
    for setup, name in SETUPS.items():
        axes.plot([], [], marker="o", linewidth=3, color=colours[setup], label=name)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.axhline(PERIOD * 1e3, color="black", linewidth=0.8, linestyle=":")
    axes.annotate("one period", (0, PERIOD * 1e3), (3, 3), xycoords=("axes fraction", "data"),
                  textcoords="offset points", fontsize=8)  # fmt: skip
    axes.set_xticks(range(len(faults)), [FAULTS[fault] for fault in faults])
    axes.set_ylabel("lateness, ms")
    axes.set_title("How late a 10 ms control item runs: p50, p99 (dot, labelled), p99.9, worst", fontsize=11)
    axes.grid(axis="y", alpha=0.3)
    figure.legend(loc="outside lower center", ncols=len(SETUPS), fontsize=9, frameon=False)
    figure.savefig(stem.with_suffix(".png"), dpi=130)
    figure.savefig(stem.with_suffix(".svg"), metadata={"Date": None})


def _known(kinds: Mapping[Any, str], names: str) -> list[Any]:
    chosen = names.split(",")
    if unknown := [name for name in chosen if name not in kinds]:
        raise SystemExit(f"unknown: {', '.join(unknown)}; there are {', '.join(kinds)}")
    return chosen


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round of 2 s each, and no files")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=10.0, help="measured in each round")
    parser.add_argument("--setups", default=",".join(get_args(Setup)), help="some of %(default)s")
    parser.add_argument("--faults", default=",".join(FAULTS), help="some of %(default)s")
    parser.add_argument("--warm", action="store_true", help="split: start gateways by a fork")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "isolation", help="of the files, without suffix")
    parser.add_argument("--from", dest="earlier", type=Path, metavar="FILE", help="figures of an earlier run")
    options = parser.parse_args()
    if options.earlier is not None:
        figures = msgspec.json.decode(options.earlier.read_bytes(), type=list[Figures])
    else:
        rounds, seconds = (1, 2.0) if options.quick else (options.rounds, options.seconds)
        setups, faults = _known(SETUPS, options.setups), _known(FAULTS, options.faults)
        figures = trio.run(_measure, rounds, seconds, setups, faults, options.warm)
    print(_table(figures))
    print(_verdict(figures))
    if not options.quick:
        _write_table(figures, options.out.with_suffix(".md"))
        options.out.with_suffix(".json").write_bytes(msgspec.json.format(msgspec.json.encode(figures)) + b"\n")
        _plot(figures, options.out)


if __name__ == "__main__":
    main()
