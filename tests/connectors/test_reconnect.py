"""When a connection is tried again: the decision alone, with exact values."""

from __future__ import annotations

import pytest

from taktora_trio import Backoff
from taktora_trio.connectors.connection import ConnectFailed, ConnectionLost, ConnectRefused
from taktora_trio.connectors.reconnect import History, Retry, after

BACKOFF = Backoff(initial=1, maximum=100, factor=2, jitter=0.5)
LOST = ConnectionLost("reset")


def middle() -> float:
    return 0.5


def decide(history: History, failure: Exception, uptime: float | None = None) -> tuple[History, Retry]:
    return after(history, failure, uptime, BACKOFF, random=middle)


@pytest.mark.parametrize(
    ("failure", "uptime", "history", "expected", "delay"),
    [
        (ConnectFailed("x"), None, History(), History(1), 1),
        (ConnectFailed("x"), None, History(3, 2, 2), History(4, 0, 0), 8),
        (ZeroDivisionError(), None, History(99), History(100), 100),
        # Up for less than twice the next delay: it goes on growing; for as long, it starts over.
        (LOST, 0.0, History(), History(1, 0, 1), 1),
        (LOST, 15.9, History(3, 0, 1), History(4, 0, 2), 8),
        (LOST, 16.0, History(3, 0, 1), History(1, 0, 1), 1),
        (LOST, 199.0, History(20), History(21, 0, 1), 100),
        (LOST, 200.0, History(20), History(1, 0, 1), 1),
        (LOST, None, History(3), History(4), 8),  # before it was subscribed
        # Refused until something is changed: long delays, and never sooner than the others.
        (ConnectRefused("x"), None, History(), History(1, 1), 30),
        (ConnectRefused("x"), None, History(1, 1), History(2, 2), 60),
        (ConnectRefused("x"), None, History(4, 4), History(5, 5), 300),
        (ConnectRefused("x"), None, History(6, 0), History(7, 1), 64),
        (ConnectFailed("x"), None, History(5, 5), History(6, 0), 32),
        # It is there and does not answer in time: up to four times as long, and no longer once it does something else.
        (ConnectFailed("x", overdue=True), None, History(), History(1, overdue=1), 1),
        (ConnectFailed("x", overdue=True), None, History(8, overdue=3), History(9, overdue=4), 256),
        (ConnectFailed("x", overdue=True), None, History(99), History(100, overdue=1), 400),
        (ConnectFailed("x"), None, History(99, overdue=99), History(100), 100),
        (ConnectionLost("x", silent=True), None, History(99), History(100, overdue=1), 400),
        (ConnectionLost("x", silent=True), 5.0, History(99), History(100, losses=1), 100),
    ],
)
def test_what_comes_next(
    failure: Exception, uptime: float | None, history: History, expected: History, delay: float
) -> None:
    now, retry = decide(history, failure, uptime)
    assert (now, retry.delay) == (expected, delay)
    assert retry.refused == isinstance(failure, ConnectRefused)


@pytest.mark.parametrize(("random", "first", "refused"), [(0.0, 0.5, 24.0), (1.0, 1.5, 36.0)])
def test_delays_are_spread(random: float, first: float, refused: float) -> None:
    assert after(History(), LOST, 0, BACKOFF, random=lambda: random)[1].delay == first
    assert after(History(), ConnectRefused("x"), None, BACKOFF, random=lambda: random)[1].delay == pytest.approx(
        refused
    )


def test_a_series_of_losses_is_broken_by_a_connection_that_stayed_up_or_never_came_up() -> None:
    history = History()
    for uptime in (0, 0, 100):
        history, _ = decide(history, LOST, uptime)
    assert history.losses == 1
    assert decide(history, ConnectFailed("x"))[0].losses == 0


def test_a_protocol_may_name_a_cause() -> None:
    asked: list[tuple[Exception, int]] = []

    def hint(failure: Exception, losses: int) -> str:
        asked.append((failure, losses))
        return "another client"

    _, retry = after(History(losses=2), LOST, 0, BACKOFF, hint)
    assert retry.reason == "reset: another client"
    assert asked == [(LOST, 3)]
