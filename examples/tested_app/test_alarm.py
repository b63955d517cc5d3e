"""What is promised of the alarm, with everything outside the app in the tests' hands."""

from __future__ import annotations

import pytest

from examples.tested_app.alarm import ALARMS, LEVELS, Alarm, Level, deployment
from taktora_trio import Up
from taktora_trio.testing import NothingCame, OpenApp


async def test_it_is_raised_once_and_cleared_once(open_app: OpenApp) -> None:
    async with open_app(deployment) as app:
        for percent in (50.0, 91.0, 95.0, 85.0, 91.0, 79.0, 70.0):
            await app.publish(LEVELS, Level(percent))
        assert (await app.expect(ALARMS)).value == Alarm("raised", 91.0)
        assert (await app.expect(ALARMS)).value == Alarm("cleared", 79.0)
        with pytest.raises(NothingCame):
            await app.expect(ALARMS, timeout=1)


async def test_a_killed_gateway_changes_nothing(open_app: OpenApp) -> None:
    async with open_app(deployment) as app:
        await app.publish(LEVELS, Level(91.0))
        assert (await app.expect(ALARMS)).value.state == "raised"
        app.kill_gateway()
        await app.wait_for_health(Up)
        await app.publish(LEVELS, Level(95.0))  # it is raised already
        await app.publish(LEVELS, Level(10.0))
        assert (await app.expect(ALARMS)).value == Alarm("cleared", 10.0)


async def test_what_is_no_level_is_left_out(open_app: OpenApp) -> None:
    async with open_app(deployment) as app:
        await app.publish(LEVELS, b"high!")
        await app.publish(LEVELS, Level(91.0))
        assert (await app.expect(ALARMS)).value == Alarm("raised", 91.0)
