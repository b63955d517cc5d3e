"""Which channel may publish of its backlog: a rate for all, priorities, and a share for the others."""

from __future__ import annotations

from taktora_trio.connectors.storing.catching_up import SHARE, CatchUp


def test_a_rate_is_for_all_channels_together() -> None:
    catch_up = CatchUp({}, rate=10)
    times, now = [], 0.0
    for number in range(21):
        channel = "ab"[number % 2]
        now += catch_up.delay(channel, now)
        assert catch_up.delay(channel, now) == 0
        catch_up.take(channel, now)
        times.append(now)
    assert 1.99 <= times[-1] <= 2.01


def test_what_was_not_used_is_not_saved_up() -> None:
    catch_up = CatchUp({}, rate=10)
    catch_up.take("a", 0)
    took = 0
    while catch_up.delay("a", 1000) == 0:
        catch_up.take("a", 1000)
        took += 1
    assert took == 1


def test_a_lower_priority_has_a_share() -> None:
    catch_up = CatchUp({"high": 1, "low": 0})
    catch_up.begins("high", 0)
    catch_up.begins("low", 0)
    order = []
    for _ in range(3 * (SHARE + 1)):
        channel = "low" if catch_up.delay("low", 0) == 0 else "high"
        catch_up.take(channel, 0)
        order.append(channel)
    assert order == [*["high"] * SHARE, "low"] * 3


def test_a_channel_that_could_publish_and_does_not_holds_up_no_other() -> None:
    catch_up = CatchUp({"high": 1, "low": 0})
    catch_up.begins("high", 0)
    catch_up.begins("low", 0)
    assert catch_up.delay("low", 0.5) > 0
    assert catch_up.delay("low", 1.5) == 0


def test_a_channel_without_a_backlog_holds_up_no_other() -> None:
    catch_up = CatchUp({"high": 1, "low": 0})
    catch_up.begins("high", 0)
    catch_up.begins("low", 0)
    catch_up.ends("high")
    assert catch_up.delay("low", 0) == 0
