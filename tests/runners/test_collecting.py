"""What a command's process collects of garbage: counted by Python itself."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

PROGRAM = """
import atexit, gc
from taktora_trio.runners.this_process.collecting import collect_less

class Cycle:
    def __init__(self):
        self.itself = self

    def __del__(self):
        print("freed")

def collections(event, info):
    full.extend([event] * (event == "start" and info["generation"] == 2))

young, middle, _ = gc.get_threshold()
{first}
full = []
gc.callbacks.append(collections)
kept = [[] for _ in range(30 * young * middle)]  # as a start with thousands of channels makes them, and they stay
print(len(full))
gc.callbacks.clear()
Cycle()
"""


BY_ITSELF = pytest.mark.skipif(gc.get_threshold()[2] == 0, reason="from 3.14 on Python looks at a part at a time")


@pytest.mark.parametrize("first", [pytest.param("", marks=BY_ITSELF), "collect_less()"])
def test_what_stays_is_not_looked_at_again_and_again(first: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(first=first)], capture_output=True, text=True, timeout=30, check=True
    )
    count, *freed = done.stdout.split()
    if first:
        assert (int(count), freed) == (0, []), "all objects were looked at, in the start or at the end"
    else:
        assert int(count) > 1, "Python has become better by itself"
        assert freed == ["freed"]
