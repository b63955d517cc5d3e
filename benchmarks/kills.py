"""kill -9 of the gateway, again and again, half of the time aimed at its start: is anything ever left, or broken?

    python -m benchmarks.kills [--kills 1000] [--warm]

After each kill the next incarnation must come Up. At the end: no start failed for any other reason than the kill, no
zombie is there, and the app's process has no more descriptors and threads than before.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import time
from typing import Any

import attrs
import psutil
import trio

from benchmarks.children import ROOT
from benchmarks.mosquitto import open_mosquitto
from taktora_trio.processes.lines import read_lines
from taktora_trio.transport.domain import Domain

__all__ = ["Outcome", "kill_again_and_again"]

_POLICY = "initial=0.001,maximum=0.001,factor=1,jitter=0,intensity=1000000"
_START = {False: 0.25, True: 0.05}  # seconds within which a start is hit: as long as one takes, fresh or warm
_UP_WITHIN = 20.0


@attrs.frozen(kw_only=True)
class Outcome:
    kills: int
    at_start: int
    """The number that hit an incarnation that had not come Up yet."""
    start_errors: list[str]
    zombies: int
    descriptors: tuple[int, int]
    """Those of the app's process, before and after."""
    threads: tuple[int, int]
    files: tuple[int, int]
    """The files of the domain in /dev/shm."""
    exit_code: int
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.kills} kills ({self.at_start} before it was Up) in {self.seconds:.0f} s:"
            f" {len(self.start_errors)} start errors, {self.zombies} zombies,"
            f" descriptors {self.descriptors[0]} -> {self.descriptors[1]},"
            f" threads {self.threads[0]} -> {self.threads[1]}, files {self.files[0]} -> {self.files[1]},"
            f" exit code {self.exit_code}"
        )


@attrs.define
class _Run:
    """The events that the run's log has told so far."""

    gateway: int = 0
    plugin: int = 0
    is_up: bool = False
    errors: list[str] = attrs.field(factory=list)
    _changed: trio.Event = attrs.field(factory=trio.Event)

    def read(self, entry: dict[str, Any]) -> None:
        message: str = entry["message"]
        if message.startswith("gateway: started, pid "):
            self.gateway, self.is_up = int(message.rpartition(" ")[2]), False
        elif message.startswith("plugin: started, pid "):
            self.plugin = int(message.rpartition(" ")[2])
        elif message.startswith("health of") and "-> Up" in message:
            self.is_up = True
        elif message.startswith("health of") and "-> Down" in message:
            self.is_up = False
        elif entry["level"] in ("error", "critical") or (
            message.startswith("gateway: ended") and "SIGKILL" not in message
        ):
            self.errors.append(message)
        self._changed.set()
        self._changed = trio.Event()

    async def until_up(self) -> None:
        with trio.fail_after(_UP_WITHIN):
            while not (self.is_up and self.plugin):
                await self._changed.wait()

    async def until_started(self, before: int) -> None:
        with trio.fail_after(_UP_WITHIN):
            while self.gateway == before:
                await self._changed.wait()


async def kill_again_and_again(port: int, kills: int, *, warm: bool, seed: int = 1) -> Outcome:
    """Kill gateways of a run at the broker on that port of 127.0.0.1. Each wait for Up fails after 20 s."""
    chance = random.Random(seed)
    domain = Domain(f"kills-{port}")
    command = [
        *(sys.executable, "-m", "taktora_trio", "run", "examples.echo:deployment", "--mode", "split"),
        *("--broker", f"mqtt://127.0.0.1:{port}", "--domain", domain.name, "--log", "json"),
        *("--gateway-policy", _POLICY, *(["--warm"] if warm else [])),
    ]
    process = await trio.lowlevel.open_process(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=ROOT
    )
    run = _Run()
    began, at_start = time.monotonic(), 0
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_read, process, run)
            await run.until_up()
            await trio.sleep(1)  # for the app, which opens its channels by itself, and may be later than its gateway
            plugin = psutil.Process(run.plugin)
            before = (plugin.num_fds(), plugin.num_threads(), len(domain.files()))
            for number in range(kills):
                if number % 2:
                    await run.until_up()
                    await trio.sleep(chance.uniform(0, 0.02))
                else:
                    await trio.sleep(chance.uniform(0, _START[warm]))
                at_start += not run.is_up
                victim = run.gateway
                _kill(victim)
                await run.until_started(victim)
            await run.until_up()
            await trio.sleep(1)  # for the same
            after = (plugin.num_fds(), plugin.num_threads(), len(domain.files()))
            family = psutil.Process(process.pid).children(recursive=True)
            zombies = sum(child.status() == psutil.STATUS_ZOMBIE for child in family)
            process.send_signal(signal.SIGTERM)
            with trio.fail_after(10):
                code = await process.wait()
    finally:
        process.kill()
        await process.wait()
        domain.forget()
    return Outcome(
        kills=kills,
        at_start=at_start,
        start_errors=run.errors,
        zombies=zombies,
        descriptors=(before[0], after[0]),
        threads=(before[1], after[1]),
        files=(before[2], after[2]),
        exit_code=code,
        seconds=time.monotonic() - began,
    )


def _kill(pid: int) -> None:
    # By a pidfd: between the log line and now nobody else can have got this number, for its parent has not reaped it.
    psutil.Process(pid).kill()


async def _read(process: trio.Process, run: _Run) -> None:
    assert process.stderr is not None
    async for line in read_lines(process.stderr):
        if line.startswith(b"{"):
            run.read(json.loads(line))


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--warm", action="store_true", help="start the gateway by a fork")
    options = parser.parse_args()
    async with open_mosquitto() as port:
        outcome = await kill_again_and_again(port, options.kills, warm=options.warm)
    print(outcome)
    for error in outcome.start_errors[:20]:
        print("   ", error)
    return 1 if outcome.start_errors or outcome.zombies or outcome.exit_code else 0


if __name__ == "__main__":
    sys.exit(trio.run(main))
