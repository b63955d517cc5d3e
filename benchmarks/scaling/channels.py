"""What each channel costs, in both shapes, and with which exponent.

How long a deployment takes to start, until supervisor, gateway and app are ready (the app has all its channels open and
sees its connector up), and to stop; what each process has of descriptors and memory; shared memory; and what is carried
at QoS 1, the messages going over all channels in turn. Throughput with few and with many channels is compared by turns,
while both deployments run.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import attrs
import psutil
import trio

from benchmarks.children import ROOT
from benchmarks.contest import Contest, Contestant, Entry, Flooded, cpu_time
from benchmarks.peers.control import Setting
from benchmarks.report import Figure, grid, median_of_ratios
from benchmarks.scaling.power_law import beyond_first, each_more, fit

__all__ = [
    "FEW",
    "MANY",
    "MOST",
    "SHAPES",
    "Beside",
    "ByChannels",
    "Shape",
    "beside",
    "by_channels",
    "figures",
    "tables",
]

Shape: TypeAlias = Literal["split", "in-process"]

SHAPES: tuple[Shape, ...] = ("split", "in-process")
FEW, MANY, MOST = 10, 1_000, 10_000
_TURNS = 7  # of throughput with few channels and with many
_LONGER = 4  # so that to tell the end of each of a thousand topics is little beside it
_AGAIN = 60.0  # seconds that a deployment has to say why it can't start


@attrs.frozen(kw_only=True)
class ByChannels:
    """One start of a deployment with so many channels."""

    channels: int
    shape: Shape
    start_seconds: float
    stop_seconds: float
    """From the signal to the end of every process."""
    start_cpu: dict[str, float]
    """The CPU time in seconds until then, by process; whatever else the machine does, it is the same."""
    shared_bytes: int
    descriptors: dict[str, int]
    """By process: `app`, and in the split shape `gateway` and `supervisor`."""
    resident_bytes: dict[str, int]
    """By process."""
    rate: float
    """Messages a second at QoS 1."""
    cpu: dict[str, float]
    """The CPU time in us for each message, by process."""


@attrs.frozen(kw_only=True)
class Beside:
    """Throughput at QoS 1 with few channels and with many, round by round, in messages a second."""

    few: int
    many: int
    few_rates: list[float]
    many_rates: list[float]


async def by_channels(
    contest: Contest, count: int, shape: Shape, session: str, messages: int, rounds: int, left_out: list[str]
) -> ByChannels | None:
    """Start it and measure; `None` if it does not start, whose reason is added to `left_out`."""
    entry = _entry(count, shape, session)
    start = trio.current_time()
    try:
        async with contest.open(entry) as one:
            started = trio.current_time() - start
            pids = _processes(one, shape)
            spent = {name: cpu_time(pid) for name, pid in pids.items()}
            floods = await _flood(one, messages // count, rounds)
            assert one.domain is not None
            measured = ByChannels(
                channels=count,
                shape=shape,
                start_seconds=started,
                stop_seconds=0.0,  # that is still to come
                start_cpu=spent,
                shared_bytes=sum(path.stat().st_blocks * 512 for path in one.domain.files()),
                descriptors={name: len(os.listdir(f"/proc/{pid}/fd")) for name, pid in pids.items()},
                resident_bytes={name: _resident(pid) for name, pid in pids.items()},
                rate=statistics.median(flood.rate for flood in floods),
                cpu={name: statistics.median(flood.cpu[name] for flood in floods) for name in floods[0].cpu},
            )
            stop = trio.current_time()
        return attrs.evolve(measured, stop_seconds=trio.current_time() - stop)
    except* RuntimeError:
        left_out.append(f"{count:,} channels, {shape}: {await _why_not(contest, entry)}")
    return None


async def beside(contest: Contest, session: str, few: int, many: int, messages: int) -> Beside:
    """Compare the throughput of two deployments in the split shape by turns."""
    messages *= _LONGER
    rates: dict[int, list[float]] = {few: [], many: []}
    async with (
        contest.open(_entry(few, "split", session, "beside-")) as one,
        contest.open(_entry(many, "split", session, "beside-")) as other,
    ):
        ones = {few: one, many: other}
        for count, each in ones.items():
            await _flood(each, messages // count, 1)
        for turn in range(_TURNS):
            for count in (few, many) if turn % 2 else (many, few):
                rates[count].append((await ones[count].flood(1, max(messages // count, 2))).rate)
    return Beside(few=few, many=many, few_rates=rates[few], many_rates=rates[many])


def _entry(count: int, shape: Shape, session: str, prefix: str = "") -> Entry:
    options = {"channels": count, "qos": (1,), "session": session}
    return Entry(f"{prefix}channels-{count}-{shape}", "through_gateway", shape, options)


async def _flood(one: Contestant, count: int, rounds: int) -> list[Flooded]:
    await one.flood(1, max(count // 10, 1))
    return [await one.flood(1, max(count, 2)) for _ in range(rounds)]


def _processes(one: Contestant, shape: Shape) -> dict[str, int]:
    pids = {name: pid for name, (pid, *_) in one.pids.items() if name != "broker"}
    if shape == "split":
        pids["supervisor"] = psutil.Process(pids["gateway"]).ppid()
    return pids


def _resident(pid: int) -> int:
    """Return the resident size, the second figure of proc_pid_statm(5)."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


async def _why_not(contest: Contest, entry: Entry) -> str:
    """Start it once more, to hear with what words it is refused."""
    told = Setting(name=entry.name, port=contest.port, socket="/nobody", **entry.options)  # type: ignore[arg-type]
    command = [sys.executable, "-m", "taktora_trio", "run", "benchmarks.peers.through_gateway:deployment"]
    command += ["--mode", str(entry.mode), "--broker", f"mqtt://127.0.0.1:{contest.port}", "--for", "1"]
    with trio.move_on_after(_AGAIN):
        done = await trio.run_process(
            [*command, "--domain", f"{entry.name}-{os.getpid()}"],
            capture_stderr=True,
            stdout=subprocess.DEVNULL,
            check=False,
            cwd=ROOT,
            env=told.environment(),
        )
        lines = done.stderr.decode().strip().splitlines()
        return next((line for line in lines if line.startswith("taktora-trio:")), lines[-1] if lines else "it ended")
    return f"it did not start within {_AGAIN:g} s"


def tables(measured: Sequence[ByChannels]) -> list[str]:
    """Return a table of the costs, and one of how they grow."""
    rows = [
        [
            *("channels", "shape", "start, s", "stop, s", "CPU s: app", "gateway", "supervisor", "shared, MB"),
            *("descriptors: app", "gateway", "supervisor"),
            *("resident, MB: app", "gateway", "supervisor", "QoS 1, msg/s", "CPU us/msg: app", "gateway", "broker"),
        ]
    ]
    for it in measured:
        names = ("app", "gateway", "supervisor")
        rows.append(
            [
                *(f"{it.channels:,}", it.shape, f"{it.start_seconds:.2f}", f"{it.stop_seconds:.2f}"),
                *(f"{it.start_cpu[name]:.2f}" if name in it.start_cpu else "-" for name in names),
                f"{it.shared_bytes / 1e6:.1f}",
                *(f"{it.descriptors[name]:,}" if name in it.descriptors else "-" for name in names),
                *(f"{it.resident_bytes[name] / 1e6:.0f}" if name in it.resident_bytes else "-" for name in names),
                f"{it.rate:,.0f}",
                *(f"{it.cpu[name]:.1f}" if name in it.cpu else "-" for name in ("app", "gateway", "broker")),
            ]
        )
    growing = [["what", "shape", "exponent", "of what is beyond the first", "each more, between the two greatest"]]
    for shape in SHAPES:
        of_shape = [it for it in measured if it.shape == shape]
        if len({it.channels for it in of_shape}) < 2:
            continue
        for name, unit, points in curves(of_shape):
            more = each_more(points)
            growing.append(
                [name, shape, str(fit(points) or "-"), str(beyond_first(points) or "-"), f"{more:,.4g} {unit}"]
            )
    return [grid(rows), *([grid(growing)] if len(growing) > 1 else [])]


def curves(measured: Sequence[ByChannels]) -> list[tuple[str, str, list[tuple[float, float]]]]:
    """Return name, unit, and points of each cost of one shape."""
    processes = list(measured[0].descriptors)
    found = [
        ("start", "ms", [(it.channels, it.start_seconds * 1e3) for it in measured]),
        ("shared memory", "kB", [(it.channels, it.shared_bytes / 1e3) for it in measured]),
    ]
    found += [
        (f"CPU to start, {p}", "ms", [(it.channels, it.start_cpu[p] * 1e3) for it in measured]) for p in processes
    ]
    found += [(f"descriptors, {p}", "", [(it.channels, it.descriptors[p]) for it in measured]) for p in processes]
    found += [
        (f"resident, {p}", "kB", [(it.channels, it.resident_bytes[p] / 1e3) for it in measured]) for p in processes
    ]
    found += [
        (f"CPU a message, {p}", "us", [(it.channels, it.cpu[p]) for it in measured])
        for p in processes
        if p in measured[0].cpu
    ]
    return [(name, unit, [(float(x), float(y)) for x, y in points]) for name, unit, points in found]


def figures(measured: Sequence[ByChannels], compared: Beside | None) -> list[Figure]:
    """Return what is promised of many channels, beside its target; nothing of what was not measured."""
    found = []
    for shape in SHAPES:
        of_shape = {it.channels: it for it in measured if it.shape == shape}
        for count, limit in ((MANY, 2.0), (MOST, 20.0)):
            if (it := of_shape.get(count)) is not None:
                found.append(_at_most(f"start with {count:,} channels, {shape}", it.start_seconds, limit, "s"))
        if shape == "split" and 1 in of_shape and (it := of_shape.get(MANY)) is not None:
            more = max(it.descriptors[half] - of_shape[1].descriptors[half] for half in ("app", "gateway"))
            found.append(_at_most("descriptors for each more channel, in a half", more / (MANY - 1), 4, ""))
            resident = it.resident_bytes["gateway"] / 1e6
            found.append(_at_most(f"resident, the gateway with {MANY:,} channels", resident, 150, "MB"))
    if compared is not None and compared.many == MANY:
        few, many = (statistics.median(rates) for rates in (compared.few_rates, compared.many_rates))
        found.append(
            Figure(
                what=f"QoS 1, split: with {compared.many:,} channels / with {compared.few}",
                measured=median_of_ratios(compared.many_rates, compared.few_rates),
                target=0.8,
                unit="x",
                at_most=False,
                beside=f"{many:,.0f} / {few:,.0f} messages/s",
            )
        )
    return found


def _at_most(what: str, measured: float, target: float, unit: str) -> Figure:
    return Figure(what=what, measured=measured, target=target, unit=unit, at_most=True, beside="")
