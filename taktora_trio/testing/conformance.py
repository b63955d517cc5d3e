"""The conformance suite: what every connector promises, a test each, for the author of a connector to run.

    from taktora_trio.testing.conformance import ConnectorConformance

    class TestMine(ConnectorConformance):
        rig_type = MyRig

`MyRig` is a `ConnectorRig`: the peer, and how it fails. Tests of what the protocol lacks are skipped, with the reason.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import random
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import attrs
import trio
import trio.testing
from trio_util import move_on_when

from taktora_trio import (
    ConfigError,
    ConnectFailed,
    Connecting,
    Connection,
    ConnectionLost,
    ConnectorError,
    ConnectRefused,
    Degraded,
    Domain,
    Down,
    HealthEvent,
    Outbound,
    Routing,
    Up,
)
from taktora_trio.testing.census import cancelled_after, census, more
from taktora_trio.testing.driver import TIMEOUT, Driver
from taktora_trio.testing.network import Network
from taktora_trio.testing.program import open_program
from taktora_trio.testing.rig import LACKS, ConnectorRig
from taktora_trio.testing.split import open_split

try:
    import pytest
    import pytest_trio
except ImportError as exc:
    raise ImportError(f"the conformance suite needs {exc.name}: pip install 'taktora-trio[testing]'") from exc

__all__ = ["ConnectorConformance"]

_GARBAGE = (
    bytes(100),
    b"\xff" * 70_000,
    b"\n\r\n \n\t",
    b"\x1b[2J\x1b]0;owned\x07\n",
    "HTTP/1.1 200 OK\r\n\r\n\u202e\u2028".encode(),
    random.Random(7).randbytes(5_000),  # noqa: S311 - the same in each run
)


_T = TypeVar("_T", bound=Callable[..., object])


def needs(*features: str) -> Callable[[_T], _T]:
    """Skip the test where the rig lacks one of these."""

    def remember(test: _T) -> _T:
        vars(test)["needs"] = features
        return test

    return remember


class ConnectorConformance:
    """Derive it, with a name that pytest collects, and name the rig."""

    pytestmark = pytest.mark.trio

    rig_type: ClassVar[type[ConnectorRig]]

    @pytest.fixture(autouse=True)
    def _skip_what_it_lacks(self, request: pytest.FixtureRequest) -> None:
        for feature in getattr(request.function, "needs", ()):
            if not getattr(self.rig_type, feature):
                pytest.skip(f"{self.rig_type.__name__}: {LACKS[feature]}")

    @pytest_trio.trio_fixture  # type: ignore[untyped-decorator]
    async def rig(self, tmp_path: Path, _skip_what_it_lacks: None) -> AsyncIterator[ConnectorRig]:
        async with self.rig_type.open(tmp_path) as rig:
            yield rig

    # Outbound, on one connection

    async def test_messages_of_a_channel_arrive_in_order_and_are_done_once(self, rig: ConnectorRig) -> None:
        """`publish` sends behind the channel's messages before it; `on_done` is called once for each message."""
        channels = rig.outbound("out"), rig.outbound("other")
        driver = _driver(rig, *channels)
        payloads = _numbered(50)
        async with driver.connected() as connection:
            for payload in payloads:
                for channel in channels:
                    driver.publish(connection, channel.name, driver.envelopes(channel.name, payload))
            arrived = await _receive(rig, 100)
            await driver.until_done(100)
        for channel in channels:
            assert [payload for topic, payload in arrived if topic == channel.routing.address] == payloads
            done = sorted(number for name, number, refusal in driver.done if name == channel.name and not refusal)
            assert done == list(range(1, 51))

    async def test_payloads_are_any_bytes_both_ways(self, rig: ConnectorRig) -> None:
        """A payload arrives as it was sent: empty, with any bytes in it, and as large as the channel takes."""
        out, into = rig.outbound("out", max_payload=20_000), rig.inbound("in", max_payload=20_000)
        driver = _driver(rig, out, into)
        payloads = [b"", b"\0", bytes(range(256)), b"\r\n \n", b"%41%", b"x" * 20_000]
        async with driver.connected() as connection:
            driver.publish(connection, "out", driver.envelopes("out", *payloads))
            assert [payload for _, payload in await _receive(rig, len(payloads))] == payloads
            for payload in payloads:
                await rig.publish(into.routing.address, payload)
            assert [message.payload for message in await driver.take(len(payloads))] == payloads

    @needs("acknowledges", "has_network")
    async def test_what_was_lost_with_a_connection_is_not_done_and_comes_again(self, rig: ConnectorRig) -> None:
        """`on_done` is never called for what was lost; published again on the next connection it arrives, in order."""
        network = _network(rig)
        out = rig.outbound("out")
        driver = _driver(rig, out)
        first, lost, last = (driver.envelopes("out", *_numbered(3, start)) for start in (0, 3, 6))
        async with driver.connected() as connection:
            driver.publish(connection, "out", first)
            await driver.until_done(3)
            network.mute()
            driver.publish(connection, "out", lost)
            arrived = [payload for _, payload in await _receive(rig, 6)]
            rig.cut()
            await driver.lost(connection)
            driver.publish(connection, "out", last)  # too late, and not done either
        assert [number for _, number, _ in driver.done] == [1, 2, 3]
        async with driver.connected() as connection:
            driver.publish(connection, "out", lost, again=True)
            driver.publish(connection, "out", last)
            await driver.until_done(9)
            arrived += [payload for _, payload in await _receive(rig, 6)]
        assert sorted(number for _, number, _ in driver.done) == list(range(1, 10))
        assert _first_of_each(arrived) == _numbered(9)

    async def test_what_was_published_arrives_before_the_farewell(self, rig: ConnectorRig) -> None:
        """`farewell` goes out behind everything that was published."""
        out = rig.outbound("out")
        driver = _driver(rig, out)
        async with driver.connected() as connection:
            driver.publish(connection, "out", driver.envelopes("out", *_numbered(50)))
            with trio.fail_after(TIMEOUT):
                await connection.farewell()
        assert [payload for _, payload in await _receive(rig, 50)] == _numbered(50)

    # Inbound, on one connection

    async def test_inbound_messages_come_in_order_each_for_its_channel(self, rig: ConnectorRig) -> None:
        """`on_message` is called in the order of arrival, and `channels_of` names the channels of a topic."""
        channels = rig.inbound("in"), rig.inbound("more")
        driver = _driver(rig, *channels)
        async with driver.connected() as connection:
            for payload in _numbered(30):
                for channel in channels:
                    await rig.publish(channel.routing.address, payload)
            messages = await driver.take(60)
            for message in messages:
                if message.reliable:
                    connection.acknowledge(message)
        for channel in channels:
            own = [message for message in messages if list(driver.client.channels_of(message.topic)) == [channel.name]]
            assert [message.payload for message in own] == _numbered(30)
        assert list(driver.client.channels_of("of-no-channel")) == []

    @needs("redelivers")
    async def test_what_is_not_acknowledged_comes_to_the_next_gateway_and_nothing_else_does(
        self, rig: ConnectorRig
    ) -> None:
        """The peer keeps a reliable message until `acknowledge`, which may be called on a later connection."""
        out, into = rig.outbound("out"), rig.inbound("in")
        first = _driver(rig, out, into)
        second, third = (Driver(first.connector, first.name) for _ in range(2))
        async with first.connected() as connection:
            for payload in _numbered(4):
                await rig.publish(into.routing.address, payload)
            messages = await first.take(4)
            assert all(message.reliable for message in messages)
            for message in messages[:2]:
                connection.acknowledge(message)
            await _answered(first, connection)
        async with second.connected() as connection:
            messages = await second.take(2)
            assert [message.payload for message in messages] == _numbered(2, 2)
            connection.acknowledge(messages[0])
            await _answered(second, connection)
            rig.cut()
            await second.lost(connection)
        async with second.connected() as connection:  # the other one comes again or not: this gateway has it
            connection.acknowledge(messages[1])
            await _answered(second, connection)
        async with third.connected():
            await rig.publish(into.routing.address, b"last")
            assert [message.payload for message in await third.take(1)] == [b"last"]

    @needs("redelivers", "numbers_deliveries")
    async def test_a_repeat_says_so_and_has_the_number_that_it_had(self, rig: ConnectorRig) -> None:
        """`redelivered` and `delivery_id`: by them the app's half knows what a killed gateway had handed over."""
        into = rig.inbound("in")
        first = _driver(rig, into)
        second = Driver(first.connector, first.name)
        async with first.connected():
            for payload in _numbered(4):
                await rig.publish(into.routing.address, payload)
            before = await first.take(4)
            assert not any(message.redelivered for message in before)
            numbers = [message.delivery_id for message in before]
            assert all(0 < number <= 65_535 for number in numbers)
            assert len(set(numbers)) == 4
        async with second.connected():
            await rig.publish(into.routing.address, b"new")
            again = await second.take(5)
            assert [message.payload for message in again] == [*_numbered(4), b"new"]
            assert [message.redelivered for message in again] == [True] * 4 + [False]
            assert [message.delivery_id for message in again[:4]] == numbers
            assert again[4].delivery_id not in numbers

    @needs("redelivers", "has_network")
    async def test_no_acknowledgement_leaves_before_the_next_checkpoint(self, rig: ConnectorRig) -> None:
        """The gateway writes down what it acknowledges right after `acknowledge`; killed before that, it has not."""
        network, into = _network(rig), rig.inbound("in")
        first = _driver(rig, into)
        second = Driver(first.connector, first.name)
        async with first.connected() as connection:
            await rig.publish(into.routing.address, b"message")
            [message] = await first.take(1)
            await trio.testing.wait_all_tasks_blocked(0.02)
            connection.acknowledge(message)
            assert network.unread == 0, "something was sent at once"
            await connection.farewell()
        async with second.connected():
            await rig.publish(into.routing.address, b"next")
            assert [message.payload for message in await second.take(1)] == [b"next"]

    async def test_nothing_comes_while_reading_is_paused(self, rig: ConnectorRig) -> None:
        """`pause_reading` takes nothing more from the peer, while publishing goes on; `resume_reading` goes on."""
        out, into = rig.outbound("out"), rig.inbound("in")
        driver = _driver(rig, out, into)
        async with driver.connected() as connection:
            await rig.publish(into.routing.address, b"before")
            await driver.take(1)
            connection.pause_reading()
            connection.pause_reading()  # it may be said twice
            for payload in _numbered(20):
                await rig.publish(into.routing.address, payload)
            driver.publish(connection, "out", driver.envelopes("out", b"meanwhile"))
            assert [payload for _, payload in await _receive(rig, 1)] == [b"meanwhile"]
            assert driver.waiting == 0
            connection.resume_reading()
            assert [message.payload for message in await driver.take(20)] == _numbered(20)

    # The end of a connection

    @pytest.mark.parametrize("reset", [True, False], ids=["reset", "closed"])
    async def test_a_lost_connection_says_why_and_harms_nobody(self, rig: ConnectorRig, reset: bool) -> None:
        """`wait_until_lost` returns the reason, in one line; what is called afterwards does nothing."""
        out, into = rig.outbound("out"), rig.inbound("in")
        driver = _driver(rig, out, into)
        async with driver.connected() as connection:
            await rig.publish(into.routing.address, b"message")
            [message] = await driver.take(1)
            rig.cut(reset=reset)
            lost = await driver.lost(connection)
            _check_text(rig, lost)
            assert not lost.silent
            driver.publish(connection, "out", driver.envelopes("out", b"too late"))
            if message.reliable:
                connection.acknowledge(message)
            connection.pause_reading()
            connection.resume_reading()
            assert str(await driver.lost(connection)) == str(lost)
        assert driver.done == []

    async def test_nothing_comes_after_the_block_is_left(self, rig: ConnectorRig) -> None:
        """Neither `on_message` nor `on_done` is called then; what is called on the connection does nothing."""
        out, into = rig.outbound("out"), rig.inbound("in")
        driver = _driver(rig, out, into)
        async with driver.connected() as connection:
            await rig.publish(into.routing.address, b"first")
            [first] = await driver.take(1)
            for payload in _numbered(20):
                await rig.publish(into.routing.address, payload)
            driver.publish(connection, "out", driver.envelopes("out", *_numbered(20)))
        said = len(driver.done), driver.waiting
        if first.reliable:
            connection.acknowledge(first)
        connection.pause_reading()
        connection.resume_reading()
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert (len(driver.done), driver.waiting) == said

    @needs("notices_silence", "has_network")
    async def test_a_silent_peer_is_noticed(self, rig: ConnectorRig) -> None:
        """A peer that keeps the connection open and gives no sign of life is lost, and the loss says `silent`."""
        network = _network(rig)
        driver = _driver(rig, rig.outbound("out"))
        async with driver.connected() as connection:
            network.fall_silent()
            with trio.fail_after(2 * rig.silence + 1):
                lost = await connection.wait_until_lost()
        assert lost.silent
        _check_text(rig, lost)

    @needs("notices_silence")
    async def test_a_paused_connection_is_not_taken_for_a_silent_one(self, rig: ConnectorRig) -> None:
        """While reading is paused nothing can be heard, and that is nobody's fault."""
        into = rig.inbound("in")
        driver = _driver(rig, into)
        async with driver.connected() as connection:
            connection.pause_reading()
            await rig.publish(into.routing.address, b"patient")
            with trio.move_on_after(1.6 * rig.silence):
                raise AssertionError(f"a paused connection was given up: {await connection.wait_until_lost()}")
            connection.resume_reading()
            assert [message.payload for message in await driver.take(1)] == [b"patient"]

    # Connecting

    async def test_a_peer_that_cannot_be_reached(self, rig: ConnectorRig) -> None:
        """`connect` raises `ConnectFailed`, in one line; later it works."""
        driver = _driver(rig, rig.outbound("out"))
        rig.leave()
        for _ in range(2):
            with pytest.raises(ConnectFailed) as failed:
                await _connect(driver)
            _check_text(rig, failed.value)
        rig.come_back()
        await _connect(driver)

    @needs("has_network")
    async def test_a_peer_that_does_not_answer(self, rig: ConnectorRig) -> None:
        """`connect` does not wait for ever for one that takes the connection and says nothing."""
        network = _network(rig)
        driver = _driver(rig, rig.outbound("out"))
        network.is_deaf = True
        with trio.fail_after(2 * rig.patience + 1), pytest.raises(ConnectFailed) as failed:
            await _connect(driver)
        _check_text(rig, failed.value)

    @needs("refuses")
    async def test_a_peer_that_refuses(self, rig: ConnectorRig) -> None:
        """`connect` raises `ConnectRefused`, with the reason in one line and no secret in it."""
        driver = _driver(rig, rig.outbound("out"))
        rig.refuse()
        with pytest.raises(ConnectRefused) as refused:
            await _connect(driver)
        _check_text(rig, refused.value)
        rig.come_back()
        await _connect(driver)

    @needs("has_network")
    async def test_garbage_ends_a_connection_and_nothing_else(self, rig: ConnectorRig) -> None:
        """Nonsense from the peer is an error of the family, in one printable line; the next connection works."""
        network = _network(rig)
        driver = _driver(rig, rig.outbound("out"), rig.inbound("in"))
        for garbage in (*_GARBAGE, *rig.garbage):
            async with driver.connected() as connection:
                async with move_on_when(connection.wait_until_lost):
                    await network.inject(garbage)
                network.cut(reset=False)
                _check_text(rig, await driver.lost(connection))
            network.greeting = garbage
            with trio.fail_after(2 * rig.patience + 1):
                try:
                    async with driver.connected() as connection:  # it began well
                        network.cut(reset=False)
                        error: Exception = await connection.wait_until_lost()
                except ConnectorError as exc:
                    error = exc
            _check_text(rig, error)
            network.greeting = None
        await _connect(driver)

    async def test_cancelled_anywhere_it_leaves_nothing(self, rig: ConnectorRig) -> None:
        """Wherever a connection is cancelled, no task, no thread and no descriptor of it is left."""
        out = rig.outbound("out")
        driver = _driver(rig, out)
        await _connect(driver)  # what is made once is made
        before = census()
        steps = connected = 0
        while connected < 20:
            steps += 1
            with trio.CancelScope() as scope, cancelled_after(scope, steps):
                async with driver.connected() as connection:
                    connected += 1
                    driver.publish(connection, "out", driver.envelopes("out", b"message"))
                    while True:
                        await trio.lowlevel.checkpoint()
            assert scope.cancelled_caught
        with trio.move_on_after(TIMEOUT):
            while more(before, census()):  # noqa: ASYNC110 - nobody tells
                await trio.sleep(0.001)
        assert not more(before, census())

    # The declaration

    async def test_nothing_that_is_shown_has_a_secret(self, rig: ConnectorRig) -> None:
        """`repr` of the connector, and the client's `address`, are for people and for logs."""
        connector = rig.connector(rig.outbound("out"))
        assert not rig.secret or rig.secret not in repr(connector)
        address = _driver(rig, rig.outbound("out")).client.address
        assert address.isprintable()
        assert address
        assert not rig.secret or rig.secret not in address

    async def test_what_can_not_work_is_refused_when_it_is_declared(self, rig: ConnectorRig) -> None:
        """No channels, two of one name, a routing of another protocol, metadata that it does not carry: ConfigError."""
        elsewhere = Outbound("out", bytes, _Elsewhere())
        for wrong in [], [rig.outbound("out"), rig.outbound("out")], [elsewhere]:
            with pytest.raises(ConfigError):
                rig.connector(*wrong)
        if rig.carries_metadata:
            rig.connector(rig.outbound("out", max_metadata=100))
        else:
            with pytest.raises(ConfigError):
                rig.connector(rig.outbound("out", max_metadata=100))

    async def test_declaring_it_imports_no_protocol_stack(self, rig: ConnectorRig) -> None:
        """An app's process imports what declares the connector, and must not get what only the gateway needs."""
        code = f"import sys, {rig.declared_in}; print(*sys.modules)"
        done = await trio.run_process([sys.executable, "-c", code], capture_stdout=True, stderr=subprocess.STDOUT)
        imported = set(done.stdout.decode().split())
        assert rig.declared_in in imported
        assert imported.isdisjoint(rig.protocol_stack)

    async def test_what_it_asks_of_a_run_is_well_formed(self, rig: ConnectorRig) -> None:
        """Settings have names that can be typed, each once; without values nothing changes; what to preload exists."""
        connector = rig.connector(rig.outbound("out"))
        names = [setting.name for setting in connector.settings]
        assert len(names) == len(set(names))
        assert all(re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) for name in names)
        assert all(setting.help for setting in connector.settings)
        assert connector.configured({}) == connector
        assert dict(connector.unused({})) == {}
        assert [name for name in connector.preload if importlib.util.find_spec(name) is None] == []

    async def test_a_run_is_refused_by_nothing_but_a_config_error(self, rig: ConnectorRig) -> None:
        """`preflight` passes where the peer is there; else it may refuse the run, and says so in one line."""
        connector = rig.connector(rig.outbound("out"))
        with trio.fail_after(TIMEOUT):
            await connector.preflight()
            rig.leave()
            reason = "none"
            try:
                await connector.preflight()
            except ConfigError as exc:
                reason = str(exc)
        assert reason.isprintable()
        assert not rig.secret or rig.secret not in reason

    # A gateway in this process

    async def test_a_message_there_and_back_and_a_stop_that_drains(self, rig: ConnectorRig) -> None:
        """Messages that the app has sent before it ends are published before the gateway ends."""
        out, into = rig.outbound("out"), rig.inbound("in")
        async with (
            open_program(rig.connector(out, into)) as host,
            host.open_writer(out) as writer,
            host.open_reader(into) as reader,
        ):
            with trio.fail_after(TIMEOUT):
                await host.wait_for_health(Up)
                await rig.publish(into.routing.address, b"there")
                received = await reader.receive()
                assert (received.value, received.topic) == (b"there", into.routing.address)
                for payload in _numbered(50):
                    await writer.send(payload)
        assert [payload for _, payload in await _receive(rig, 50)] == _numbered(50)

    @needs("acknowledges", "has_network")
    async def test_a_stop_waits_for_the_last_answers(self, rig: ConnectorRig) -> None:
        """The connection goes on hearing at a stop: what is on its way then is acknowledged, and the stop is quick."""
        network = _network(rig)
        out = rig.outbound("out")
        connector = rig.connector(out)
        patient = attrs.evolve(connector, options=attrs.evolve(connector.options, drain_timeout=2 * TIMEOUT))
        async with trio.open_nursery() as nursery, open_program(patient) as host:
            with trio.fail_after(TIMEOUT):
                await host.wait_for_health(Up)
                async with host.open_writer(out) as writer:
                    network.mute()
                    for payload in _numbered(5):
                        await writer.send(payload)
                    await _receive(rig, 5)

            async def answer_late() -> None:
                await trio.sleep(0.1)  # so that the stop has begun; nobody tells
                network.unmute()

            nursery.start_soon(answer_late)
            stopping = trio.current_time()
        assert trio.current_time() - stopping < TIMEOUT

    async def test_it_connects_again_and_again(self, rig: ConnectorRig) -> None:
        """While the peer can't be reached the connector is `Connecting`, tries with delays, and comes `Up` at last."""
        out = rig.outbound("out")
        rig.leave()
        async with open_program(rig.connector(out)) as host:
            with trio.fail_after(TIMEOUT):
                for _ in range(3):
                    await rig.next_attempt()
                assert isinstance(host.health(), Connecting)
                rig.come_back()
                await host.wait_for_health(Up)

    @needs("refuses")
    async def test_a_refusal_is_down_and_tried_again_later(self, rig: ConnectorRig) -> None:
        """A refused connector is `Down` with the time of its next attempt; `revive` has it try at once."""
        rig.refuse()
        async with open_program(rig.connector(rig.outbound("out"))) as host:
            with trio.fail_after(TIMEOUT):
                state = await host.wait_for_health(Down)
                assert isinstance(state, Down)
                assert state.next_attempt is not None
                assert not rig.secret or rig.secret not in str(state)
                rig.come_back()
                host.revive_gateway()
                await host.wait_for_health(Up)

    @needs("acknowledges", "redelivers")
    async def test_lost_connections_lose_no_message_and_no_order(self, rig: ConnectorRig) -> None:
        """Both ways each message arrives at least once, and first arrives in order, however often the line is cut."""
        out, into = rig.outbound("out"), rig.inbound("in", window=4)  # less than is on its way
        payloads = _numbered(120)
        sent, came = list[bytes](), list[bytes]()
        async with (
            open_program(rig.connector(out, into)) as host,
            host.open_writer(out) as writer,
            host.open_reader(into) as reader,
            trio.open_nursery() as nursery,
        ):

            async def send() -> None:
                for payload in payloads:
                    await writer.send(payload)

            async def ask() -> None:
                for number, payload in enumerate(payloads):
                    await rig.publish(into.routing.address, payload)
                    if number % 30 == 29:
                        await host.wait_for_health(Up, Degraded)
                        rig.cut()

            async def watch() -> None:
                while len(set(sent)) < len(payloads):
                    sent.append((await rig.receive())[1])

            async def read() -> None:
                while len(set(came)) < len(payloads):
                    came.append((await reader.receive()).value)

            with trio.fail_after(2 * TIMEOUT):
                await host.wait_for_health(Up)
                for task in (send, ask, watch, read):
                    nursery.start_soon(task)
        assert _first_of_each(sent) == payloads
        assert _first_of_each(came) == payloads

    @needs("redelivers")
    async def test_what_the_app_is_not_done_with_comes_to_the_next_run_and_nothing_else_does(
        self, rig: ConnectorRig
    ) -> None:
        """A stop acknowledges what the app is done with, and nothing else: neither what it has in hand nor the rest."""
        into = rig.inbound("in", window=4)
        connector, name = rig.connector(into), f"conformance-{uuid.uuid4().hex[:12]}"
        try:
            async with open_program(connector, name) as host, host.open_reader(into) as reader:
                with trio.fail_after(TIMEOUT):
                    await host.wait_for_health(Up)
                    for payload in _numbered(9):
                        await rig.publish(into.routing.address, payload)
                    assert [(await reader.receive()).value for _ in range(3)] == _numbered(3)
                raise _AppFailed  # with the third in hand
        except* _AppFailed:
            pass
        came = list[bytes]()
        async with open_program(connector, name) as host, host.open_reader(into) as reader:
            with trio.fail_after(TIMEOUT):
                await host.wait_for_health(Up, Degraded)  # the channel may be full already
                await rig.publish(into.routing.address, b"last")
                while b"last" not in came:
                    came.append((await reader.receive()).value)
        Domain(name).forget()
        assert came == [*_numbered(7, 2), b"last"]

    @needs("redelivers")
    async def test_an_app_that_does_not_read_loses_nothing(self, rig: ConnectorRig) -> None:
        """Reliable messages wait while the app is slow, over a lost connection too, in a backlog that has a limit."""
        into = rig.inbound("in", window=2)
        connector = rig.connector(into)
        short = attrs.evolve(connector, options=attrs.evolve(connector.options, inbound_backlog=4_000))
        payloads = _numbered(40)
        came = list[bytes]()
        async with open_program(short) as host, host.open_reader(into) as reader:
            with trio.fail_after(TIMEOUT):
                await host.wait_for_health(Up)
                for payload in payloads:
                    await rig.publish(into.routing.address, payload)
                await host.wait_for_health(Degraded)  # no more is taken from the peer
                came.append((await reader.receive()).value)
                rig.cut()
                while len(set(came)) < len(payloads):
                    came.append((await reader.receive()).value)
        assert _first_of_each(came) == payloads

    @needs("has_network")
    async def test_garbage_does_not_end_the_gateway(self, rig: ConnectorRig) -> None:
        """A peer that says nonsense costs a connection: the connector is never `Down`, and connects again."""
        network = _network(rig)
        out = rig.outbound("out")
        async with open_program(rig.connector(out)) as host:
            events = host.health_events()
            with trio.fail_after(TIMEOUT):
                await host.wait_for_health(Up)
                for garbage in _GARBAGE:
                    await network.inject(garbage)
                    network.cut(reset=False)
                    await network.next_attempt()
                    await host.wait_for_health(Up)
                async with host.open_writer(out) as writer:
                    await writer.send(b"after all")
                assert (await rig.receive())[1] == b"after all"
            assert not any(isinstance(event.after, Down) for event in _events(events.receive_nowait))

    # Processes

    @needs("acknowledges", "redelivers", "has_echo")
    async def test_a_killed_gateway_loses_no_message_and_no_order(self, rig: ConnectorRig) -> None:
        """In the split shape: kill -9 while messages are on their way, and each comes back, the first time in order."""
        echo = rig.echo
        assert echo is not None
        payloads, came = _numbered(200), list[bytes]()
        async with open_split(echo) as run:
            with trio.fail_after(3 * TIMEOUT):
                gateway = await run.gateway(1)
                while not came:  # it subscribes when it is ready; what comes before that may be for nobody
                    await rig.publish(echo.request, b"hello")
                    with trio.move_on_after(0.1):
                        came.append((await rig.receive())[1])
                for payload in payloads[:100]:
                    await rig.publish(echo.request, payload)
                while len(set(came)) < 30:
                    came.append((await rig.receive())[1])
                os.kill(gateway, signal.SIGKILL)
                for payload in payloads[100:]:
                    await rig.publish(echo.request, payload)
                while len(set(came)) < 1 + len(payloads):
                    came.append((await rig.receive())[1])
                assert await run.gateway(2) != gateway
                assert await run.stop() == 0
        assert _first_of_each(came) == [b"hello", *payloads]


class _AppFailed(Exception):
    """What an app raises."""


class _Elsewhere(Routing):
    """The routing of a protocol that no connector speaks."""

    @property
    def address(self) -> str:
        return "elsewhere"

    @property
    def is_pattern(self) -> bool:
        return False

    def check(self, direction: str) -> None: ...


def _network(rig: ConnectorRig) -> Network:
    assert rig.network is not None
    return rig.network


def _driver(rig: ConnectorRig, *channels: Any) -> Driver:
    return Driver(rig.connector(*channels), f"conformance-{uuid.uuid4().hex[:12]}")


async def _connect(driver: Driver) -> None:
    async with driver.connected():
        pass


async def _answered(driver: Driver, connection: Connection) -> None:
    """Wait until the peer has answered something that was sent now, and so has read all that was sent before."""
    done = len(driver.done)
    driver.publish(connection, "out", driver.envelopes("out", b"a question"))
    await driver.until_done(done + 1)


async def _receive(rig: ConnectorRig, count: int) -> list[tuple[str, bytes]]:
    with trio.fail_after(TIMEOUT):
        return [await rig.receive() for _ in range(count)]


def _numbered(count: int, start: int = 0) -> list[bytes]:
    return [b"%d" % number for number in range(start, start + count)]


def _first_of_each(payloads: Iterable[bytes]) -> list[bytes]:
    return list(dict.fromkeys(payloads))


def _check_text(rig: ConnectorRig, error: Exception) -> None:
    """Check that the error is one of the seam's, and its text one printable line of bounded length without secrets."""
    text = str(error)
    assert isinstance(error, ConnectFailed | ConnectRefused | ConnectionLost), f"{error!r} is of another family"
    assert text.isprintable(), f"{text!r} has what a terminal would obey"
    assert 0 < len(text) < 1000
    assert not rig.secret or rig.secret not in text


def _events(receive_nowait: Callable[[], HealthEvent]) -> list[HealthEvent]:
    events = []
    with contextlib.suppress(trio.WouldBlock):
        while True:
            events.append(receive_nowait())
    return events
