"""What may change in a message type: as the codecs have it, and as `asyncapi --against` says it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taktora_trio import (
    CodecError,
    Inbound,
    JsonCodec,
    MqttConnector,
    MqttRouting,
    MsgpackCodec,
    Outbound,
    PayloadCodec,
)
from taktora_trio.declare.changes import changes
from tests.declare.evolutions import EVOLUTIONS, Evolution, Plain
from tests.declare.rig import document_of

CODECS: list[PayloadCodec] = [JsonCodec(), MsgpackCodec()]
both = pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
each = pytest.mark.parametrize("name", EVOLUTIONS)


def is_read(codec: PayloadCodec, written: list[Any], writer: Any, reader: Any) -> bool:
    """Return whether each of these messages of one type can be read as another type."""
    encode, decode = codec.encoder(writer), codec.decoder(reader)
    payloads = [encode(message) for message in written]
    try:
        for payload in payloads:
            decode(payload)
    except CodecError:
        return False
    return True


def breaks(old: Any, new: Any, codec: PayloadCodec) -> tuple[bool, bool]:
    """Return what the documents say: whether those break to whom it is sent, and those by whom it is sent."""
    found = []
    for declare in (Outbound, Inbound):
        before, after = (
            document_of(MqttConnector([declare("a", kind, MqttRouting("a"))], codec=codec)) for kind in (old, new)
        )
        found.append(any(change.breaks for change in changes(before, after)))
    return found[0], found[1]


@both
@each
def test_what_the_codecs_do(name: str, codec: PayloadCodec) -> None:
    """An old consumer reads the new messages, or does not; the new app reads the old ones, or does not."""
    it = EVOLUTIONS[name]
    assert is_read(codec, it.olds, it.old, it.old)
    assert is_read(codec, it.news, it.new, it.new)
    assert is_read(codec, it.news, it.new, it.old) is not it.sent
    assert is_read(codec, it.olds, it.old, it.new) is not it.received


@both
@each
def test_what_the_documents_say(name: str, codec: PayloadCodec) -> None:
    it = EVOLUTIONS[name]
    assert breaks(it.old, it.new, codec) == (it.sent or it.strict, it.received)
    assert breaks(it.old, it.old, codec) == breaks(it.new, it.new, codec) == (False, False)


@both
def test_the_template_of_a_topic_fills_in_a_field_that_old_messages_lack(codec: PayloadCodec) -> None:
    @attrs.frozen
    class WithUnit:
        name: str
        count: int
        unit: str

    old, new = (
        document_of(MqttConnector([Inbound("a", kind, MqttRouting("a/{name}"))], codec=codec))
        for kind in (Plain, WithUnit)
    )
    assert [str(change) for change in changes(old, new)] == ["breaking: mqtt.a: field unit is new, and required"]
    read = codec.filling_decoder(Plain)
    assert read(codec.encoder(dict)({"count": 3}), {"name": "east"}) == Plain("east", 3)


# Any two types, of which the documents say that nothing breaks: then each message is read.

FIELDS: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (int, st.integers(-5, 5)),
    (float, st.floats(-5, 5)),
    (str, st.sampled_from("ab")),
    (bool, st.booleans()),
    (int | None, st.none() | st.integers(-5, 5)),
    (list[int], st.lists(st.integers(-5, 5), max_size=2)),
    (tuple[int, str], st.tuples(st.integers(-5, 5), st.sampled_from("ab"))),
    (dict[str, float], st.dictionaries(st.sampled_from("ab"), st.floats(-5, 5), max_size=2)),
    (EVOLUTIONS["an enum with one value more"].old, st.sampled_from([*EVOLUTIONS["an enum with one value more"].old])),
    (EVOLUTIONS["an enum with one value more"].new, st.sampled_from([*EVOLUTIONS["an enum with one value more"].new])),
    (Plain, st.builds(Plain, st.sampled_from("ab"), st.integers(-5, 5))),
]
NOTHING = object()


def _always(value: Any) -> Callable[[], Any]:
    return lambda: value


@st.composite
def a_type(draw: st.DrawFn) -> tuple[Any, st.SearchStrategy[Any]]:
    """A struct of up to three fields, some with a default, and its messages."""
    fields: list[Any] = []
    values = {}
    for name in draw(st.lists(st.sampled_from("pqr"), unique=True)):
        kind, values[name] = draw(st.sampled_from(FIELDS))
        default = draw(st.just(NOTHING) | values[name])
        fields.append(
            (name, kind) if default is NOTHING else (name, kind, msgspec.field(default_factory=_always(default)))
        )
    struct = msgspec.defstruct(
        "Struct",
        fields,
        kw_only=True,
        forbid_unknown_fields=draw(st.booleans()),
        omit_defaults=draw(st.booleans()),
    )
    return struct, st.builds(struct, **values)


@settings(max_examples=60)
@given(st.data(), a_type(), a_type(), st.sampled_from(CODECS))
def test_what_is_said_to_break_nobody_breaks_nobody(
    data: st.DataObject, old: tuple[Any, Any], new: tuple[Any, Any], codec: PayloadCodec
) -> None:
    sent, received = breaks(old[0], new[0], codec)
    if not received:
        assert is_read(codec, [data.draw(old[1])], old[0], new[0])
    if not sent:
        assert is_read(codec, [data.draw(new[1])], new[0], old[0])


def test_the_table_has_both_answers() -> None:
    answers = {(it.sent, it.received) for it in EVOLUTIONS.values()}
    assert answers == {(False, False), (True, False), (False, True), (True, True)}
    assert all(isinstance(it, Evolution) for it in EVOLUTIONS.values())
