"""A snapshot is whole, or it is the one before; whatever is in the file, it is said in a line."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from taktora_trio.errors import TransportError
from taktora_trio.transport.snapshot import SnapshotWriter, map_snapshot, newest_snapshot, read_snapshot, snapshot_bytes

MOST = 200


def written(*contents: bytes) -> bytearray:
    memory = bytearray(snapshot_bytes(MOST))
    writer = SnapshotWriter(memory)
    for number, content in enumerate(contents):
        assert writer.write(content, number, number)
    return memory


def read(memory: bytearray) -> bytes | None:
    snapshot = newest_snapshot("vitals.plugin", bytes(memory))
    return None if snapshot is None else snapshot.content


def test_the_newest_is_read_and_none_before_the_first() -> None:
    assert read(written()) is None
    contents = [b"%d" % number * number for number in range(1, 9)]
    for count in range(1, 9):
        assert read(written(*contents[:count])) == contents[count - 1]


def test_one_that_is_too_large_is_not_written() -> None:
    memory = written(b"before")
    writer = SnapshotWriter(memory)
    assert writer.write(b"x" * writer.most)
    assert not writer.write(b"x" * (writer.most + 1))
    assert read(memory) == b"x" * writer.most


def test_who_is_killed_while_it_writes_leaves_the_one_before() -> None:
    """Whichever bytes of the next one have come to memory, in whatever order, and which are still the old ones."""
    chosen = random.Random(16)
    before, after = written(b"a" * 150, b"b" * 150), written(b"a" * 150, b"b" * 150, b"c" * 150)
    differing = [at for at, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]
    seen = set()
    for _ in range(2000):
        torn = bytearray(before)
        for at in chosen.sample(differing, chosen.randrange(len(differing) + 1)):
            torn[at] = after[at]
        seen.add(read(torn))
    assert seen <= {b"b" * 150, b"c" * 150}
    assert read(after) == b"c" * 150


def test_whatever_is_in_the_file_it_is_a_snapshot_or_one_line() -> None:
    chosen = random.Random(17)
    whole = written(b"a" * 150, b"b" * 150)
    for _ in range(2000):
        broken = bytearray(whole[: chosen.choice([len(whole), chosen.randrange(len(whole))])])
        for _ in range(chosen.randrange(4)):
            if broken:
                broken[chosen.randrange(len(broken))] ^= 1 << chosen.randrange(8)
        assert said_of(broken) in (b"a" * 150, b"b" * 150, None, "a line")


def said_of(memory: bytearray) -> bytes | str | None:
    try:
        return read(memory)
    except TransportError as exc:
        return "a line" if "\n" not in str(exc) else str(exc)


def test_the_file_is_its_owners_alone_and_replaces_one_that_is_there(tmp_path: Path) -> None:
    path = tmp_path / "vitals.plugin"
    assert read_snapshot(path) is None
    first = map_snapshot(path, MOST)
    first.write(b"first")
    second = map_snapshot(path, 2 * MOST)
    assert read_snapshot(path) is None
    second.write(b"second")
    first.write(b"one that is stopped, and goes on much later")
    snapshot = read_snapshot(path)
    assert snapshot is not None
    assert snapshot.content == b"second"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["vitals.plugin"]
    first.close()
    second.close()
    path.unlink()
    path.symlink_to("/etc/passwd")
    with pytest.raises(TransportError, match="can't be read"):
        read_snapshot(path)
