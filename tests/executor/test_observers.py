"""Observers: the contract, and the ready ones with the real libraries."""

from __future__ import annotations

import importlib
import logging
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import prometheus_client
import pytest
import structlog
import trio
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from trio.testing import MockClock

from taktora_trio import ConfigError, Header, Metadata, Received
from taktora_trio.executor import Context, Cycle, Executor, Observer, Tick, every, on_message
from taktora_trio.executor.observers.opentelemetry import SpanObserver
from taktora_trio.executor.observers.prometheus import PrometheusObserver
from taktora_trio.executor.observers.structlog import StructlogObserver
from taktora_trio.executor.wake import Wake


async def run_the_plant(*observers: Observer) -> Executor:
    """Five cycles: one overruns, and misses the slot behind it, one tells something and then fails."""
    executor = Executor(observers=observers)

    @executor.item(every(1), budget=0.5, on_failure="skip")
    async def control(ctx: Context) -> None:
        assert isinstance(ctx.wake, Tick)
        if ctx.wake.slot == 1:
            await trio.sleep(1.25)
        if ctx.wake.slot == 4:
            ctx.observe("valve", opened=0.5, by=OSError)
            raise OSError("valve")
        if ctx.wake.slot == 5:
            ctx.stop()

    await executor.run()
    return executor


class All(Observer):
    def __init__(self) -> None:
        self.record: list[tuple[Any, ...]] = []

    def started(self, item: str) -> None:
        self.record.append(("started", item))

    def stopped(self, item: str) -> None:
        self.record.append(("stopped", item))

    def crashed(self, item: str, error: Exception, then: str) -> None:
        self.record.append(("crashed", item, str(error), then))

    def cycle(self, item: str, cycle: Cycle) -> None:
        assert isinstance(cycle.wake, Tick)
        self.record.append(("cycle", item, cycle.started, cycle.duration, cycle.lateness, cycle.wake.skipped))

    def overrun(self, item: str, cycle: Cycle) -> None:
        self.record.append(("overrun", item, cycle.duration, cycle.budget))

    def event(self, item: str, name: str, fields: Mapping[str, Any]) -> None:
        self.record.append(("event", item, name, dict(fields)))


EVERYTHING = [
    ("started", "control"),
    ("cycle", "control", 0, 0, 0, 0),
    ("cycle", "control", 1, 1.25, 0, 0),
    ("overrun", "control", 1.25, 0.5),
    ("cycle", "control", 3, 0, 0, 1),
    ("event", "control", "valve", {"opened": 0.5, "by": OSError}),
    ("cycle", "control", 4, 0, 0, 0),
    ("crashed", "control", "valve", "skips this cycle"),
    ("cycle", "control", 5, 0, 0, 0),
    ("stopped", "control"),
]


async def test_all_that_happens_in_order(autojump_clock: MockClock) -> None:
    observer = All()
    await run_the_plant(observer, Observer())  # that one overrides nothing
    assert observer.record == EVERYTHING


@pytest.mark.parametrize("hook", ["started", "stopped", "crashed", "cycle", "overrun", "event"])
async def test_one_that_raises_is_detached_and_reported(
    hook: str, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[str] = []

    def fail(self: Observer, *arguments: Any) -> None:
        calls.append(hook)
        raise RuntimeError("a bug of mine")

    bad = type("Bad", (All,), {hook: fail})()
    before, after = All(), All()
    executor = await run_the_plant(before, bad, after)
    assert before.record == after.record == EVERYTHING
    assert calls == [hook]
    assert bad.record == EVERYTHING[: [entry[0] for entry in EVERYTHING].index(hook)]
    assert executor.stats()["control"].count == 5
    reports = [record for record in caplog.records if "told nothing more" in record.getMessage()]
    assert [(report.levelno, f"raised in {hook}" in report.getMessage()) for report in reports] == [
        (logging.ERROR, True)
    ]
    assert reports[0].exc_info is not None
    assert isinstance(reports[0].exc_info[1], RuntimeError)


async def test_structlog(autojump_clock: MockClock) -> None:
    with structlog.testing.capture_logs() as entries:
        await run_the_plant(StructlogObserver())
    told = [(entry["log_level"], entry["event"], entry["item"]) for entry in entries if entry["event"] != "cycle"]
    assert told == [
        ("info", "item started", "control"),
        ("warning", "overrun", "control"),
        ("info", "valve", "control"),
        ("error", "item crashed", "control"),
        ("info", "item stopped", "control"),
    ]
    cycles = [entry for entry in entries if entry["event"] == "cycle"]
    assert [entry["duration"] for entry in cycles] == [0, 1.25, 0, 0, 0]
    assert {entry["log_level"] for entry in cycles} == {"debug"}
    assert [entry.get("error") for entry in cycles] == [None, None, None, "OSError: valve", None]
    assert next(entry["opened"] for entry in entries if entry["event"] == "valve") == 0.5


async def test_prometheus(autojump_clock: MockClock) -> None:
    registry = prometheus_client.CollectorRegistry()
    observer = PrometheusObserver(registry)
    await run_the_plant(observer)
    await run_the_plant(observer)  # one observer may serve several executors
    text = prometheus_client.generate_latest(registry).decode()
    for line in (
        'taktora_cycle_seconds_count{item="control"} 10.0',
        'taktora_cycle_seconds_sum{item="control"} 2.5',
        'taktora_cycle_seconds_bucket{item="control",le="1.0"} 8.0',
        'taktora_lateness_seconds_count{item="control"} 10.0',
        'taktora_overruns_total{item="control"} 2.0',
        'taktora_skipped_slots_total{item="control"} 2.0',
        'taktora_failures_total{item="control"} 2.0',
        'taktora_events_total{item="control",name="valve"} 2.0',
        'taktora_item_running{item="control"} 0.0',
    ):
        assert line in text.splitlines()


class Around(Observer):
    """Records what its context managers see, and may fail in one of them."""

    def __init__(self, record: list[str], name: str, fails: str = "") -> None:
        self.record, self.name, self.fails = record, name, fails

    def around(self, item: str, wake: Wake) -> AbstractContextManager[object]:
        if self.fails == "call":
            raise RuntimeError("a bug of mine")
        return self.inside(item)

    @contextmanager
    def inside(self, item: str) -> Iterator[None]:
        self.record.append(f"{self.name} begins")
        if self.fails == "enter":
            raise RuntimeError("a bug of mine")
        try:
            yield
            self.record.append(f"{self.name} ends")
        except BaseException as exc:
            self.record.append(f"{self.name} sees {type(exc).__name__}")
            if self.fails == "swallow":
                return
            raise
        finally:
            if self.fails == "exit":
                raise RuntimeError("a bug of mine")

    def cycle(self, item: str, cycle: Cycle) -> None:
        self.record.append(f"{self.name}: {cycle.error}")


async def run_two_cycles(*observers: Observer, record: list[str]) -> None:
    executor = Executor(observers=observers)

    @executor.item(every(1), on_failure="skip")
    async def control(ctx: Context) -> None:
        record.append("runs")
        if ctx.due == 0:
            raise OSError("valve")
        ctx.stop()

    await executor.run()


async def test_a_cycle_runs_in_what_observers_return_for_it(autojump_clock: MockClock) -> None:
    record: list[str] = []
    await run_two_cycles(Around(record, "a", "swallow"), Around(record, "b"), All(), record=record)
    assert record == [
        *("a begins", "b begins", "runs", "b sees OSError", "a sees OSError", "a: valve", "b: valve"),
        *("a begins", "b begins", "runs", "b ends", "a ends", "a: None", "b: None"),
    ]


@pytest.mark.parametrize("fails", ["call", "enter", "exit"])
async def test_one_that_fails_around_a_cycle_is_detached(
    fails: str, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    record: list[str] = []
    await run_two_cycles(Around([], "bad", fails), Around(record, "b"), record=record)
    assert record == ["b begins", "runs", "b sees OSError", "b: valve", "b begins", "runs", "b ends", "b: None"]
    assert sum("raised in around" in entry.getMessage() for entry in caplog.records) == 1


async def wait(ctx: Context) -> None:
    await trio.sleep_forever()


async def test_it_sees_that_a_cycle_is_cancelled(autojump_clock: MockClock) -> None:
    record: list[str] = []
    executor = Executor(observers=[Around(record, "a")])
    executor.add(wait, every(1))
    with trio.move_on_after(0.5):
        await executor.run()
    assert record == ["a begins", "a sees Cancelled"]


def test_nothing_is_around_an_item_where_no_observer_wants_it() -> None:
    executor = Executor(observers=[All()])

    @executor.item(every(1))
    async def control(ctx: Context) -> None: ...

    assert executor._items["control"].run_step is control


def spans_of(exporter: InMemorySpanExporter) -> list[ReadableSpan]:
    return list(exporter.get_finished_spans())


async def test_opentelemetry(autojump_clock: MockClock) -> None:
    tracer, exporter = an_exporting_tracer()
    with tracer.start_as_current_span("the app"):
        await run_the_plant(SpanObserver(tracer))
    *cycles, _ = spans_of(exporter)
    assert [span.name for span in cycles] == ["control"] * 5
    assert all(span.parent is None for span in cycles)
    durations = [span.end_time - span.start_time for span in cycles if span.end_time and span.start_time]
    assert durations == [0, 1_250_000_000, 0, 0, 0]
    attributes = [dict(span.attributes or {}) for span in cycles]
    assert [entry["taktora.overrun"] for entry in attributes] == [False, True, False, False, False]
    assert [entry["taktora.skipped"] for entry in attributes] == [0, 0, 1, 0, 0]
    assert [span.status.is_ok for span in cycles] == [True, True, True, False, True]
    told, exception = cycles[3].events
    assert (told.name, dict(told.attributes or {})) == ("valve", {"opened": 0.5, "by": "<class 'OSError'>"})
    assert exception.name == "exception"


def an_exporting_tracer() -> tuple[trace.Tracer, InMemorySpanExporter]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider.get_tracer("test"), exporter


async def test_a_span_of_the_item_s_own_is_below_that_of_its_cycle(autojump_clock: MockClock) -> None:
    tracer, exporter = an_exporting_tracer()
    executor = Executor(observers=[SpanObserver(tracer)])

    @executor.item(every(1))
    async def control(ctx: Context) -> None:
        tracer.start_span("inner").end()
        ctx.stop()

    await executor.run()
    tracer.start_span("after").end()
    inner, cycle, after = spans_of(exporter)
    assert cycle.name == "control"
    assert inner.parent == cycle.context
    assert after.parent is None


async def test_an_item_that_a_message_wakes_continues_its_trace(autojump_clock: MockClock) -> None:
    tracer, exporter = an_exporting_tracer()
    send, receive = trio.open_memory_channel[Received[int]](4)
    executor = Executor(observers=[SpanObserver(tracer)])
    parent = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    for metadata in (Metadata(user_properties=(("a", "b"), parent)), Metadata(), None):
        send.send_nowait(Received(1, Header(1, 0), "t", metadata))
    send.close()

    @executor.item(on_message(receive))
    async def work(ctx: Context[Received[int]]) -> None: ...

    await executor.run()
    one, *others = spans_of(exporter)
    assert one.parent is not None
    assert f"00-{one.context.trace_id:032x}-{one.parent.span_id:016x}-01" == parent[1]
    assert [span.parent for span in others] == [None, None]
    assert {span.kind for span in (one, *others)} == {trace.SpanKind.CONSUMER}


async def test_the_span_of_a_cancelled_cycle_ends(autojump_clock: MockClock) -> None:
    tracer, exporter = an_exporting_tracer()
    executor = Executor(observers=[SpanObserver(tracer)])
    executor.add(wait, every(1))
    with trio.move_on_after(0.5):
        await executor.run()
    [span] = spans_of(exporter)
    assert (span.attributes or {})["taktora.cancelled"]


@pytest.mark.parametrize(
    ("observer", "package"),
    [("structlog", "structlog"), ("prometheus", "prometheus_client"), ("opentelemetry", "opentelemetry")],
)
def test_one_whose_library_is_missing_names_its_extra(
    observer: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"taktora_trio.executor.observers.{observer}")
    with pytest.raises(ConfigError, match=rf"Observer needs .*: pip install 'taktora-trio\[{observer}\]'"):
        importlib.import_module(f"taktora_trio.executor.observers.{observer}")


def test_the_libraries_are_imported_by_their_observers_alone() -> None:
    code = "import sys, taktora_trio, taktora_trio.executor; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    imported = {name.partition(".")[0] for name in done.stdout.split()}
    assert imported & {"structlog", "prometheus_client", "opentelemetry", "trio_parallel"} == set()
