"""What a reply says about itself; it may come from anybody."""

from __future__ import annotations

import math

import pytest

from taktora_trio import Metadata, MqttRouting
from taktora_trio.channels.signs import (
    FAILURE,
    INTERIM,
    failure,
    interim,
    interim_number,
    reason_of_failure,
    seconds_left,
)


def said(*properties: tuple[str, str]) -> Metadata:
    return Metadata(user_properties=properties)


def test_their_names_are_those_of_the_docs_for_others_rely_on_them() -> None:
    assert (FAILURE, INTERIM) == ("taktora-failure", "taktora-interim")


def test_a_final_reply_says_nothing() -> None:
    for metadata in (None, Metadata(), said(("other", "1"))):
        assert (interim_number(metadata), reason_of_failure(metadata)) == (0, None)


def test_what_was_said_is_understood() -> None:
    assert interim_number(Metadata(user_properties=interim(7))) == 7
    assert reason_of_failure(Metadata(user_properties=failure("no such unit", 1024))) == "no such unit"


@pytest.mark.parametrize("text", ["", "-1", "1.5", "x", "٣", "9" * 5000])
def test_what_is_no_number_is_no_interim_reply(text: str) -> None:
    assert interim_number(said((INTERIM, text))) == 0


def test_a_reason_is_one_line_that_fits_and_that_can_be_sent() -> None:
    [(_, reason)] = failure("a\nb\0\x1b[31m\ufffe" + "ü" * 10_000, 256)
    assert len(reason.encode()) <= 128
    assert reason.startswith("a\\nb\\x00\\x1b[31m\\ufffeü")
    MqttRouting("a").check_metadata(said((FAILURE, reason)))
    forged = reason_of_failure(said((FAILURE, "forged\nlog line" * 10_000)))
    assert forged is not None
    assert forged.startswith("forged\\nlog lineforged")
    assert forged.isprintable()
    assert len(forged) < 1000


def test_what_is_left_of_a_message() -> None:
    assert seconds_left(0, None, 5) is None
    assert seconds_left(0, Metadata(), 5) is None
    second = 10**9
    assert seconds_left(7 * second, Metadata(message_expiry=5), 9 * second) == 3
    assert seconds_left(7 * second, Metadata(message_expiry=0), 7 * second) == 0
    assert seconds_left(9 * second, Metadata(message_expiry=5), 7 * second) == 5, "never more than it had"
    assert seconds_left(0, Metadata(message_expiry=2**32 - 1), 0) != math.inf
