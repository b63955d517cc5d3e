"""One trace from an app's item over shared memory, gateway and broker to another app's item: three processes."""

from __future__ import annotations

import json
import re
import signal
import uuid
from pathlib import Path
from typing import Any

import pytest
import trio

from taktora_trio.transport.domain import Domain
from tests.command import open_run
from tests.deployment.foreign import open_client
from tests.mosquitto import Mosquitto


def spans_in(folder: Path) -> dict[str, dict[str, Any]]:
    """Return all spans by their ids, each with the process that it was made in."""
    spans = {}
    for file in folder.glob("*.spans"):
        for line in file.read_text().splitlines():
            span = json.loads(line)
            spans[span["context"]["span_id"]] = {**span, "pid": int(file.stem)}
    return spans


@pytest.mark.parametrize(("mode", "is_stored"), [("split", False), ("in-process", True)])
async def test_one_trace_from_app_to_app(
    mode: str, is_stored: bool, broker: Mosquitto, domain: Domain, tmp_path: Path
) -> None:
    store = ("--store", str(tmp_path / "store")) if is_stored else ()
    other = Domain(f"test-{uuid.uuid4().hex[:12]}")
    env = {"TRACE_FOLDER": str(tmp_path)}
    with trio.fail_after(40):
        async with open_run("tests.deployment.trace_apps:follower", "in-process", broker, other, env=env) as follower:
            await follower.until_event("health-up")
            async with (
                open_client(broker.port, 5, "trace/readings") as (_, heard),
                open_run("tests.deployment.trace_apps:sender", mode, broker, domain, *store, env=env) as sender,
            ):
                message = await heard.receive()
                await follower.until_printed("worked")
                plugin, gateway = (
                    (sender.half("plugin"), sender.half("gateway")) if mode == "split" else [sender.pid] * 2
                )
                sender.signal(signal.SIGTERM)
                assert await sender.wait() == 0
            follower.signal(signal.SIGTERM)
            assert await follower.wait() == 0
    other.remove_if_alone()
    other.forget()
    [(name, parent)] = message.properties.UserProperty
    assert name == "traceparent"
    assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-0[13]", parent)
    spans = spans_in(tmp_path)
    assert "0x" + parent.split("-")[2] in spans  # of a client that is told nothing else
    stored = next(span for span in spans.values() if span["name"] == "store")
    line = [stored]
    while (above := line[-1]["parent_id"]) is not None:
        line.append(spans[above])
    assert [span["name"] for span in line] == ["store", "work", "publish readings", "calibrate", "measure"]
    assert [span["kind"] for span in line[1:3]] == ["SpanKind.CONSUMER", "SpanKind.PRODUCER"]
    assert len({span["context"]["trace_id"] for span in line}) == 1
    assert [span["pid"] for span in line] == [follower.pid, follower.pid, gateway, plugin, plugin]
    published = line[2]
    assert published["attributes"]["messaging.destination.name"] == "trace/readings"
    assert published["end_time"] >= published["start_time"] >= line[3]["start_time"]


async def test_mqtt_3_1_1_carries_no_trace_and_says_so_once(broker: Mosquitto, domain: Domain, tmp_path: Path) -> None:
    env = {"TRACE_FOLDER": str(tmp_path)}
    with trio.fail_after(30):
        async with (
            open_client(broker.port, 5, "trace/readings") as (_, heard),
            open_run("tests.deployment.trace_apps:old", "split", broker, domain, env=env) as run,
        ):
            message = await heard.receive()
            assert not hasattr(message.properties, "UserProperty")
            run.signal(signal.SIGTERM)
            assert await run.wait() == 0
    assert len(run.events("trace-impossible")) == 1
