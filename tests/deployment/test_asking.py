"""Requests and replies in both shapes: real processes, a real broker, and who else is there."""

from __future__ import annotations

import json
import math
import signal
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from taktora_trio import (
    ConnectorHost,
    Deployment,
    Exchange,
    MqttConnector,
    MqttOptions,
    MqttRouting,
    Request,
    Requester,
    RequestFailed,
    RequestTimeout,
    Responder,
    Up,
    open_deployment,
)
from taktora_trio.transport.domain import Domain
from tests.client import open_client
from tests.command import MODES, open_run, run_command
from tests.deployment.asking_apps import LEDGER, PLAN, SHARED, WORK, Done, Plan, Work, asked, begun
from tests.deployment.test_metadata import client_of, properties_of
from tests.mosquitto import Mosquitto

APPS = "tests.deployment.asking_apps"


def new_domain() -> Domain:
    return Domain(f"test-{uuid.uuid4().hex[:12]}")


@asynccontextmanager
async def open_host(
    exchange: Exchange[Any, Any], broker: Mosquitto, domain: Domain, **options: Any
) -> AsyncIterator[ConnectorHost]:
    """Both sides in this process, with a gateway of their own."""
    connector = MqttConnector(
        [*exchange.for_requester, *exchange.for_responder], options=MqttOptions(protocol="5", **options)
    )
    deployment = Deployment("both", None, [connector])
    async with open_deployment(deployment, domain=domain.name, settings={"broker": broker.url}) as host:
        with trio.fail_after(20):
            await host.wait_for_health(Up)
        yield host


@pytest.mark.parametrize("session", ["native", "aiomqtt"])
async def test_any_number_ask_at_once_and_failures_and_deadlines_reach_them(
    session: str, broker: Mosquitto, domain: Domain
) -> None:
    async def work(request: Request[Work]) -> Done:
        await trio.sleep(request.value.seconds)
        if request.value.number < 0:
            raise RequestFailed("ünknown\nnumber")
        return Done(request.value.number, 0, request.redelivered)

    async with open_host(WORK, broker, domain, session=session) as host, trio.open_nursery() as nursery:
        responder: Responder[Work, Done] = await nursery.start(host.serve, WORK, work)
        async with host.open_requester(WORK) as requester:

            async def ask(number: int) -> None:
                done = await requester.request(Work(number), timeout=20)
                assert done == Done(number, 0, redelivered=False)

            async with trio.open_nursery() as asking:
                for number in range(300):
                    asking.start_soon(ask, number)
            with pytest.raises(RequestFailed, match=r"^ünknown\\nnumber$"):
                await requester.request(Work(-1), timeout=20)
            with pytest.raises(RequestTimeout):
                await requester.request(Work(7, seconds=5), timeout=0.1)
            assert requester.statistics().answered == 300
        assert responder.statistics().answered == 300
        assert responder.statistics().failed == 1
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("mode", MODES)
async def test_two_of_the_same_app_get_their_own_replies_alone(mode: str, broker: Mosquitto, domain: Domain) -> None:
    other, service = new_domain(), new_domain()
    plan = {PLAN: json.dumps(attrs.asdict(Plan(50, at_once=10, timeout=20, hurry=20)))}
    async with (
        open_client(broker.port, "asking/work/#") as client,
        open_run(f"{APPS}:responder", "in-process", broker, service) as responder,
    ):
        await responder.until_event("health-up")
        async with (
            open_run(f"{APPS}:requester", mode, broker, domain, env=plan) as run,
            open_run(f"{APPS}:requester", mode, broker, other, env=plan) as other_run,
        ):
            for each in (run, other_run):
                counts = asked(await each.until_printed("asked "))
                assert (counts["answered"], counts["late"]) == (50, 0)
            for each in (run, other_run, responder):
                each.signal(signal.SIGTERM)
                assert await each.wait(10) == 0
        topics = {(await client.receive()).topic for _ in range(2 * 2 * 50)} - {"asking/work"}
    assert len(topics) == 2
    assert all(topic.startswith("asking/work/replies/") for topic in topics)
    async with open_client(broker.port, "asking/#") as later:  # nothing is kept for who comes later
        later.publish("asking/end", b"")
        assert (await later.receive()).topic == "asking/end"


async def test_the_apps_successor_gets_what_was_not_answered_and_knows_it(
    broker: Mosquitto, domain: Domain, tmp_path: Path
) -> None:
    ledger, service = tmp_path / "begun", new_domain()
    async with open_run(f"{APPS}:responder", "split", broker, service, env={LEDGER: str(ledger)}) as responder:
        await responder.until_event("health-up")
        async with open_host(WORK, broker, domain) as host, host.open_requester(WORK) as requester:
            assert not (await requester.request(Work(1), timeout=20)).redelivered
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_kill_at_work, responder, ledger)
                done = await requester.request(Work(2, seconds=1), timeout=30)
            assert done.redelivered
            assert requester.statistics().answered == 2
        responder.signal(signal.SIGTERM)
        assert await responder.wait(10) == 0
    assert begun(ledger) == {1: 1, 2: 2}


async def _kill_at_work(responder: Any, ledger: Path) -> None:
    with trio.fail_after(20):
        while begun(ledger)[2] == 0:  # noqa: ASYNC110 - a file of another process
            await trio.sleep(0.01)
    responder.signal(signal.SIGKILL, responder.half("plugin"))


async def test_responders_that_share_divide_the_requests(broker: Mosquitto, domain: Domain) -> None:
    one, two = new_domain(), new_domain()
    async with (
        open_run(f"{APPS}:shared", "in-process", broker, one) as first,
        open_run(f"{APPS}:shared", "in-process", broker, two) as second,
    ):
        for run in (first, second):
            await run.until_event("health-up")
        connector = MqttConnector(SHARED.for_requester, options=MqttOptions(protocol="5"))
        deployment = Deployment("asks", None, [connector])
        async with (
            open_deployment(deployment, domain=domain.name, settings={"broker": broker.url}) as host,
            host.open_requester(SHARED) as requester,
        ):
            replies = [await requester.request(Work(number), timeout=20) for number in range(50)]
            assert [reply.number for reply in replies] == list(range(50))
            assert len({reply.pid for reply in replies}) == 2
        for run in (first, second):
            run.signal(signal.SIGTERM)
            assert await run.wait(10) == 0


async def test_a_requester_survives_a_new_session_at_the_broker(broker: Mosquitto, domain: Domain) -> None:
    """mosquitto forgets all at a kill: the gateway subscribes again, and what is asked then is answered."""

    async def work(request: Request[Work]) -> Done:
        return Done(request.value.number, 0, redelivered=False)

    async with open_host(WORK, broker, domain) as host, trio.open_nursery() as nursery:
        await nursery.start(host.serve, WORK, work)
        async with host.open_requester(WORK) as requester:
            assert (await requester.request(Work(1), timeout=20)).number == 1
            await broker.stop(signal.SIGKILL)
            await broker.start()
            assert await _until_answered(requester) == 2
        nursery.cancel_scope.cancel()


async def _until_answered(requester: Requester[Work, Done]) -> int:
    """A request, until the two subscriptions are there again: what was lost with the broker fails at its deadline."""
    with trio.fail_after(30):
        while True:
            try:
                return (await requester.request(Work(2), timeout=1)).number
            except RequestTimeout:
                continue


async def test_a_client_of_another_kind_asks(broker: Mosquitto, domain: Domain) -> None:
    """Its response topic is below the replies'; what has none, or another, is not begun."""
    handled = []

    async def square(request: Request[int]) -> int:
        handled.append(request.value)
        return request.value**2

    exchange = Exchange("square", int, int, MqttRouting("square", qos=1))
    plain = MqttConnector(exchange.for_responder, options=MqttOptions(protocol="5"))
    deployment = Deployment("square", None, [plain])
    sending, replies = trio.open_memory_channel[Any](math.inf)
    ready, token = trio.Event(), trio.lowlevel.current_trio_token()
    async with (
        open_deployment(deployment, domain=domain.name, settings={"broker": broker.url}) as host,
        trio.open_nursery() as nursery,
    ):
        responder: Responder[int, int] = await nursery.start(host.serve, exchange, square)
        client = await trio.to_thread.run_sync(
            client_of, broker.port, token, sending.send_nowait, ready, "square/replies/#"
        )
        try:
            with trio.fail_after(20):
                await host.wait_for_health(Up)
                await ready.wait()
                client.publish("square", b"1", 1)
                for payload, topic in ((b"2", "elsewhere"), (b"3", "square/replies/me")):
                    asked = properties_of(ResponseTopic=topic, CorrelationData=b"id")
                    client.publish("square", payload, 1, properties=asked)
                reply = await replies.receive()
        finally:
            client.disconnect()
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
                await trio.to_thread.run_sync(client.loop_stop)
        assert (reply.topic, reply.payload) == ("square/replies/me", b"9")
        assert reply.properties.CorrelationData == b"id"
        assert not hasattr(reply.properties, "UserProperty")
        assert handled == [3]
        assert responder.statistics().unanswerable == 2
        nursery.cancel_scope.cancel()


async def test_mqtt_3_1_1_is_refused_in_one_line(domain: Domain) -> None:
    code, output, errors = await run_command(
        *("run", "tests.deployment.asking_3_1_1:deployment", "--mode", "split", "--domain", domain.name)
    )
    assert code == 2
    assert output == ""
    assert "exchange 'work' needs correlation ids: MQTT 3.1.1" in errors
    assert "set MqttOptions(protocol='5')" in errors
    assert "Traceback" not in errors
