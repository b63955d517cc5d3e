"""Pairs that outlive a gateway: whatever is written, and wherever it is killed, the next one finds what was set."""

from __future__ import annotations

import mmap
import random

from hypothesis import given
from hypothesis import strategies as st

from taktora_trio.connectors.zenoh.lasting.kept_pairs import KeptPairs, memory_for

KEYS = st.sampled_from(["", "a", "b/c", "ü"])


def pairs_of(kept: KeptPairs) -> dict[str, bytes | None]:
    return {key: kept.get(key) for key in kept}


@given(st.lists(st.tuples(KEYS, st.none() | st.binary(max_size=60)), max_size=40))
def test_the_next_one_goes_on_with_what_was_set(changes: list[tuple[str, bytes | None]]) -> None:
    memory = memoryview(bytearray(memory_for(600)))
    kept, expected = KeptPairs(memory), dict[str, bytes | None]()
    for key, value in changes:
        if value is None:
            kept.discard(key)
            expected.pop(key, None)
        else:
            kept.set(key, value)
            expected[key] = value
        assert pairs_of(kept) == expected
        assert pairs_of(KeptPairs(memory)) == expected


@given(st.binary(max_size=400), st.integers(0, 2**32))
def test_memory_that_anybody_has_written_is_no_error(content: bytes, seed: int) -> None:
    memory = memoryview(bytearray(memory_for(300)))
    KeptPairs(memory).set("a", b"1")
    at = random.Random(seed).randrange(len(memory))
    memory[at : at + len(content)] = content[: len(memory) - at]
    kept = KeptPairs(memory)
    kept.set("b", b"2")
    assert kept.get("b") == b"2"


def test_a_value_that_is_half_written_is_the_one_before() -> None:
    content = bytearray(memory_for(300))
    kept = KeptPairs(memoryview(content))
    kept.set("a", b"the first")
    before = bytes(content)
    kept.set("a", b"the second")
    changed = [at for at in range(len(content)) if content[at] != before[at]]
    for written in range(len(changed)):  # in any order: the last bytes first
        torn = bytearray(before)
        for at in changed[len(changed) - written :]:
            torn[at] = content[at]
        assert KeptPairs(memoryview(torn)).get("a") == b"the first"


def test_the_oldest_are_forgotten_where_there_is_no_room() -> None:
    memory = memoryview(bytearray(memory_for(1000)))
    kept = KeptPairs(memory)
    for number in range(100):
        kept.set(f"key {number}", bytes(50))
    assert 5 < len(kept) < 30
    assert kept.forgotten == 100 - len(kept)
    assert list(kept) == [f"key {number}" for number in range(100 - len(kept), 100)]
    assert list(KeptPairs(memory)) == list(kept)


def test_as_much_as_was_asked_for_fits_whatever_is_changed() -> None:
    kept = KeptPairs(memoryview(bytearray(memory_for(10 * 80))))
    for turn in range(50):
        for number in range(10):
            kept.set(str(number), bytes([turn]) * 60)
    assert len(kept) == 10
    assert not kept.forgotten


def test_a_value_that_is_larger_than_all_is_not_kept() -> None:
    kept = KeptPairs(memoryview(bytearray(memory_for(200))))
    kept.set("a", bytes(1000))
    assert len(kept) == 0
    assert kept.forgotten == 1
    kept.set("a", b"small")
    assert kept.get("a") == b"small"


def test_its_memory_can_be_given_back() -> None:
    mapped = mmap.mmap(-1, memory_for(1000))
    view = memoryview(mapped)
    kept = KeptPairs(view)
    kept.set("a", b"1")
    view.release()
    mapped.close()
    assert kept.get("a") == b"1"
