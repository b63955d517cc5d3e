"""What keeps messages on disk at which cost: SQLite, LMDB, and the log that the gateway uses.

    python -m benchmarks.stores [--folder FOLDER]

Run as root it makes a small ext4 file system in a file, to count what reaches the device, journal and all.
"live" is how it is while the other side acknowledges: what was stored is removed with the next batch. "outage" only
stores. Each is in batches of one size, each of them synced before the next.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import trio

from taktora_trio.store import open_log

Put: TypeAlias = Callable[[list[bytes], bool], None]
SECONDS = 1.5
MOST = 40_000_000  # bytes of a measurement
IMAGE = 2**28


def sqlite(folder: Path, *, sync: str, blob: bool) -> Put:
    db = sqlite3.connect(folder / "store.db", isolation_level=None)
    db.execute("pragma journal_mode=wal")
    db.execute(f"pragma synchronous={sync}")
    db.execute("create table message (number integer primary key, content blob)")
    last = 0

    def put(batch: list[bytes], removes: bool) -> None:
        nonlocal last
        db.execute("begin")
        if removes:
            db.execute("delete from message where number <= ?", (last,))
        rows = [(last + 1, b"".join(batch))] if blob else [(last + 1 + i, it) for i, it in enumerate(batch)]
        db.executemany("insert into message values (?, ?)", rows)
        db.execute("commit")
        last += len(batch)

    return put


def lmdb(folder: Path) -> Put:
    from lmdb import Environment

    db = Environment(str(folder / "lmdb"), map_size=IMAGE // 2)
    last = 0

    def put(batch: list[bytes], removes: bool) -> None:
        nonlocal last
        with db.begin(write=True) as transaction:
            for number in range(last - len(batch) + 1, last + 1) if removes and last else ():
                transaction.delete(b"%016d" % number)
            for content in batch:
                last += 1
                transaction.put(b"%016d" % last, content, append=True)

    return put


ENGINES: dict[str, Callable[[Path], Put]] = {
    "SQLite, WAL FULL, a row a message": lambda folder: sqlite(folder, sync="FULL", blob=False),
    "SQLite, WAL FULL, a row a batch": lambda folder: sqlite(folder, sync="FULL", blob=True),
    "SQLite, WAL NORMAL, a row a message (not synced)": lambda folder: sqlite(folder, sync="NORMAL", blob=False),
    "LMDB": lmdb,
}


async def log_of_ours(folder: Path, batch: list[bytes], removes: bool) -> tuple[int, float, float]:
    async with open_log(folder, identity="benchmark", max_bytes=IMAGE) as log:
        channel = log.channel("out")
        begun, cpu, count = time.perf_counter(), time.process_time(), 0
        while is_on(begun, count, batch):
            before = channel.last
            for content in batch:
                channel.append(content, epoch=1, sequence=count)
                count += 1
            if removes:
                channel.settle(1, before)
            await channel.wait_stored()
        return count, time.perf_counter() - begun, time.process_time() - cpu


def is_on(begun: float, count: int, batch: list[bytes]) -> bool:
    return time.perf_counter() - begun < SECONDS and count * len(batch[0]) < MOST


def measure(folder: Path, engine: str, batch: list[bytes], removes: bool) -> tuple[int, float, float]:
    if engine not in ENGINES:
        return trio.run(log_of_ours, folder, batch, removes)
    put = ENGINES[engine](folder)
    begun, cpu, count = time.perf_counter(), time.process_time(), 0
    while is_on(begun, count, batch):
        put(batch, removes)
        count += len(batch)
    return count, time.perf_counter() - begun, time.process_time() - cpu


@contextlib.contextmanager
def file_system(folder: Path) -> Iterator[tuple[Path, Path | None]]:
    """Yield a folder, and the device's counters where it has a device of its own."""
    image, mounted = folder / "image", folder / "mounted"
    mounted.mkdir()
    try:
        with image.open("wb") as file:
            file.truncate(IMAGE)
        subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
        subprocess.run(["mount", "-o", "loop", str(image), str(mounted)], check=True)
    except (OSError, subprocess.CalledProcessError) as exc:
        print(f"What reaches the device is not counted: {exc}")
        yield folder, None
        return
    try:
        found = subprocess.run(["losetup", "-nO", "NAME", "-j", image], check=True, capture_output=True, text=True)
        yield mounted, Path("/sys/block") / Path(found.stdout.strip()).name / "stat"
    finally:
        subprocess.run(["umount", str(mounted)], check=True)


def written(counters: Path | None) -> int:
    os.sync()
    return 0 if counters is None else int(counters.read_text().split()[6]) * 512


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--folder", type=Path, help="on the disk that is to be measured")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name, file_system(Path(name)) as (folder, counters):
        print(f"{'':50} {'':7} {'bytes':>5} {'batch':>5} {'msg/s':>8} {'CPU us':>6} {'written':>7}")
        for size in (100, 1024):
            for count in (64, 500):
                for removes in (True, False):
                    for engine in (*ENGINES, "the log"):
                        place = folder / "store"
                        shutil.rmtree(place, ignore_errors=True)
                        place.mkdir()
                        before = written(counters)
                        batch = [random.randbytes(size) for _ in range(count)]
                        messages, seconds, cpu = measure(place, engine, batch, removes)
                        factor = (written(counters) - before) / (messages * size)
                        print(
                            f"{engine:50} {'live' if removes else 'outage':7} {size:5} {count:5}"
                            f" {messages / seconds:8,.0f} {cpu / messages * 1e6:6.1f} {factor:6.2f}x"
                        )
                        sys.stdout.flush()


if __name__ == "__main__":
    main()
