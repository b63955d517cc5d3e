"""The app's 10 ms tick with a store on a good disk, on a slow one, and with none, in the shape where it could hurt.

python -m benchmarks.tick_with_store [--ticks 3000]

In-process: the gateway, with its store, is a task of the app's own loop, and the disk is touched in worker threads.
Each tick sends a message. There is no broker, so each is stored. A disk that is slow takes 0.3 s for each sync, and one
that hangs answers none. The runs take turns.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import threading
import uuid
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import trio

if not __package__:  # started as a file: then this folder is where imports are looked for, not the project's
    sys.path[0] = str(Path(__file__).parents[1])

from benchmarks.report import grid, machine, percentile
from taktora_trio import (
    BackPressure,
    Deployment,
    MqttConnector,
    MqttOptions,
    MqttRouting,
    Outbound,
    RawCodec,
    Store,
    open_deployment,
)
from taktora_trio.store.disk import Disk
from taktora_trio.supervision.backoff import Backoff
from taktora_trio.testing.server import free_port

__all__ = ["DISKS", "measure"]

_PERIOD = 0.01
DISKS = ("none", "good", "slow", "hung")


@contextlib.contextmanager
def _disk(kind: str) -> Iterator[None]:
    """Have each sync take as long as on such a disk, while the block lasts."""
    if kind in ("none", "good"):
        yield
        return
    before, over = Disk.sync, threading.Event()

    def sync(self: Disk, fd: int) -> None:
        over.wait(0.3 if kind == "slow" else None)
        before(self, fd)

    Disk.sync = sync  # type: ignore[method-assign]
    try:
        yield
    finally:
        over.set()
        Disk.sync = before  # type: ignore[method-assign]


async def measure(kind: str, ticks: int) -> list[float]:
    """Return by how many milliseconds each tick was late."""
    late = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, _disk(kind):
        store = None if kind == "none" else Store(policy="always", path=Path(folder))
        out = Outbound("out", bytes, MqttRouting("tick", qos=1), max_payload=128, window=1000)
        options = MqttOptions(broker=f"mqtt://127.0.0.1:{free_port()}", reconnect=Backoff(initial=1, maximum=1))
        deployment = Deployment("tick", None, [MqttConnector([out], codec=RawCodec(), options=options)], store=store)
        domain = f"tick-{uuid.uuid4().hex[:8]}"
        async with open_deployment(deployment, domain=domain) as host, host.open_writer(out) as writer:
            due = trio.current_time() + 0.5
            for _ in range(ticks):
                await trio.sleep_until(due)
                late.append((trio.current_time() - due) * 1000)
                with contextlib.suppress(BackPressure):
                    writer.send_nowait(bytes(100))
                due = max(due, trio.current_time() - 1) + _PERIOD
    return late


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--ticks", type=int, default=3000)
    ticks = cast(int, parser.parse_args().ticks)
    late = defaultdict[str, list[float]](list)
    for _ in range(3):
        for kind in DISKS:
            late[kind] += trio.run(measure, kind, ticks // 3)
    rows = [["store on a disk that is", "p50, ms late", "p99", "p99.9", "worst"]]
    rows += [[kind, *(f"{percentile(late[kind], part):.2f}" for part in (0.5, 0.99, 0.999, 1.0))] for kind in DISKS]
    print(machine())
    print(grid(rows))


if __name__ == "__main__":
    main()
