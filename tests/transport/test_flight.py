"""The flight ring has the newest records, whole ones alone, whoever is killed, and whatever stands in its file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taktora_trio.errors import TransportError
from taktora_trio.transport.flight import FlightRing, map_flight, read_flight
from taktora_trio.transport.segments import PAGE


def contents(path: Path) -> list[bytes]:
    return [record.content for record in read_flight(path)]


@given(st.lists(st.binary(max_size=600), max_size=40))
def test_it_holds_the_newest_that_there_is_room_for(written: list[bytes]) -> None:
    memory = bytearray(2 * PAGE)
    ring = FlightRing(memory)
    for content in written:
        assert ring.write(1, content)
    path = Path(f"/dev/shm/test-flight-{os.getpid()}")
    path.write_bytes(memory)
    try:
        found = contents(path)
    finally:
        path.unlink()
    assert found == written[len(written) - len(found) :]
    room = PAGE - sum(28 + len(content) for content in found)
    assert room >= 0
    if len(found) < len(written):
        assert room < 28 + len(written[-len(found) - 1])


def test_a_successor_goes_on_with_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "flight"
    for part in (b"a", b"b"):
        ring = map_flight(path, 5000)
        ring.write(1, part)
        ring.close()
        assert not ring.write(1, b"closed")
    [first, second] = read_flight(path)
    assert (first.content, second.content) == (b"a", b"b")
    assert second.time_ns >= first.time_ns > 1.7e18
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_is_larger_than_the_ring_is_refused(tmp_path: Path) -> None:
    ring = map_flight(tmp_path / "flight", 4096)
    assert not ring.write(1, bytes(4096))
    assert ring.write(1, bytes(4096 - 28))
    ring.close()


def test_a_writer_that_is_killed_leaves_whole_records_alone(tmp_path: Path) -> None:
    """Each record says its number and its length; nothing else may be read, and none within is missing."""
    path = tmp_path / "flight"
    program = (
        "import sys, pathlib; from taktora_trio.transport.flight import map_flight\n"
        "ring = map_flight(pathlib.Path(sys.argv[1]), 9000); n = 0\n"
        "while True:\n"
        "    n == 100 and print('go', flush=True)\n"
        "    n += 1; ring.write(1, b'%d:' % n + b'x' * (n * 7919 % 997))\n"
    )
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        for _ in range(50):
            check(contents(path))  # while it writes
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        found = contents(path)
        assert found
        check(found)


def check(found: list[bytes]) -> None:
    numbers = [int(content.partition(b":")[0]) for content in found]
    for number, content in zip(numbers, found, strict=True):
        assert content == b"%d:" % number + b"x" * (number * 7919 % 997)
    starts = [index for index, number in enumerate(numbers) if number == 1]  # a successor counts from 1 again
    for index in range(1, len(numbers)):
        assert numbers[index] == numbers[index - 1] + 1 or index in starts


def test_threads_may_write_at_once(tmp_path: Path) -> None:
    ring = map_flight(tmp_path / "flight", 1_000_000)
    threads = [
        threading.Thread(target=lambda name=name: [ring.write(1, b"%s%d" % (name, n)) for n in range(300)])
        for name in (b"a", b"b", b"c")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ring.close()
    assert len(contents(tmp_path / "flight")) == 900


@pytest.mark.parametrize("damage", ["cut", "empty", "magic", "version", "size", "end", "begin"])
def test_a_file_that_cant_be_read_is_told_and_begun_anew(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "flight"
    ring = map_flight(path, 4096)
    ring.write(1, b"a")
    ring.close()
    content = bytearray(path.read_bytes())
    files = {"cut": bytes(content[: PAGE + 9]), "empty": b""}
    word = {"magic": 0, "version": 1, "size": 2, "begin": 3, "end": 4}
    if damage in word:
        content[8 * word[damage] : 8 * word[damage] + 8] = b"\xfe" * 8
    path.write_bytes(files.get(damage, bytes(content)))
    with pytest.raises(TransportError, match=r"cut|no flight ring|format|can't be"):
        read_flight(path)
    ring = map_flight(path, 4096)
    ring.write(1, b"b")
    ring.close()
    assert contents(path) == [b"b"]


def test_a_record_that_is_damaged_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "flight"
    ring = map_flight(path, 4096)
    for part in (b"first", b"second", b"third"):
        ring.write(1, part)
    ring.close()
    content = path.read_bytes()
    path.write_bytes(content.replace(b"second", b"secomd"))
    assert contents(path) == [b"first", b"third"]
    assert contents(tmp_path / "none") == []
