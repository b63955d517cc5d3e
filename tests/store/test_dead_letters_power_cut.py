"""The dead letters on a file system whose power is cut: a letter that was put is there afterwards."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from taktora_trio import StoreError
from taktora_trio.connectors.dead_letters.file import DeadLetterFile
from taktora_trio.connectors.dead_letters.letter import DEAD_LETTERS, DeadLetter
from tests.store.forgetting import Tree
from tests.store.fuse import CANT, mounted

pytestmark = pytest.mark.skipif(bool(CANT), reason=CANT or "it can be had")


def letter(payload: bytes) -> DeadLetter:
    return DeadLetter(connector="line", channel="in", topic="t", payload=payload, reason="it kills", deliveries=5)


@pytest.mark.parametrize("seed", range(3))
def test_what_was_put_is_there_after_power_cuts(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    tree = Tree()
    with mounted(tree, tmp_path):
        file = DeadLetterFile(tmp_path / "a" / "b" / DEAD_LETTERS)
        put: set[bytes] = set()
        for number in range(25):
            if chance.random() < 0.5:
                tree.cut_at = tree.operations + chance.randint(1, 60)
            payload = b"%d " % number + bytes(chance.choice((0, 100, 5000)))
            try:
                _, aside = file.put([letter(payload)], max_messages=1000, max_bytes=2**20)
            except StoreError:
                pass
            else:
                assert aside is None, "a power cut is no damage"
                put.add(payload)
            if tree.is_cut:
                tree.cut(chance)
                there = {whole.payload for one, _ in file.all() if (whole := file.get(one.number)) is not None}
                assert put <= there
        tree.cut_at = None
        assert len(put) > 8
