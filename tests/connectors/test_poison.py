"""A message at which the other side ends the connection: the decision alone, and what the bridge makes of it."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from taktora_trio import Backoff
from taktora_trio.channels import Envelope
from taktora_trio.connectors.connection import ConnectionLost, OnDone
from taktora_trio.connectors.poison import SOON, Alone, Suspicion, after_loss, after_trial, in_order
from tests.connectors.rig import FakeClient, FakeConnection, numbered, open_bridge, outbound

# The decision

ALONE = Alone("a", 7, 0.1, others_pass=True)
UNSURE = Alone("a", 7, 0.1, others_pass=False)


@pytest.mark.parametrize(
    ("losses", "trial"),
    [
        ([({"a": 1}, 9.0), ({"a": 1}, 0.1), ({"a": 1}, 0.1)], True),  # for how long the first one was up is no matter
        ([({"a": 1}, 0.1), ({"a": 1}, 0.1)], False),
        ([({"a": 1}, 0.1), ({"a": 1}, SOON), ({"a": 1}, 0.1)], False),  # not right behind it
        ([({"a": 1}, 0.1), ({"a": 1}, 0.1), ({"a": 2}, 0.1)], False),  # another message
        ([({"a": 1}, 0.1), ({}, 0.1), ({"a": 1}, 0.1)], False),
        ([({"a": 1, "b": 1}, 0.1), ({"a": 2, "b": 1}, 0.1), ({"a": 3, "b": 1}, 0.1)], True),
        ([({}, 0.1)] * 9, False),
    ],
)
def test_some_losses_in_a_row_right_behind_the_same_message_bring_a_trial(
    losses: list[tuple[dict[str, int], float]], trial: bool
) -> None:
    suspicion = Suspicion()
    for heads, uptime in losses:
        suspicion = after_loss(suspicion, heads, uptime, silent=False)
    assert suspicion.trial == trial


def test_a_broker_that_falls_silent_has_not_ended_the_connection() -> None:
    suspicion = Suspicion({"a": (1, 2)})
    assert after_loss(suspicion, {"a": 1}, 0.1, silent=True) == Suspicion()
    assert after_trial(Suspicion(trial=True), ALONE, silent=True) == (Suspicion(), False)


@pytest.mark.parametrize(
    ("before", "alone", "after", "guilty"),
    [
        (Suspicion(trial=True), ALONE, Suspicion(trial=True), True),
        (Suspicion(trial=True), Alone("a", 7, SOON, others_pass=True), Suspicion(), False),
        (Suspicion(trial=True), UNSURE, Suspicion(trial=True, suspect=("a", 7)), False),
        # In the second trial the others come first. If they pass, it is guilty; the broker may take nothing at all.
        (Suspicion(trial=True, suspect=("a", 7)), ALONE, Suspicion(trial=True), True),
        (Suspicion(trial=True, suspect=("a", 7)), UNSURE, Suspicion(), False),
    ],
)
def test_what_a_trial_comes_to(before: Suspicion, alone: Alone, after: Suspicion, guilty: bool) -> None:
    assert after_trial(before, alone, silent=False) == (after, guilty)


@pytest.mark.parametrize(
    ("unfinished", "suspect", "others_pass", "order"),
    [
        ("a1 a2 b1 b2", None, False, "a1 a2 b1 b2"),
        ("a1 a2 b1 b2", "a1", False, "b1 b2 a1 a2"),
        ("a1 a2 a3", "a1", False, "a2 a1 a3"),
        ("a1 a2 a3", "a1", True, "a1 a2 a3"),
        ("a1", "a1", False, "a1"),
        ("a2 a3", "a1", False, "a2 a3"),  # it has been acknowledged meanwhile
    ],
)
def test_in_a_trial_others_come_before_the_suspect(
    unfinished: str, suspect: str | None, others_pass: bool, order: str
) -> None:
    def read(text: str) -> list[tuple[str, int]]:
        return [(word[0], int(word[1])) for word in text.split()]

    assert in_order(read(unfinished), read(suspect)[0] if suspect else None, others_pass=others_pass) == read(order)


# In a bridge

FAST = Backoff(initial=0.1, maximum=0.1, jitter=0)


class Touchy(FakeConnection):
    """Acknowledges what it gets, up to a message at which it ends the connection."""

    def __init__(self, poison: bytes) -> None:
        super().__init__()
        self._poison = poison

    def publish(self, channel: str, envelope: Envelope, on_done: OnDone, *, again: bool = False) -> None:
        if self.closed_at is not None or self._lost.is_set():
            return
        if envelope.payload.startswith(self._poison):
            self.published.append((channel, envelope))
            self.lose(ConnectionLost("the other side closed the connection"))
        else:
            super().publish(channel, envelope, on_done, again=again)


async def test_it_is_set_aside_and_the_client_hears_of_it(autojump_clock: MockClock) -> None:
    connections = [Touchy(b"poison") for _ in range(10)]
    client = FakeClient(*connections)
    async with open_bridge(client, outbound("a"), outbound("b"), reconnect=FAST) as running:
        for name, source in running.sources.items():
            source.put(*numbered(3), *([b"poison"] if name == "a" else []), *numbered(3, 3))
        await trio.sleep(60)
        assert [(channel, envelope.payload) for channel, envelope in client.given_up] == [("a", b"poison")]
        assert (running.sources["a"].acknowledged[-1], running.sources["b"].acknowledged[-1]) == (7, 6)
    arrived = [pair for connection in connections for pair in connection.published]
    for name in "ab":
        payloads = [envelope.payload for channel, envelope in arrived if channel == name]
        assert [payload for payload in payloads if payload != b"poison"] == numbered(6)


async def test_another_side_that_takes_nothing_at_all_makes_nothing_be_set_aside(autojump_clock: MockClock) -> None:
    good = FakeConnection()
    client = FakeClient(*[Touchy(b"") for _ in range(60)], good)
    async with open_bridge(client, outbound("a"), reconnect=FAST) as running:
        running.sources["a"].put(*numbered(3))
        await trio.sleep(100)
    assert client.given_up == []
    assert good.payloads == numbered(3)


async def test_a_channel_that_was_full_before_a_trial_goes_on_behind_it(autojump_clock: MockClock) -> None:
    good = FakeConnection()
    client = FakeClient(*[Touchy(b"poison") for _ in range(5)], good)
    async with open_bridge(client, outbound("a"), outbound("b"), reconnect=FAST, max_inflight=2) as running:
        running.sources["a"].put(b"poison", *numbered(10))
        running.sources["b"].put(*numbered(10))
        await trio.sleep(60)
        assert (running.sources["a"].acknowledged[-1], running.sources["b"].acknowledged[-1]) == (11, 10)
    assert [envelope.payload for _, envelope in client.given_up] == [b"poison"]


class Raising(FakeConnection):
    """Acknowledges what it gets, and can't encode the poison."""

    def publish(self, channel: str, envelope: Envelope, on_done: OnDone, *, again: bool = False) -> None:
        if envelope.payload == b"poison":
            raise ZeroDivisionError
        super().publish(channel, envelope, on_done, again=again)


async def test_a_message_that_a_connector_can_not_publish_ends_connections_until_it_is_set_aside(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    connections = [Raising() for _ in range(10)]
    client = FakeClient(*connections)
    async with open_bridge(client, outbound("a"), outbound("b"), reconnect=FAST) as running:
        for name, source in running.sources.items():
            source.put(*numbered(3), *([b"poison"] if name == "a" else []), *numbered(3, 3))
        await trio.sleep(60)
        assert [envelope.payload for _, envelope in client.given_up] == [b"poison"]
        assert (running.sources["a"].acknowledged[-1], running.sources["b"].acknowledged[-1]) == (7, 6)
        assert running.health[-1][0] == "Up"
    arrived = [envelope.payload for connection in connections for name, envelope in connection.published if name == "a"]
    assert arrived == numbered(6)
    assert len([record for record in caplog.records if record.exc_info]) == 1, "its traceback, once"
    assert all(isinstance(failure, ZeroDivisionError) for failure in client.failures)


async def test_a_message_that_can_not_be_published_at_a_stop_is_logged_and_farewell_is_said(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    connection = Raising()
    async with open_bridge(FakeClient(connection), outbound("a")) as running:
        await trio.sleep(1)
        running.sources["a"].queue.extend([b"poison", b"1"])
        running.sources["a"].has_writer = False
        assert await running.stopped() == 1
    assert connection.said_farewell
    assert running.health[-1] == ("Down (the gateway was stopped)", 1)
    told = [record.getMessage() for record in caplog.records]
    assert told == [
        "line: the connection ended by an error: ZeroDivisionError",
        "channel a: stopped with 2 messages not acknowledged by the other side, 0 of them published: they are lost",
    ]


@pytest.mark.parametrize("stopped", [False, True], ids=["running", "at a stop"])
async def test_what_our_own_ledger_raises_is_a_crash_even_out_of_a_connection(
    stopped: bool, autojump_clock: MockClock
) -> None:
    def fail(header: object) -> None:
        raise ZeroDivisionError

    connection = FakeConnection()
    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
        async with open_bridge(FakeClient(connection), outbound("a")) as running:
            running.sources["a"].acknowledge = fail  # type: ignore[method-assign]
            if stopped:
                running.sources["a"].queue.append(b"x")
                await running.stopped()
            running.sources["a"].put(b"x")
            await trio.sleep(10)
