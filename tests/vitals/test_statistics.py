"""The app's own figures: exact, now, and in the memory shape as anywhere."""

from __future__ import annotations

import attrs
import pytest
from trio.testing import MockClock

from taktora_trio import ConfigError, Connecting, ConnectorHost, Up
from taktora_trio.testing import open_app
from taktora_trio.vitals import ConnectorVitals
from tests.testing.greenhouse import HEATER, READINGS, Heater, Reading, deployment

NO_APP = attrs.evolve(deployment, app=None)


async def test_an_app_reads_its_figures_exactly(autojump_clock: MockClock) -> None:
    async with open_app(NO_APP) as app:
        host: ConnectorHost = app.host
        await app.wait_for_health(Up)
        before = host.statistics()
        assert [(one.name, one.messages) for one in before.channels] == [("readings", 0), ("heater", 0)]
        assert before.connectors["mqtt"].health == "Up"
        async with host.open_reader(READINGS) as reader, host.open_writer(HEATER) as heater:
            for celsius in (3.0, 20.0):
                await app.publish("greenhouse/east/reading", Reading(celsius))
            await reader.receive()
            now = host.statistics().channel("readings")
            assert (now.messages, now.done, now.in_use) == (2, 0, 2)
            await reader.receive()
            assert host.statistics().channel("readings").done == 1

            await heater.send(Heater(on=True))
            sent = host.statistics().channel("heater")
            assert (sent.messages, sent.payload_bytes, sent.in_use, sent.waited) == (1, len(b'{"on":true}'), 1, 0)
            assert sent.oldest == sent.age == 0.0
            await app.expect("heater")
            await heater.wait_acknowledged()
            sent = host.statistics().channel("heater", connector="mqtt")
            assert (sent.in_use, sent.acknowledged, sent.oldest) == (0, 1, None)
        with pytest.raises(ConfigError, match="no channel 'other'"):
            host.statistics().channel("other")


async def test_figures_tell_what_could_not_be_read_and_how_long_messages_wait(autojump_clock: MockClock) -> None:
    async with open_app(NO_APP) as app, app.host.open_reader(READINGS) as reader:
        await app.publish("greenhouse/east/reading", b"nonsense")
        await app.publish("greenhouse/east/reading", Reading(3.0))
        await reader.receive()
        readings = app.host.statistics().channel("readings")
        assert (readings.rejected, readings.redelivered) == (1, 0)
        reader_statistics = reader.statistics()
        assert reader_statistics.rejected == readings.rejected


async def test_a_lost_connection_is_in_the_figures(autojump_clock: MockClock) -> None:
    async with open_app(NO_APP) as app:
        await app.wait_for_health(Up)
        async with app.unreachable():
            app.cut()
            await app.wait_for_health(Connecting)
            lost = app.host.statistics().connectors["mqtt"]
            assert (lost.health, lost.cause != "") == ("Connecting", True)
        await app.wait_for_health(Up)
        again = app.host.statistics().connectors["mqtt"]
        assert isinstance(again, ConnectorVitals)
        assert (again.health, again.cause) == ("Up", "")
        assert again.since > lost.since
