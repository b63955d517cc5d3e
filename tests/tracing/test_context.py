"""The context of the span that a message was sent in."""

from __future__ import annotations

import subprocess
import sys

import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider

from taktora_trio import Header, Metadata, Received, trace_context
from taktora_trio.tracing.context import context_of, trace_in

PARENT = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
STATE = ("tracestate", "rojo=00f067aa0ba902b7")


def received(*pairs: tuple[str, str]) -> Received[int]:
    return Received(1, Header(1, 0), "t", Metadata(user_properties=pairs))


def test_the_span_of_a_message_continues_its_trace() -> None:
    tracer = TracerProvider().get_tracer("test")
    with tracer.start_as_current_span("work", trace_context(received(PARENT, STATE))) as span:
        context = span.get_span_context()
        assert f"{context.trace_id:032x}" == PARENT[1].split("-")[1]
        named, state = trace_in()
        assert named[1].split("-")[1:3] == [f"{context.trace_id:032x}", f"{context.span_id:016x}"]
        assert state == STATE


@pytest.mark.parametrize(
    "message",
    [None, Metadata(), received(), received(("traceparent", "garbage")), received(("traceparent", "00-" * 9))],
)
def test_without_a_valid_trace_a_span_begins_its_own(message: Received[int] | Metadata | None) -> None:
    tracer = TracerProvider().get_tracer("test")
    with tracer.start_as_current_span("the app"):
        span = tracer.start_span("work", trace_context(message))
    assert isinstance(span, trace.Span)
    assert getattr(span, "parent", None) is None
    assert context_of(Metadata(user_properties=(("traceparent", "garbage"),))) is None


def test_there_is_no_trace_outside_a_span() -> None:
    assert trace_in(Context()) == ()


def test_whoever_does_not_trace_has_not_imported_the_library() -> None:
    code = (
        "import sys\n"
        "from taktora_trio import MqttConnector, MqttOptions, MqttRouting, Outbound\n"
        "from taktora_trio.host import writer, reader\n"
        "from taktora_trio.connectors import gateway, bridge\n"
        "MqttConnector([Outbound('c', str, MqttRouting('t'))], options=MqttOptions(protocol='5'))\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert not [name for name in done.stdout.split() if name.startswith("opentelemetry")]


def test_without_the_library_every_public_name_can_be_had() -> None:
    """`from taktora_trio import *` in an installation without extras; who calls it is told what is missing."""
    code = (
        "import sys\n"
        "sys.modules['opentelemetry'] = None\n"
        "from taktora_trio import *\n"
        "try:\n"
        "    trace_context(None)\n"
        "except ConfigError as exc:\n"
        "    print(exc)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert done.stderr == ""
    assert done.stdout.startswith("trace_context needs opentelemetry-api: pip install ")
