"""What to subscribe to, by what the broker has refused."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taktora_trio.connectors.mqtt.filters import ChannelFilters
from taktora_trio.connectors.mqtt.topics import covers
from tests.mqtt.rig import inbound


def ask(filters: ChannelFilters, refused: Mapping[str, str]) -> list[dict[str, int]]:
    """Ask a broker that refuses these, until nothing is due."""
    asked = []
    while due := filters.due:
        asked.append(due)
        filters.answered(due, {name: reason for name, reason in refused.items() if name in due})
    return asked


def filters_of(**filters: str) -> ChannelFilters:
    return ChannelFilters(
        inbound(name, topic_filter, qos % 3) for qos, (name, topic_filter) in enumerate(filters.items())
    )


@pytest.mark.parametrize(
    ("filters", "refused", "asked", "down"),
    [
        ({"a": "x/#", "b": "x/y", "c": "z"}, [], [{"x/#": 1, "z": 2}], ""),
        ({"a": "x/#", "b": "x/y", "c": "z"}, ["x/#"], [{"x/#": 1, "z": 2}, {"x/y": 1}], "a"),
        ({"a": "x/#", "b": "x/+", "c": "x/y"}, ["x/#", "x/+"], [{"x/#": 2}, {"x/+": 2}, {"x/y": 2}], "ab"),
        ({"a": "x/#", "b": "x/y", "c": "z"}, ["x/#", "x/y", "z"], [{"x/#": 1, "z": 2}, {"x/y": 1}], "acb"),
        ({"a": "x", "b": "x"}, ["x"], [{"x": 1}], "ab"),
        ({"a": "$share/g/x", "b": "y"}, ["$share/g/x"], [{"$share/g/x": 0, "y": 1}], "a"),
    ],
)
def test_a_refusal_takes_down_the_channels_of_its_filter_alone(
    filters: dict[str, str], refused: list[str], asked: list[dict[str, int]], down: str
) -> None:
    ours = filters_of(**filters)
    for _ in range(2):
        ours.forget()
        assert ask(ours, dict.fromkeys(refused, "Not authorized")) == asked
        assert ours.complaints == [
            f"channel {name}: the broker refuses the subscription to {filters[name]!r} (Not authorized)"
            for name in down
        ]


def test_asked_again_only_what_was_refused_is_and_what_it_covers_is_well_too() -> None:
    ours = filters_of(a="x/#", b="x/y", c="z")
    ours.forget()
    ask(ours, {"x/#": "busy", "x/y": "busy"})
    ours.again()
    assert ask(ours, {"x/#": "busy"}) == [{"x/#": 1}, {"x/y": 1}]
    assert len(ours.complaints) == 1
    ours.again()
    assert ask(ours, {}) == [{"x/#": 1}]
    assert ours.complaints == []
    ours.forget()
    assert ask(ours, {}) == [{"x/#": 1, "z": 2}]


_FILTERS = ["a", "a/b", "a/c", "a/+", "a/#", "+/b", "#", "b/#"]


@given(st.sets(st.sampled_from(_FILTERS), min_size=1), st.sets(st.sampled_from(_FILTERS)))
def test_each_channel_is_subscribed_or_complains(wanted: set[str], refused: set[str]) -> None:
    names = {f"c{number}": topic_filter for number, topic_filter in enumerate(sorted(wanted))}
    ours = filters_of(**names)
    asked = ask(ours, dict.fromkeys(refused, "no"))
    granted = {name for some in asked for name in some} - refused
    for channel, topic_filter in names.items():
        gets = any(covers(wide, topic_filter) for wide in granted)
        assert gets != any(complaint.startswith(f"channel {channel}:") for complaint in ours.complaints)
        assert gets or topic_filter in refused
