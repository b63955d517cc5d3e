"""The bridge with fakes on both sides, in virtual time; whole systems are tested in tests/deployment."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from taktora_trio import Backoff, ConfigError, Inbound, RawCodec
from taktora_trio.channels import Envelope
from taktora_trio.connectors import reconnect
from taktora_trio.connectors.connection import (
    ConnectFailed,
    Connection,
    ConnectionLost,
    ConnectRefused,
    Incoming,
    OnDone,
)
from taktora_trio.executor import Context
from tests.connectors.rig import (
    AnyTopic,
    FakeClient,
    FakeConnection,
    FakeConnector,
    Sink,
    inbound,
    open_bridge,
    outbound,
    serve_connector,
)


async def test_unreachable_is_tried_again_with_backoff(autojump_clock: MockClock) -> None:
    connection = FakeConnection()
    client = FakeClient(*[ConnectFailed("no route")] * 5, connection)
    async with open_bridge(client, outbound()) as running:
        await trio.sleep(100)
        assert client.connects == [0, 1, 3, 7, 11, 15]
        assert running.health == [("Up", 15)]


@pytest.mark.parametrize(("lasted", "again_after"), [(7.9, 4), (8, 1)])
async def test_the_backoff_starts_over_once_a_connection_has_stayed_up(
    lasted: float, again_after: float, autojump_clock: MockClock
) -> None:
    first, second = FakeConnection(), FakeConnection()
    client = FakeClient(ConnectFailed("no route"), ConnectFailed("no route"), first, second)
    lost = 3 + lasted
    async with open_bridge(client, outbound()) as running:
        await trio.sleep(lost)
        first.lose()
        await trio.sleep(10)
        assert client.connects == [0, 1, 3, lost + again_after]
        assert running.health == [("Up", 3), ("Connecting", lost), ("Up", lost + again_after)]
        assert first.closed_at == lost
    assert running.health[3:] == [("Down (the gateway was stopped)", lost + 10)]


async def test_a_refused_login_is_down_and_tried_again_after_minutes(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_000_000_000 + trio.current_time())
    monkeypatch.setattr(reconnect, "REFUSED", attrs.evolve(reconnect.REFUSED, jitter=0))
    refused = ConnectRefused("the broker refused the login: Not authorized")
    connection = FakeConnection()
    client = FakeClient(*[refused] * 5, connection)
    async with open_bridge(client, outbound()) as running:
        await trio.sleep(100)
        assert running.health == [
            ("Down (the broker refused the login: Not authorized; next attempt at 2001-09-09 01:47:10 UTC)", 0),
            ("Connecting", 30),
            ("Down (the broker refused the login: Not authorized; next attempt at 2001-09-09 01:48:10 UTC)", 30),
            ("Connecting", 90),
            ("Down (the broker refused the login: Not authorized; next attempt at 2001-09-09 01:50:10 UTC)", 90),
        ]
        await trio.sleep(800)
        assert client.connects == [0, 30, 90, 210, 450, 750]
        assert running.health[-1] == ("Up", 750)
    assert [record.levelno for record in caplog.records if record.levelno > logging.INFO] == [logging.ERROR] * 5


async def test_a_stop_does_not_wait_for_the_next_login(autojump_clock: MockClock) -> None:
    client = FakeClient(ConnectRefused("refused"))
    async with open_bridge(client, outbound()) as running:
        await trio.sleep(7)
        assert await running.stopped() == 7


async def test_revived_it_is_tried_at_once_and_the_delays_start_over(autojump_clock: MockClock) -> None:
    refused, failed = ConnectRefused("refused"), ConnectFailed("no route")
    client = FakeClient(refused, refused, *[failed] * 4)
    async with open_bridge(client, outbound()) as running:
        for _ in range(2):
            await trio.sleep(5)
            running.bridge.revive()
        await trio.sleep(5)
        assert client.connects == [0, 5, 10, 11, 13]
        running.bridge.revive()
        await trio.sleep(0.5)
        running.bridge.revive()
        await trio.sleep(1.2)
        assert client.connects == [0, 5, 10, 11, 13, 15, 15.5, 16.5]


@pytest.mark.parametrize("answer", [None, ConnectFailed("no route")], ids=["hanging", "in the delay"])
async def test_a_stop_while_connecting_is_at_once(answer: Exception | None, autojump_clock: MockClock) -> None:
    client = FakeClient(answer)
    async with open_bridge(client, outbound(), reconnect=Backoff(initial=60, maximum=60)) as running:
        await trio.sleep(7)
        assert await running.stopped() == 7
    assert running.health == [("Down (the gateway was stopped)", 7)]


async def test_an_error_that_nobody_expects_is_the_end_of_that_connection_alone(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    class Broken(FakeConnection):
        async def wait_until_lost(self) -> ConnectionLost:
            await trio.sleep(1)
            raise RuntimeError("out of a websocket")

    client = FakeClient(
        ConfigError("no CA file"), ZeroDivisionError("x"), ZeroDivisionError("x"), Broken(), FakeConnection()
    )
    async with open_bridge(client, outbound()) as running:
        await trio.sleep(100)
        assert client.connects == [0, 1, 3, 7, 12]
        assert running.health == [("Up", 7), ("Connecting", 8), ("Up", 12)]
    told = [(record.getMessage(), bool(record.exc_info)) for record in caplog.records if record.levelno > logging.INFO]
    assert told == [
        ("line: cannot reach line://example: no CA file; trying again in 1.0 s", False),
        ("line: the connection ended by an error: ZeroDivisionError: x", True),
        ("line: cannot reach line://example: ZeroDivisionError: x; trying again in 2.0 s", False),
        ("line: cannot reach line://example: ZeroDivisionError: x; trying again in 4.0 s", False),
        ("line: the connection ended by an error: RuntimeError: out of a websocket", True),
        ("line: lost line://example: RuntimeError: out of a websocket; trying again in 4.0 s", False),
    ]


@pytest.mark.parametrize("error", [ZeroDivisionError, MemoryError])
async def test_an_error_of_a_pump_is_raised_even_out_of_a_session(
    error: type[Exception], autojump_clock: MockClock
) -> None:
    class Broken(Sink):
        def send_nowait(self, *args: Any, **kwargs: Any) -> int:
            raise error

    client = FakeClient(FakeConnection())

    class Handing(FakeConnection):
        async def wait_until_lost(self) -> ConnectionLost:
            assert client.on_message is not None
            await trio.sleep(1)
            client.on_message(Incoming("a", b""))
            raise AssertionError

    client.answers = [Handing()]
    with pytest.RaisesGroup(error, flatten_subgroups=True):
        async with open_bridge(client, inbound("a"), sinks={"a": Broken()}):
            await trio.sleep(10)
    assert client.connects == [0]


@pytest.mark.parametrize("error", [ZeroDivisionError, MemoryError])
async def test_an_item_of_the_clients_own_ends_the_gateway_when_it_fails(
    error: type[Exception], autojump_clock: MockClock
) -> None:
    async def fail(ctx: Context) -> None:
        raise error

    connector = FakeConnector([outbound()], codec=RawCodec(), fake=FakeClient(FakeConnection()), item=fail)
    with pytest.RaisesGroup(error, flatten_subgroups=True):
        async with serve_connector(connector):
            await trio.sleep(10)


async def test_refused_channels_are_shown_and_asked_for_again_now_and_then_or_when_revived(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconnect, "REFUSED", attrs.evolve(reconnect.REFUSED, jitter=0))
    connection = FakeConnection()
    connection.refused = ["channel in: no"]
    async with open_bridge(FakeClient(connection), inbound("in")) as running:
        await trio.sleep(100)
        assert connection.asked_at == [30, 90]
        running.bridge.revive()
        await trio.sleep(1)
        assert connection.asked_at == [30, 90, 100]
        connection.refused = []
        await trio.sleep(500)
        assert connection.asked_at == [30, 90, 100, 130], "and not again"
    assert running.health[:2] == [("Degraded (channel in: no)", 0), ("Up", 130)]


async def test_a_message_that_comes_while_the_connection_starts_is_acknowledged_on_it(
    autojump_clock: MockClock,
) -> None:
    message = Incoming("in", b"x", reliable=True)

    class Early(FakeConnection):
        async def start(self) -> None:
            client.on_message(message)
            await trio.sleep(1)

    first, second = FakeConnection(), Early()
    client = FakeClient(first, second)
    async with open_bridge(client, inbound("in")) as running:
        first.lose()
        await trio.sleep(10)
        assert running.health == [("Up", 0), ("Connecting", 0), ("Up", 2)], "up when it has started"
        assert running.sinks["in"].take() == [b"x"]
        await trio.sleep(1)
        assert (first.acknowledged, second.acknowledged) == ([], [message])


@pytest.mark.parametrize("acknowledge", ["when-done", "on-arrival"])
async def test_an_acknowledge_that_raises_is_the_end_of_that_connection_alone(
    acknowledge: Any, autojump_clock: MockClock
) -> None:
    class Broken(FakeConnection):
        def acknowledge(self, message: Incoming) -> None:
            raise RuntimeError("a field is missing")

    message = Incoming("in", b"x", reliable=True)
    first, second = Broken(), FakeConnection()
    client = FakeClient(first, second)
    async with open_bridge(client, Inbound("in", bytes, AnyTopic("in"), acknowledge=acknowledge)) as running:
        client.on_message(message)
        assert running.sinks["in"].take() == [b"x"]
        await trio.sleep(10)
        assert running.health == [("Up", 0), ("Connecting", 0), ("Up", 1)]
        assert second.acknowledged == [message], "the next connection is told"


async def test_a_stop_acknowledges_what_the_app_is_done_with_before_the_farewell(autojump_clock: MockClock) -> None:
    class Polite(FakeConnection):
        async def farewell(self) -> None:
            await trio.lowlevel.checkpoint()
            told.append(len(self.acknowledged))

    told: list[int] = []
    client = FakeClient(Polite())
    async with open_bridge(client, outbound(), inbound("in")) as running:
        for number in range(5):
            client.on_message(Incoming("in", b"%d" % number, reliable=True))
        sink = running.sinks["in"]
        sink.open()
        sink.done = 3  # so late that nobody is woken any more
        await running.stopped()
    assert told == [3]


async def test_a_connection_lost_while_the_backlog_is_full_comes_up_again(autojump_clock: MockClock) -> None:
    class Answering(FakeConnection):
        async def start(self) -> None:
            assert self.paused == [], "its answer could not be read"
            await trio.lowlevel.checkpoint()

    first, second = Answering(), Answering()
    client = FakeClient(first, second)
    async with open_bridge(client, inbound("in"), sinks={"in": Sink(window=1)}, inbound_backlog=1000) as running:
        for _ in range(10):
            client.on_message(Incoming("in", bytes(90), reliable=True))
        assert first.paused == [True]
        first.lose()
        await trio.sleep(10)
        assert (running.health[-1][0], second.paused) == ("Up", [True])


async def test_a_start_that_is_refused_is_down_as_a_login_is(autojump_clock: MockClock) -> None:
    class Refused(FakeConnection):
        async def start(self) -> None:
            raise ConnectRefused("not for you")

    async with open_bridge(FakeClient(Refused()), outbound()) as running:
        await trio.sleep(1)
        [(state, _)] = running.health
        assert state.startswith("Down (not for you; next attempt")


async def test_an_error_of_a_task_beside_the_connection_ends_it(autojump_clock: MockClock) -> None:
    class Polling(FakeClient):
        @contextlib.asynccontextmanager
        async def connect(self) -> AsyncIterator[Connection]:
            async with super().connect() as connection, trio.open_nursery() as nursery:
                nursery.start_soon(self.poll)
                yield connection
                nursery.cancel_scope.cancel()

        async def poll(self) -> None:
            await trio.sleep(10)
            raise ConnectionLost("no answer to a poll")

    client = Polling(FakeConnection())
    async with open_bridge(client, outbound()) as running:
        await trio.sleep(15)
        assert running.health == [("Up", 0), ("Connecting", 10), ("Up", 11)]
        assert [str(failure) for failure in client.failures] == ["no answer to a poll"]


async def test_a_client_hears_of_each_failure_and_of_a_revival(autojump_clock: MockClock) -> None:
    connection, no_route, lost = FakeConnection(), ConnectFailed("no route"), ConnectionLost("reset")
    client = FakeClient(no_route, connection, no_route)
    async with open_bridge(client, outbound()) as running:
        await trio.sleep(2)
        connection.lose(lost)
        await trio.sleep(0.5)
        assert client.failures == [no_route, lost]
        assert client.revivals == 0
        running.bridge.revive()
        await trio.sleep(0.5)
        assert client.failures == [no_route, lost, no_route]
        assert client.revivals == 1


async def test_a_stop_says_farewell_behind_the_last_message_and_does_not_wait_for_ever(
    autojump_clock: MockClock,
) -> None:
    record: list[object] = []

    class Slow(FakeConnection):
        def publish(self, channel: str, envelope: Envelope, on_done: OnDone, *, again: bool = False) -> None:
            super().publish(channel, envelope, on_done)
            record.append(envelope.payload)

        async def farewell(self) -> None:
            record.append("farewell")
            await trio.sleep_forever()

    connection = Slow()
    async with open_bridge(FakeClient(connection), outbound()) as running:
        await trio.sleep(1)
        running.sources["out"].queue.append(b"of which nobody was told yet")
        assert await running.stopped() == 1.5
    assert record == [b"of which nobody was told yet", "farewell"]
    assert connection.closed_at == 1.5
