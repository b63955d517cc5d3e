"""What lies in shared memory has a number: who changes its form has to give it another one (`spec.FORMAT`)."""

from __future__ import annotations

import ctypes
import hashlib

from taktora_trio import Inbound, Metadata, MqttConnector, MqttOptions, MqttRouting, Outbound
from taktora_trio.connectors.plan import trunk_spec
from taktora_trio.transport import cursor, envelope, ring
from taktora_trio.transport.services import Report
from taktora_trio.transport.spec import FORMAT

CONNECTOR = MqttConnector(
    [
        Outbound("a", int, MqttRouting("a", qos=1), max_payload=1000, window=7),
        Inbound("b", bytes, MqttRouting("b/+", qos=2), max_metadata=64),
    ],
    options=MqttOptions(protocol="5"),
)
METADATA = Metadata(content_type="x", user_properties=(("k", "v"),))
DIGESTS = {1: "73ed9651b8d497d6"}
"""Of each form that there was, by its number."""


def present_form() -> str:
    spec = trunk_spec(CONNECTOR)
    [begins_with, text, *_] = cursor._beginning(spec)
    parts = [
        (envelope.HEADER.format, envelope._NUMBERS.format, envelope._FLAGS, envelope.pack_metadata(METADATA)),
        [(direction, spec.rings_bytes(direction), dict(spec.rings(direction))) for direction in ("out", "in")],
        (ring._GENERATION, ring._LAYOUT, cursor.cursors_size(spec), dict(cursor.cursors_at(spec))),
        (cursor.SENT, cursor.DONE, cursor.READER, cursor.BEGUN, cursor.ACKNOWLEDGED, cursor.LEFT, cursor.WANTED),
        (cursor.EPOCH, cursor.GENERATION, cursor._ATTACHED, cursor._TAKEN, begins_with, text),
        (Report.type_name(), ctypes.sizeof(Report), Report.length.offset, Report.content.offset),
    ]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def test_each_form_has_a_number_of_its_own() -> None:
    assert DIGESTS[FORMAT] == present_form(), "another form: give `spec.FORMAT` its next number"
    assert len(set(DIGESTS.values())) == len(DIGESTS)
    assert ring.LAYOUT == FORMAT
    assert cursor.MAGIC.to_bytes(8, "little") == b"CURSORS%d" % FORMAT
