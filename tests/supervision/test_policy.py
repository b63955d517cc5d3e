from __future__ import annotations

import contextlib
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taktora_trio import Backoff, ConfigError, RestartPolicy
from taktora_trio.supervision.policy import BACKOFF_FIELDS, POLICY_FIELDS

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("restart", "sometimes"),
        ("restart", None),
        ("on_exhausted", "panic"),
        ("on_exhausted", ""),
        ("intensity", -1),
        ("intensity", NAN),
        ("period", 0),
        ("period", -5.0),
        ("period", NAN),
        ("start_timeout", 0),
        ("start_timeout", -1),
        ("start_timeout", NAN),
        ("watchdog", 0),
        ("watchdog", -1),
        ("watchdog", NAN),
        ("watchdog", INF),
        ("stop_grace", -0.1),
        ("stop_grace", NAN),
        ("intensity", "3"),
        ("period", None),
        ("start_timeout", True),
        ("watchdog", "off"),
        ("stop_grace", b"2"),
        ("backoff", 5),
    ],
)
def test_each_error_names_its_field(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"^{field} is {value!r}"):
        RestartPolicy(**{field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [("intensity", 0), ("stop_grace", 0), ("watchdog", None), ("period", INF), ("restart", "never")],
)
def test_what_is_at_the_bounds_is_allowed(field: str, value: Any) -> None:
    assert getattr(RestartPolicy(**{field: value}), field) == value


# As people write them: `str` shows six digits.
numbers = st.builds(lambda digits, places: round(digits / 10**places, 6), st.integers(1, 99999), st.integers(0, 5))
backoffs = st.builds(
    lambda initial, more, factor, jitter: Backoff(
        initial=initial, maximum=max(initial, more), factor=1 + factor, jitter=jitter
    ),
    numbers,
    numbers,
    st.sampled_from([0, 0.5, 1, 2.25, 9]),
    st.sampled_from([0, 0.125, 0.5, 1]),
)
policies = st.builds(
    RestartPolicy,
    restart=st.sampled_from(["always", "on-failure", "never"]),
    backoff=backoffs,
    intensity=st.integers(0, 10**9),
    period=numbers,
    on_exhausted=st.sampled_from(["give_up", "escalate"]),
    start_timeout=numbers,
    watchdog=st.none() | numbers,
    stop_grace=numbers | st.just(0),
)


@given(policies, policies)
def test_what_a_policy_is_shown_as_makes_it_of_any_other(policy: RestartPolicy, other: RestartPolicy) -> None:
    assert other.changed(str(policy)) == policy


@given(policies, st.data())
def test_only_what_is_named_changes(policy: RestartPolicy, data: st.DataObject) -> None:
    other = data.draw(policies)
    shown = dict(part.split("=") for part in str(other).split(","))
    free = [name for name in POLICY_FIELDS if name not in ("initial", "maximum")]  # which depend on each other
    names = data.draw(st.lists(st.sampled_from(free), min_size=1, unique=True))
    changed = policy.changed(",".join(f" {name} = {shown[name]} " for name in names))
    for name in POLICY_FIELDS:
        source = other if name in names else policy
        if name in BACKOFF_FIELDS:
            assert getattr(changed.backoff, name) == getattr(source.backoff, name)
        else:
            assert getattr(changed, name) == getattr(source, name)


def test_some_fields_changed() -> None:
    policy = RestartPolicy(restart="always").changed("intensity=3,period=30,watchdog=off,maximum=2")
    assert policy == RestartPolicy(
        restart="always",
        intensity=3,
        period=30,
        watchdog=None,
        backoff=attrs.evolve(RestartPolicy().backoff, maximum=2),
    )


def test_every_field_can_be_changed_and_is_shown() -> None:
    assert set(POLICY_FIELDS) == {part.split("=")[0] for part in str(RestartPolicy()).split(",")}
    assert len(POLICY_FIELDS) == len(attrs.fields(RestartPolicy)) - 1 + len(attrs.fields(Backoff))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "policy '' is no NAME=VALUE"),
        ("intensity", "policy 'intensity' is no NAME=VALUE"),
        ("intensity=", "policy 'intensity=' is no NAME=VALUE"),
        ("intensity=3,", "policy '' is no NAME=VALUE"),
        ("speed=3", "a policy has no field 'speed'; it has restart, initial, maximum, factor, jitter, intensity"),
        ("=3", "a policy has no field ''"),
        ("backoff=3", "a policy has no field 'backoff'"),
        ("intensity=many", "intensity is 'many'; it must be a whole number"),
        ("intensity=2.5", "intensity is '2.5'; it must be a whole number"),
        ("intensity=nan", "intensity is 'nan'; it must be a whole number"),
        ("period=long", "period is 'long'; it must be a number"),
        ("period=off", "period is 'off'; it must be a number"),
        ("watchdog=no", "watchdog is 'no'; it must be a number"),
        ("maximum=x", "maximum is 'x'; it must be a number"),
        ("restart=sometimes", "restart is 'sometimes'; use 'always' or 'on-failure' or 'never'"),
        ("on_exhausted=panic", "on_exhausted is 'panic'; use 'give_up' or 'escalate'"),
        ("period=0", "period is 0.0; it must be more than 0 seconds"),
        ("period=nan", "period is nan; it must be more than 0 seconds"),
        ("maximum=0.01", "backoff maximum is 0.01; it must be at least initial (0.1)"),
        ("intensity=-1", "intensity is -1; it must be at least 0 restarts"),
    ],
)
def test_what_cannot_be_changed_so(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        RestartPolicy().changed(text)
    assert str(caught.value).startswith(message)


@given(st.text(max_size=40) | st.lists(st.sampled_from([*POLICY_FIELDS, "=", ",", "1", "off", "nan"])).map("".join))
def test_any_other_text_is_a_config_error(text: str) -> None:
    with contextlib.suppress(ConfigError):
        assert isinstance(RestartPolicy().changed(text), RestartPolicy)
