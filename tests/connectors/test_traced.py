"""TracedSource: a message of a trace is published in a span of its own, and carries that one on."""

from __future__ import annotations

import pytest
import trio
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from taktora_trio import Header, Metadata
from taktora_trio.channels import Envelope
from taktora_trio.connectors import source as sources
from taktora_trio.connectors.traced import TracedSource
from tests.connectors.rig import Source

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = ("traceparent", f"00-{TRACE}-{SPAN}-01")
STATE = ("tracestate", "rojo=00f067aa0ba902b7")


def message(number: int, *pairs: tuple[str, str], topic: str = "") -> Envelope:
    return Envelope(b"payload", Header(number, 0), topic, Metadata("text/plain", user_properties=pairs))


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    return exporter


def ended(exporter: InMemorySpanExporter) -> list[ReadableSpan]:
    return list(exporter.get_finished_spans())


def test_it_goes_on_as_a_message_that_was_sent_in_the_span(exporter: InMemorySpanExporter) -> None:
    below = Source(message(1, ("a", "b"), PARENT, STATE, topic="t/1"), message(2, PARENT))
    traced: sources.Source = TracedSource(below, "readings", "t/all")
    first, second = traced.receive_nowait(), traced.receive_nowait()
    assert ended(exporter) == []
    traced.acknowledge(second.header)
    one, two = ended(exporter)
    for span, envelope in ((one, first), (two, second)):
        assert span.name == "publish readings"
        assert span.parent is not None
        assert f"{span.parent.trace_id:032x}-{span.parent.span_id:016x}" == f"{TRACE}-{SPAN}"
        assert envelope.metadata is not None
        assert dict(envelope.metadata.user_properties)["traceparent"].split("-")[1:3] == [
            TRACE,
            f"{span.context.span_id:016x}",
        ]
    assert first.metadata is not None
    assert [name for name, _ in first.metadata.user_properties] == ["a", "traceparent", "tracestate"]
    assert first.metadata.user_properties[2] == STATE
    assert first.metadata.content_type == "text/plain"
    assert (one.attributes or {})["messaging.destination.name"] == "t/1"
    assert (two.attributes or {})["messaging.destination.name"] == "t/all"
    assert below.acknowledged == [2]


def test_a_message_of_no_trace_is_left_as_it_is(exporter: InMemorySpanExporter) -> None:
    envelopes = [message(1), message(2, ("traceparent", "garbage")), Envelope(b"", Header(3, 0), "")]
    traced = TracedSource(Source(*envelopes), "readings", "t")
    assert [traced.receive_nowait() for _ in envelopes] == envelopes
    with pytest.raises(trio.WouldBlock):
        traced.receive_nowait()
    traced.acknowledge(Header(3, 0))
    assert ended(exporter) == []


def test_a_span_ends_with_its_message_and_says_how_that_went(exporter: InMemorySpanExporter) -> None:
    below = Source(*(message(number, PARENT) for number in range(1, 6)))
    traced = TracedSource(below, "readings", "t")
    for _ in range(5):
        traced.receive_nowait()
    traced.settled(3, "")
    traced.settled(2, "quota exceeded")
    traced.acknowledge(Header(3, 0))
    spans = ended(exporter)
    assert [(span.attributes or {})["taktora.number"] for span in spans] == [3, 2, 1]
    assert [span.status.description for span in spans] == [None, "quota exceeded", None]
    assert below.settled_alone == [(3, ""), (2, "quota exceeded")]
    traced.acknowledge(Header(5, 0))
    assert len(ended(exporter)) == 5


def test_without_a_tracer_the_trace_of_the_app_goes_on_as_it_is() -> None:
    traced = TracedSource(Source(message(1, PARENT, STATE)), "readings", "t")
    metadata = traced.receive_nowait().metadata
    assert metadata is not None
    assert metadata.user_properties == (PARENT, STATE)


def test_all_else_is_the_source_s(exporter: InMemorySpanExporter) -> None:
    below = Source(message(1, PARENT))
    below.stored, below.begun_before = 4, 5
    traced = TracedSource(below, "readings", "t")
    assert (traced.announces, traced.stored, traced.begun_before) == (True, 4, 5)
    assert (traced.is_behind, traced.unacknowledged, traced.has_writer) == (True, 1, True)
    traced.attach()
    traced.begin(Header(1, 0), lambda: None)
    assert (below.attached, below.begun) == (1, [1])
