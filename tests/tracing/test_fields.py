"""The fields of a trace, as they come with a message: from anybody."""

from __future__ import annotations

import importlib.util

import pytest

from taktora_trio import ConfigError, Metadata, MqttConnector, MqttOptions, MqttRouting, Outbound
from taktora_trio.channels import Inbound
from taktora_trio.connectors.plan import channel_spec
from taktora_trio.tracing.fields import FIELDS, TRACE_SPACE, trace_alone, trace_of, with_trace
from taktora_trio.transport.envelope import pack_metadata

PARENT = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
STATE = ("tracestate", "rojo=00f067aa0ba902b7")


def metadata_of(*pairs: tuple[str, str]) -> Metadata:
    return Metadata("text/plain", "answers", 7, pairs)


@pytest.mark.parametrize(
    ("pairs", "trace"),
    [
        ((), ()),
        ((PARENT,), (PARENT,)),
        ((("a", "b"), STATE, PARENT, ("traceparent", "second")), (STATE, PARENT)),
        ((STATE,), ()),
        ((PARENT, ("tracestate", "x" * 513)), (PARENT,)),
        ((("traceparent", "x" * 65),), ()),
        ((("traceparent", "ü"),), ()),
    ],
)
def test_a_trace_is_its_two_fields_where_they_have_a_length_that_fits(
    pairs: tuple[tuple[str, str], ...], trace: tuple[tuple[str, str], ...]
) -> None:
    assert trace_of(metadata_of(*pairs)) == trace
    assert trace_alone(metadata_of(*pairs)) == (Metadata(user_properties=trace) if trace else None)


def test_a_trace_takes_the_place_of_another_and_leaves_the_rest() -> None:
    assert with_trace(metadata_of(STATE, ("a", "b"), PARENT), (PARENT,)) == metadata_of(("a", "b"), PARENT)


def test_the_longest_trace_has_room_beside_the_metadata_of_the_channel() -> None:
    longest = (("traceparent", "x" * 64), ("tracestate", "y" * 512))
    assert {name for name, _ in longest} == FIELDS
    assert len(pack_metadata(Metadata(user_properties=longest))) <= TRACE_SPACE
    others = metadata_of(*((f"name {number}", "value") for number in range(100)))
    assert len(pack_metadata(with_trace(others, longest))) <= len(pack_metadata(others)) + TRACE_SPACE


def connector_of(protocol: str, *, tracing: bool, max_metadata: int = 0) -> MqttConnector:
    channel = Outbound("c", str, MqttRouting("t"), max_metadata=max_metadata)
    return MqttConnector([channel], options=MqttOptions(protocol=protocol), tracing=tracing)  # type: ignore[arg-type]


def test_both_halves_set_room_aside_for_it_where_it_can_be_carried() -> None:
    for connector, space in [
        (connector_of("5", tracing=True, max_metadata=100), 100 + TRACE_SPACE),
        (connector_of("5", tracing=False), 0),
        (connector_of("3.1.1", tracing=True), 0),
    ]:
        spec = channel_spec(connector, connector.channels[0])
        assert spec.metadata_space == space
        assert f"metadata {space} bytes" in spec.description


def test_a_missing_library_is_an_error_where_tracing_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"tracing=True needs .*: pip install 'taktora-trio\[opentelemetry\]'"):
        connector_of("5", tracing=True)
    assert connector_of("5", tracing=False).channels


def test_tracing_is_true_or_false() -> None:
    with pytest.raises(ConfigError, match="tracing"):
        MqttConnector([Inbound("c", str, MqttRouting("t"))], tracing="yes")  # type: ignore[arg-type]
