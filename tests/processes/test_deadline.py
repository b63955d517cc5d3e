"""The decision when a process has been silent for too long, row by row."""

from __future__ import annotations

import math

import attrs
import pytest

from taktora_trio import RestartPolicy
from taktora_trio.processes.parent.deadline import Deadline
from taktora_trio.processes.parent.notify_socket import Notification

READY, ALIVE, STOPPING = Notification({"READY": "1"}), Notification({"WATCHDOG": "1"}), Notification({"STOPPING": "1"})
EXTEND = Notification({"EXTEND_TIMEOUT_USEC": "30000000"})
STATUS = Notification({"STATUS": "busy"})
POLICY = RestartPolicy(start_timeout=20, watchdog=10, stop_grace=2)


@pytest.mark.parametrize(
    ("heard", "left", "missed"),
    [
        ([], 20, "not ready within 20 s"),
        ([STATUS, ALIVE], 20, "not ready within 20 s"),
        ([EXTEND], 30, "not ready within 30 s"),
        ([EXTEND, EXTEND], 30, "not ready within 30 s"),
        ([READY], 10, "no sign of life for 7.0 s"),
        ([EXTEND, READY, STATUS, EXTEND, READY], 10, "no sign of life for 7.0 s"),
        ([READY, ALIVE], 10, "no sign of life for 7.0 s"),
        ([STOPPING], 4, "no end within 4 s after it said that it stops"),
        ([READY, STOPPING, ALIVE, READY, STOPPING], 4, "no end within 4 s after it said that it stops"),
    ],
)
def test_what_is_left(heard: list[Notification], left: float, missed: str) -> None:
    deadline = Deadline(POLICY)
    for news in heard:
        deadline.hear(news, waited=1)
    assert deadline.left == left
    assert deadline.missed(silent=7.0) == missed
    assert deadline.was_ready == (READY in heard)


def test_an_extension_never_brings_the_deadline_nearer() -> None:
    deadline = Deadline(attrs.evolve(POLICY, start_timeout=60))
    assert deadline.hear(EXTEND, waited=5)
    assert deadline.left == 55


def test_an_end_has_a_second_at_least() -> None:
    deadline = Deadline(attrs.evolve(POLICY, stop_grace=0))
    assert deadline.hear(STOPPING, waited=0)
    assert deadline.left == 1


def test_without_a_watchdog_one_that_was_ready_has_all_the_time_there_is() -> None:
    deadline = Deadline(attrs.evolve(POLICY, watchdog=None))
    assert deadline.hear(READY, waited=0)
    assert deadline.hear(ALIVE, waited=0)
    assert not deadline.hear(STOPPING, waited=0)
    assert deadline.left == math.inf
