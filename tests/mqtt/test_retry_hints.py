"""What MQTT adds to when a connection is tried again: hints at a client id, and which refusals last."""

from __future__ import annotations

import pytest

from taktora_trio import Backoff
from taktora_trio.connectors.mqtt.client import hint_of_client_id
from taktora_trio.connectors.mqtt.sessions.session import ConnectFailed, SessionLost
from taktora_trio.connectors.mqtt.wire.reasons import PERMANENT
from taktora_trio.connectors.reconnect import History, after

BACKOFF = Backoff(initial=1, maximum=100, factor=2, jitter=0.5)
LOST = SessionLost("reset")


@pytest.mark.parametrize(
    ("failure", "losses", "reason"),
    [
        (SessionLost("ended", 0x8E), 0, "ended: another client uses the client id 'me'"),
        (LOST, 1, "reset"),
        (
            LOST,
            2,
            "reset: soon after it began, 3 times in a row; does another client use the client id 'me', or does the"
            " broker not take what is published?",
        ),
        (SessionLost("ended", 0x97), 5, "ended"),
        (SessionLost("silent", silent=True), 5, "silent"),
        (ConnectFailed("no route"), 5, "no route"),
        (ZeroDivisionError(), 5, "ZeroDivisionError"),
    ],
)
def test_a_client_id_that_is_taken_over_is_named_and_else_guessed(failure: Exception, losses: int, reason: str) -> None:
    def hint(failure: Exception, losses: int) -> str:
        return hint_of_client_id(failure, losses, "me")

    assert after(History(losses, 0, losses), failure, 0, BACKOFF, hint)[1].reason == reason


@pytest.mark.parametrize("code", [0x80, 0x83, 0x88, 0x89, 0x8A, 0x97, 0x9C, 0x9D, 0x9F])
def test_what_passes_is_not_permanent(code: int) -> None:
    assert code not in PERMANENT


@pytest.mark.parametrize("code", [0x84, 0x85, 0x86, 0x87, 0x8C, 0x90, 0x95, 0x99, 0x9A, 0x9B])
def test_what_is_for_somebody_to_change_is(code: int) -> None:
    assert code in PERMANENT
