"""A message at which the broker ends the connection: found with certainty, set aside, and nothing else with it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from taktora_trio import Backoff, MqttRouting, Outbound
from taktora_trio.connectors.mqtt.sessions.session import ConnectFailed, Session, SessionLost
from taktora_trio.connectors.mqtt.wire.message import Message, OnDone
from taktora_trio.connectors.poison import QUIET, SOON
from tests.connectors.rig import RunningBridge
from tests.mqtt.rig import Fake, FakeSession, inbound, numbered, open_bridge, outbound

FAST = Backoff(initial=0.1, maximum=0.1, jitter=0)


class Touchy(FakeSession):
    """Acknowledges what it gets, up to a message at which it ends the connection."""

    def __init__(self, ends_at: Callable[[Message], bool], *, presence_counts: bool = False) -> None:
        super().__init__()
        self._ends_at = ends_at
        self._is_over = False
        self._presence_counts = presence_counts

    def publish(self, message: Message, packet_id: int, on_done: OnDone) -> None:
        if self._is_over:
            return
        of_presence = message.topic.startswith("taktora/")
        if self._ends_at(message) and (self._presence_counts or not of_presence):
            self._is_over = True
            self.published.append(message)
            self.lose(SessionLost("the broker closed the connection"))
        else:
            super().publish(message, packet_id, on_done)


def is_poison(message: Message) -> bool:
    return message.payload == b"poison"


async def run(fake: Fake, *channels: Any, sessions: list[Session | Exception], **options: Any) -> RunningBridge:
    """Send numbers and a poison on `a`, numbers on `b` if there is one, and let it run for a while."""
    fake(*sessions)
    async with open_bridge(*channels, reconnect=FAST, **options) as running:
        for name, source in running.sources.items():
            source.put(*numbered(3), *([b"poison"] if name == "a" else []), *numbered(3, 3))
        await trio.sleep(60)
        return running


def poison_on(qos: Any) -> Outbound[bytes]:
    return Outbound("a", bytes, MqttRouting("topic/a", qos=qos))


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("client_id", ["one", None])
async def test_it_is_set_aside_and_all_else_goes_on(
    qos: int, client_id: str | None, fake: Fake, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    sessions = [Touchy(is_poison) for _ in range(10)]
    running = await run(fake, poison_on(qos), outbound("b"), sessions=[*sessions], client_id=client_id)
    used = [session for session in sessions if session.published]
    # Three losses, the trial, and with neither a presence nor another message on its way a second trial.
    assert len(used) == (5 if client_id else 6)
    arrived = [message for session in used for message in session.published if not message.topic.startswith("taktora/")]
    for channel in "ab":
        payloads = [m.payload for m in arrived if m.topic == f"topic/{channel}" and m.payload != b"poison"]
        assert payloads == numbered(6)
        assert running.sources[channel].acknowledged[-1] == (7 if channel == "a" else 6)
    assert ("Degraded (channel a: 1 message set aside)" in {state for state, _ in running.health}) is True
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert told == [
        "channel a: set aside a message on 'topic/a', behind which the other side ends the connection; 1 so far"
    ]
    released = [session.released for session in used if session.released]
    assert [len(ids) for ids in released] == ([1] if qos == 2 else [])


async def test_in_a_trial_nothing_else_is_on_its_way(fake: Fake, autojump_clock: MockClock) -> None:
    sessions = [Touchy(is_poison) for _ in range(3)]
    trial = FakeSession(acknowledges=False)
    broker = fake(*sessions, trial)
    async with open_bridge(poison_on(1), outbound("b"), reconnect=FAST) as running:
        running.sources["a"].put(b"poison", b"1")
        await trio.sleep(0.3)
        await trio.sleep(QUIET - 0.1)
        assert (len(broker.connects), trial.published) == (4, [])
        running.sources["b"].put(b"2")
        await trio.sleep(0.2)
        assert trial.payloads == [b"poison"]
        await trio.sleep(SOON)  # neither lost nor acknowledged: it proves nothing, and holds up nobody
        assert trial.payloads == [b"poison", b"1", b"2"]
        trial.finish(0, 1, 2)
        assert running.sources["a"].acknowledged == [1, 2]


async def test_a_broker_that_takes_nothing_at_all_makes_nothing_be_set_aside(
    fake: Fake, autojump_clock: MockClock
) -> None:
    sessions = [Touchy(lambda message: True, presence_counts=True) for _ in range(60)]
    good = FakeSession()
    fake(*sessions, good)
    async with open_bridge(poison_on(1), outbound("b"), reconnect=FAST, client_id="one") as running:
        for source in running.sources.values():
            source.put(*numbered(3))
        await trio.sleep(100)
    for channel in "ab":
        assert [m.payload for m in good.published if m.topic == f"topic/{channel}"] == numbered(3)
    assert not any("set aside" in state for state, _ in running.health)


@pytest.mark.parametrize("lasts", [0.05, 0.5, 1.5])
async def test_a_network_that_flaps_makes_nothing_be_set_aside(
    lasts: float, fake: Fake, autojump_clock: MockClock
) -> None:
    """Each connection answers to the presence alone, and is lost a moment later; the first good one has all."""

    class Flapping(FakeSession):
        def publish(self, message: Message, packet_id: int, on_done: OnDone) -> None:
            if message.topic.startswith("taktora/"):
                on_done(packet_id, "")

        async def wait_until_lost(self) -> SessionLost:
            await trio.sleep(lasts)
            return SessionLost("connection reset")

    good = FakeSession()
    fake(*[Flapping()] * 3, ConnectFailed("no route"), *[Flapping()] * 2, ConnectFailed("no route"), good)
    async with open_bridge(outbound("b"), reconnect=FAST, client_id="one") as running:
        running.sources["b"].put(*numbered(3))
        await trio.sleep(100)
    assert [m.payload for m in good.published if m.topic == "topic/b"] == numbered(3)
    assert not any("set aside" in state for state, _ in running.health)


async def test_at_qos_0_it_is_gone_with_its_connection_and_nobody_else_is_blamed(
    fake: Fake, autojump_clock: MockClock
) -> None:
    """It is done with when it is written. So it does not come again; but the next of its kind does."""
    sessions = [Touchy(is_poison) for _ in range(10)]

    class Late(Touchy):
        """Takes the poison, and ends the connection before it has acknowledged anything of the other channel."""

        def publish(self, message: Message, packet_id: int, on_done: OnDone) -> None:
            if message.topic == "topic/b":
                self.published.append(message)
            elif is_poison(message):
                on_done(packet_id, "")
                self.lose()

    late = [Late(is_poison) for _ in range(3)]
    fake(*late, *sessions)
    async with open_bridge(poison_on(0), outbound("b"), reconnect=FAST, client_id="one") as running:
        running.sources["b"].put(b"good")
        for _ in range(3):
            running.sources["a"].put(b"poison")
            await trio.sleep(0.1)
        await trio.sleep(30)
        assert running.sources["b"].acknowledged == [1]
    assert not any("set aside" in state for state, _ in running.health)


async def test_stopped_in_a_trial_it_publishes_what_is_left(fake: Fake, autojump_clock: MockClock) -> None:
    sessions = [Touchy(is_poison) for _ in range(3)]
    trial = FakeSession()
    fake(*sessions, trial)
    async with open_bridge(poison_on(1), inbound("in", "x"), reconnect=FAST) as running:
        running.sources["a"].put(b"poison", b"1")
        await trio.sleep(0.5)
        running.sources["a"].put(b"2")
        await running.stopped()
    assert trial.payloads == [b"poison", b"1", b"2"]
