from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from taktora_trio.transport import folder, segments
from taktora_trio.transport.deliveries import (
    DEAD,
    DONE,
    IN_HAND,
    Deliveries,
    Handed,
    deliveries_size,
    identity_of,
    is_needed,
)
from taktora_trio.transport.kept import forget_kept, open_kept, prune_kept
from taktora_trio.transport.node import SharedNode

WINDOW = 4
SERVICE = "taktora.connector.c.a.in"
FILE = f"{SERVICE}.{WINDOW}"


@pytest.fixture(autouse=True)
def shm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A /dev/shm for this test alone."""
    for module in (folder, segments):
        monkeypatch.setattr(module, "SHM", tmp_path)
    return tmp_path


@contextlib.contextmanager
def opened(run: str = "aaaaaaaa") -> Iterator[Deliveries]:
    root = SimpleNamespace(to_string=lambda: f"{folder.user_folder()}/d~{run}")
    node: Any = SimpleNamespace(config=SimpleNamespace(global_cfg=SimpleNamespace(root_path=root)))
    deliveries = Deliveries(SharedNode(node), SERVICE, WINDOW)
    try:
        yield deliveries
    finally:
        deliveries.close()


def kept() -> list[str]:
    try:
        return sorted(os.listdir(folder.user_folder() / "d~kept"))
    except FileNotFoundError:
        return []


def test_a_message_is_known_by_its_content_and_its_topic() -> None:
    large = bytes(100_000)
    contents = [(b"", ""), (b"a", ""), (b"a", "t"), (b"b", "t"), (large, ""), (large[:-1], ""), (large[:-1] + b"x", "")]
    assert len({identity_of(*content) for content in contents}) == len(contents)
    assert identity_of(memoryview(b"a"), "t") == identity_of(b"a", "t")
    assert all(0 <= identity_of(*content) < 2**64 for content in contents)


def test_a_file_that_is_new_is_not_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    """An app with thousands of channels opens as many of them."""
    searched: list[int] = []
    handed = Deliveries._handed

    def counted(deliveries: Deliveries, place: int) -> Handed:
        searched.append(place)
        return handed(deliveries, place)

    monkeypatch.setattr(Deliveries, "_handed", counted)
    with opened() as first:
        assert first.resume(0, 0) == []
        assert searched == []
        first.handing_over(1, 101)
    with opened() as second:
        assert second.resume(0, 1) == []
        assert searched != []
        assert second.handing_over(1, 101) == 2


def test_what_nobody_keeps_is_done_with_when_it_is_handed_over() -> None:
    with opened() as first:
        first.resume(0, 0)
        first.handing_over_once(2)
    with opened() as second:
        assert [(handed.number, handed.state) for handed in second.resume(1, 3)] == [(2, DONE)]


def test_what_the_app_was_killed_with_is_counted_from_reader_to_reader() -> None:
    with opened() as first:
        assert first.resume(0, 0) == []
        assert [first.handing_over(number, 100 + number) for number in (1, 2, 3)] == [1, 1, 1]
        first.done_up_to(1)
    with opened() as second:
        assert [(handed.number, handed.state) for handed in second.resume(1, 3)] == [(1, IN_HAND)]
        assert [second.handing_over(number, 100 + number) for number in (2, 3, 4)] == [2, 2, 1]
    with opened() as third:
        third.resume(1, 4)
        assert [third.handing_over(number, 100 + number) for number in (2, 3, 4)] == [3, 3, 2]


def test_the_next_run_has_other_numbers_and_knows_what_the_other_side_sends_again() -> None:
    with opened() as first:
        first.resume(0, 0)
        for number in (5, 6, 7):
            first.handing_over(number, 100 + number, delivery_id=number)
        first.handing_over(8, 108)  # nobody sends this one again
        first.done_up_to(5)
    with opened("bbbbbbbb") as second:
        assert second.resume(0, 0) == []
        assert second.handing_over(1, 107, delivery_id=3) == 2
        assert second.handing_over(2, 107, delivery_id=4) == 1, "another one of the same content"
        assert second.handing_over(3, 108) == 1
        assert second.handing_over(4, 105, delivery_id=5) == 1, "the app was done with it"
        second.done_up_to(4)
    with opened("cccccccc") as third:
        third.resume(0, 0)
        assert third.handing_over(1, 106, delivery_id=9) == 2, "it is kept for as long as it takes"


def test_done_before_an_earlier_one() -> None:
    with opened() as first:
        first.resume(0, 0)
        for number in (1, 2, 3):
            first.handing_over(number, 100 + number, number)
        first.done(2)
    with opened() as second:
        assert [(handed.number, handed.state) for handed in second.resume(0, 3)] == [(2, DONE)]


def test_given_back_and_excused() -> None:
    with opened() as deliveries:
        deliveries.resume(0, 0)
        assert deliveries.handing_over(1, 101) == 1
        assert [deliveries.again(1), deliveries.again(1)] == [2, 3]
        assert deliveries.failures(1) == 2
        deliveries.excuse(1)
        assert deliveries.failures(1) == 1
    with opened() as second:
        second.resume(0, 1)
        assert (second.handing_over(1, 101), second.failures(1)) == (4, 2)


def test_the_gateway_finds_the_reason_of_what_was_given_up() -> None:
    with opened() as reader, opened() as gateway:
        reader.resume(0, 0)
        assert gateway.reason_of(1) is None
        reader.handing_over(1, 101)
        reader.bury(1, "poison")
        reader.bury(2, "ä" * 100)  # it comes for one that was given up, and is never handed over
        assert (gateway.reason_of(1), gateway.reason_of(2)) == ("poison", "ä" * 80)
        assert gateway.reason_of(3) is gateway.reason_of(0) is gateway.reason_of(2**63) is None
        reader.done_up_to(2)
        for number in range(3, 1 + 2 * WINDOW):
            reader.handing_over(number, number)
            assert gateway.reason_of(1) == "poison"
        for number in range(10, 20):
            reader.bury(number, f"no {number}")
        assert gateway.reason_of(1) is None
        assert gateway.reason_of(19) == "no 19"
        assert "later ones" in str(gateway.reason_of(12))  # as many reasons as a window are kept
    with opened() as second:
        assert [handed.state for handed in second.resume(19, 19)] == [DEAD] * 8
        assert second.reason_of(19) == "no 19"
    with opened("bbbbbbbb") as other:
        other.resume(0, 0)
        assert other.reason_of(19) is None


def test_a_reader_that_is_killed_at_any_store_leaves_it_right(monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException): ...

    class Words:
        """Stores so many words, and then is killed."""

        def __init__(self, words: Any, left: int) -> None:
            self.words, self.left = words, left

        def __getitem__(self, place: Any) -> Any:
            return self.words[place]

        def __setitem__(self, place: Any, value: Any) -> None:
            if self.left == 0:
                raise Killed
            self.left -= 1
            self.words[place] = value

        def __len__(self) -> int:
            return len(self.words)

    def killed_after(stores: int, run: str) -> bool:
        with opened(run) as deliveries:
            real = deliveries._words
            deliveries._words = Words(real, stores)  # type: ignore[assignment]
            try:
                deliveries.resume(0, 1)
                deliveries.handing_over(1, 101, 7)
            except Killed:
                return True
            finally:
                deliveries._words = real
        return False

    for run in ("aaaaaaaa", "bbbbbbbb"):  # a successor, and the next run
        for stores in range(100):
            forget_kept("d")
            with opened() as first:
                first.resume(0, 0)
                first.handing_over(1, 101, 7)
            was_killed = killed_after(stores, run)
            with opened(run) as last:
                last.resume(0, 1)
                attempts = last.handing_over(1, 101, 7)
            # One that is killed right before it hands over has counted that already.
            assert 2 <= attempts <= 3 if was_killed else attempts == 3
            if not was_killed:
                break
        else:
            raise AssertionError("it never ended")


def test_it_is_kept_only_where_the_next_run_wants_it() -> None:
    with opened() as deliveries:
        deliveries.resume(0, 0)
        deliveries.handing_over(1, 101, 1)
        prune_kept("d", lambda fd: False)
        assert kept() == [FILE], "it is in use"
    prune_kept("d", is_needed)
    assert kept() == [FILE]
    with opened() as deliveries:
        deliveries.resume(1, 1)
    prune_kept("d", is_needed)
    assert kept() == []


def test_one_that_was_removed_meanwhile_is_not_taken() -> None:
    with opened() as reader:
        reader.resume(0, 0)
    forget_kept("d")
    with opened() as reader, opened() as gateway:
        reader.resume(0, 0)
        reader.bury(1, "poison")
        assert gateway.reason_of(1) == "poison"


def test_a_broken_peer_may_have_written_anything() -> None:
    size = deliveries_size(WINDOW)
    for seed in range(200):
        noise = random.Random(seed)
        content = bytearray(noise.randbytes(size))
        if seed % 2:  # all but what says whose it is
            content[:8] = b"DELIVTK1"
            content[40:48] = WINDOW.to_bytes(8, "little")
        if seed % 4 == 1:
            content[8:16] = b"aaaaaaaa"
        fd = open_kept("d", FILE, size)
        os.pwrite(fd, content, 0)
        is_needed(fd)
        os.close(fd)
        with opened() as deliveries:
            for number in (0, 1, 2**63, noise.getrandbits(64)):
                reason = deliveries.reason_of(number)
                assert reason is None or isinstance(reason, str)
            for handed in deliveries.resume(3, 10):
                assert 0 < handed.number <= 10
                assert handed.state in (IN_HAND, DONE, DEAD)
            assert deliveries.handing_over(11, 101, 5) == 1
            deliveries.bury(11, "why")
            assert deliveries.reason_of(11) == "why"


@pytest.mark.parametrize("size", [0, 7, 64, 100])
def test_a_file_of_another_size_is_not_needed(size: int) -> None:
    fd = open_kept("d", FILE, 1)
    os.ftruncate(fd, size)
    assert not is_needed(fd)
    os.close(fd)
    with opened() as deliveries:
        deliveries.resume(0, 0)
        assert deliveries.handing_over(1, 101) == 1


def test_a_link_in_its_place_is_not_followed(shm: Path) -> None:
    outside = shm / "outside"
    outside.touch()
    os.close(open_kept("d", "x", 1))
    (folder.user_folder() / "d~kept" / FILE).symlink_to(outside)
    with pytest.raises(Exception, match="cannot"), opened():
        pass
    assert outside.stat().st_size == 0
