"""An app that sends in a trace, and one that works on what comes. Each process writes its spans to its own file."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from taktora_trio import (
    ConnectorHost,
    Deployment,
    Inbound,
    MqttConnector,
    MqttOptions,
    MqttRouting,
    Outbound,
    Received,
)
from taktora_trio.executor import Context, Executor, every, on_message
from taktora_trio.executor.observers.opentelemetry import SpanObserver

FOLDER = Path(os.environ["TRACE_FOLDER"])


class InAFile(InMemorySpanExporter):
    """Has them in memory, and shows them to the test."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        with (FOLDER / f"{os.getpid()}.spans").open("a") as file:
            for span in spans:
                file.write(json.dumps(json.loads(span.to_json())) + "\n")
        return super().export(spans)


provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(InAFile()))
trace.set_tracer_provider(provider)
tracer = trace.get_tracer("test")

READINGS = Outbound("readings", float, MqttRouting("trace/readings", qos=1))
FOLLOWED = Inbound("followed", float, MqttRouting("trace/readings", qos=1))


async def send(host: ConnectorHost) -> None:
    executor = Executor(observers=[SpanObserver()])
    async with host.open_writer(READINGS) as readings:

        @executor.item(every(0.05))
        async def measure(ctx: Context) -> None:
            with tracer.start_as_current_span("calibrate"):
                await readings.send(0.5)

        await executor.run()


async def follow(host: ConnectorHost) -> None:
    executor = Executor(observers=[SpanObserver()])
    async with host.open_reader(FOLLOWED) as readings:

        @executor.item(on_message(readings))
        async def work(ctx: Context[Received[float]]) -> None:
            with tracer.start_as_current_span("store"):
                print("worked", flush=True)  # noqa: T201 - the test waits for it

        await executor.run()


OPTIONS = MqttOptions(protocol="5")
sender = Deployment("sender", send, [MqttConnector([READINGS], options=OPTIONS, tracing=True)])
follower = Deployment("follower", follow, [MqttConnector([FOLLOWED], options=OPTIONS, tracing=True)])
old = Deployment("old", send, [MqttConnector([READINGS], tracing=True)])
