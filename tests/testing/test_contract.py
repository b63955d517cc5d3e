"""The same tests, as an app's author writes them, in every shape: the same calls give the same results.

What comes twice after a fault depends on what was on its way: only at QoS 2 it is the same in each shape.
"""

from __future__ import annotations

import pytest

from taktora_trio import Connecting, Degraded, Down, Metadata, Up
from taktora_trio.testing import AppFailed, NothingCame, OpenApp, Shape
from tests.testing.contract_app import FORWARDED, TOLD, Job, Report, answering, ending, failing, forwarding

pytestmark = pytest.mark.taktora_shape("memory", "in-process", "split")
heavy = pytest.mark.taktora_shape("memory", "in-process", pytest.param("split", marks=pytest.mark.chaos))


async def test_messages_of_each_qos_with_all_that_comes_with_them(open_app: OpenApp) -> None:
    async with open_app(answering) as app:
        for qos, guarantee in enumerate(("at most once", "at least once", "exactly once")):
            for number in (10, 20, 30):
                await app.publish(f"asked/{qos}", Job(number))
            told = [await app.expect(f"told{qos}") for _ in range(3)]
            assert [(sent.topic, sent.value, sent.guarantee, sent.retained, sent.channel) for sent in told] == [
                (f"told/{qos}", Job(number), guarantee, False, f"told{qos}") for number in (11, 21, 31)
            ]
        metadata = Metadata(content_type="text/x", response_topic="to/me", user_properties=(("a", "1"), ("a", "2")))
        await app.publish("asked/1", b'{"number": 1}', metadata=metadata, correlation_id=b"\0\1", qos=1)
        sent = await app.expect(TOLD[1])
        assert (sent.payload, sent.metadata, sent.correlation_id) == (b'{"number":2}', metadata, b"\0\1")
        await app.publish("time", Job(5))
        state = await app.expect("state")
        assert (state.value, state.retained) == (Job(5), True)
        assert (await app.expect("report")).value.count == 1
        # A payload that can't be read ends no app.
        await app.publish("asked/0", b"no JSON")
        assert isinstance(await app.wait_for_health(Degraded), Degraded)
        for number in (40, 50):
            await app.publish("asked/2", Job(number))
        assert (await app.expect("told/#", where=lambda sent: sent.value.number > 41)).value == Job(51)
        assert (await app.expect("told/#")).value == Job(41)
        with pytest.raises(NothingCame, match=r"nothing came on 'told0' within 0\.2 s; health: mqtt"):
            await app.expect("told0", timeout=0.2)
        assert [sent.value.number for sent in app.sent("told2")] == [11, 21, 31, 41, 51]


async def test_what_goes_wrong_passes_and_nothing_is_lost(open_app: OpenApp) -> None:
    async with open_app(answering) as app:
        await app.publish("asked/2", Job(0))
        await app.expect("told2")

        app.cut()
        assert isinstance(await app.wait_for_health(Connecting), Connecting)
        await app.publish("asked/2", Job(10))
        assert (await app.expect("told2")).value == Job(11)

        await app.wait_for_health(Up)
        async with app.unreachable():
            await app.wait_for_health(Connecting)
            await app.publish("asked/2", Job(20))
            assert len(app.sent("told2")) == 2
        assert (await app.expect("told2")).value == Job(21)

        await app.wait_for_health(Up)
        async with app.refused():
            assert await app.wait_for_health(Down) == Down("the broker refused the login: Not authorized")
            await app.publish("asked/2", Job(30))
        await app.revive()
        assert (await app.expect("told2")).value == Job(31)

        await app.wait_for_health(Up)
        app.kill_gateway()
        down = await app.wait_for_health(Down)
        assert isinstance(down, Down)
        # The supervisor says "incarnation 1 ended"; the kernel alone tells of a process, where that is known first.
        assert " ended" in down.reason
        await app.publish("asked/2", Job(40))
        assert (await app.expect("told2")).value == Job(41)
        assert [sent.value.number for sent in app.sent("told2")] == [1, 11, 21, 31, 41]  # none twice


@heavy
async def test_a_slow_broker_and_a_full_channel(open_app: OpenApp) -> None:
    async with open_app(answering) as app:
        async with app.slow(0.3):
            await app.publish("time", Job(1))
            assert (await app.expect("state")).value == Job(1)
            slow = (await app.expect("report")).value
            assert slow.seconds >= 0.3
        async with app.full():
            await app.publish("fill", Job(2))
            assert (await app.expect("report")).value == Report(4, text="Degraded")
            assert isinstance(await app.wait_for_health(Degraded), Degraded)
            assert [(await app.expect("state")).value for _ in range(4)] == [Job(2)] * 4
            await app.publish("asked/0", Job(3))  # at QoS 0 nobody waits
            assert (await app.expect("told0")).value == Job(4)
        await app.publish("time", Job(5))
        assert (await app.expect("state")).value == Job(5)
        await app.wait_for_health(Up)


async def test_each_connector_fails_alone(open_app: OpenApp) -> None:
    async with open_app(forwarding) as app:
        await app.wait_for_health(Up, connector="cloud")
        await app.publish("plant/press/measured", Job(1))
        assert (await app.expect(FORWARDED)).value == Report(1, text="plant/press/measured")
        async with app.unreachable("plant"):
            await app.wait_for_health(Connecting, connector="plant")
            assert isinstance(app.health("cloud"), Up)
            # At QoS 0 the broker keeps nothing for whoever is away, but what is retained.
            await app.publish("plant/press/measured", Job(2))
            await app.publish("plant/oven/measured", Job(3), retain=True)
        assert (await app.expect("cloud/#")).value == Report(3, text="plant/oven/measured retained")
        async with app.unreachable("cloud"):
            await app.wait_for_health(Connecting, connector="cloud")
            await app.publish("plant/saw/measured", Job(4))
            assert [sent.value.count for sent in app.sent(FORWARDED)] == [1, 3]
        assert (await app.expect(FORWARDED)).value == Report(4, text="plant/saw/measured")
        assert {sent.connector for sent in app.sent()} == {"cloud"}


@heavy
async def test_an_app_that_returns_and_one_that_fails(open_app: OpenApp, taktora_shape: Shape) -> None:
    async with open_app(ending, settings={"app.times": "3", "app.prefix": "x"}) as app:
        assert (await app.expect("report")).value == Report(3, text="x")
        await app.publish("time", Job(7))
        await app.wait_until_ended()
        assert [sent.value for sent in app.sent("state")] == [Job(7)]
    # The exception itself is in another process there, and its traceback in the text.
    kind = AppFailed if taktora_shape == "split" else ValueError
    with pytest.raises(kind, match="the sensor is broken"):
        await until_failed(open_app)


async def until_failed(open_app: OpenApp) -> None:
    async with open_app(failing) as app:
        await app.publish("time", Job(8))
        await app.wait_until_ended()
