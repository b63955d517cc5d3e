"""Topics that messages name, in both shapes: real processes, a real broker."""

from __future__ import annotations

import json
import signal
import uuid

import pytest

from taktora_trio.transport.domain import Domain
from tests.client import open_client
from tests.command import MODES, open_run
from tests.mosquitto import Mosquitto

pytestmark = pytest.mark.parametrize("mode", MODES)
APP = "tests.deployment.topic_apps:deployment"


async def test_a_template_reads_the_topic_and_writes_it(mode: str, broker: Mosquitto, domain: Domain) -> None:
    async with (
        open_run(APP, mode, broker, domain) as run,
        open_client(broker.port, "plant/+/state") as client,
    ):
        await run.until_event("health-up")
        for unit in (7, -1):
            client.publish(f"plant/{unit}/setpoint", b'{"celsius": 21.5}')
            state = await client.receive()
            assert state.topic == f"plant/{unit}/state"
            assert json.loads(state.payload) == {"unit": unit, "celsius": 21.5, "problem": ""}
        for level in ("seven", ""):
            client.publish(f"plant/{level}/setpoint", b'{"celsius": 21.5}')
            state = await client.receive()
            assert (state.topic, json.loads(state.payload)["problem"]) == ("plant/0/state", f"plant/{level}/setpoint")
        client.publish("plant/8/setpoint", b'{"unit": 99, "celsius": 1}')
        assert (await client.receive()).topic == "plant/8/state"
        run.signal(signal.SIGTERM)
        assert await run.wait(5) == 0


async def test_each_message_of_a_shared_subscription_reaches_one_of_its_group(
    mode: str, broker: Mosquitto, domain: Domain
) -> None:
    count = 100
    other = Domain(f"test-{uuid.uuid4().hex[:12]}")
    async with (
        open_run(APP, mode, broker, domain) as run,
        open_run(APP, mode, broker, other) as other_run,
        open_client(broker.port, "answers/#") as client,
    ):
        for each in (run, other_run):
            await each.until_event("health-up")
        for number in range(count):
            client.publish(f"jobs/{number}", b'{"answer_to": "me"}')
        answers = [await client.receive() for _ in range(count)]
        assert sorted(json.loads(answer.payload)["number"] for answer in answers) == list(range(count))
        assert len({answer.topic for answer in answers}) == 2, "both have worked"
        assert all(answer.topic.startswith("answers/me/") for answer in answers)
        for each in (run, other_run):
            each.signal(signal.SIGTERM)
            assert await each.wait(5) == 0
        assert client.messages.statistics().current_buffer_used == 0, "answered more than once"
    other.forget()
    assert other.files() == []
