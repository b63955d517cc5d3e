"""Contradictions of a policy: fields that cancel out, and fields that may be meant so, but surprise."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NoReturn

import attrs

from taktora_trio.errors import ConfigError
from taktora_trio.supervision.explain.delays import sum_of_delays
from taktora_trio.supervision.explain.figures import duration, three_digits
from taktora_trio.supervision.explain.search import first_where
from taktora_trio.supervision.policy import RestartPolicy

__all__ = ["check", "surprises"]

_ROUNDING = 1e-9


def check(policy: RestartPolicy) -> None:
    """Raise `ConfigError` if two fields of the policy cancel out. It names both, and what to change."""
    if policy.restart == "never":
        if policy.on_exhausted == "escalate":
            raise ConfigError(
                "restart=never and on_exhausted=escalate cancel out: what is never restarted never escalates;"
                " use on_exhausted=give_up, or restart=on-failure with intensity=0 to end all at the first failure"
            )
        return
    if policy.intensity == 0 and policy.on_exhausted == "give_up":
        raise ConfigError(
            f"restart={policy.restart} and intensity=0 cancel out: not one restart is granted;"
            " use intensity=1 or more, or restart=never"
        )
    if policy.restart == "on-failure" and policy.stop_grace == 0:
        raise ConfigError(
            "restart=on-failure and stop_grace=0 cancel out: a process that ends by itself gets no time to do so,"
            " and is killed, which counts as a failure; use stop_grace=2, or restart=always"
        )
    waiting = sum_of_delays(policy)(policy.intensity)
    if waiting > policy.period * (1 + _ROUNDING):
        _refuse(policy, waiting)


def surprises(policy: RestartPolicy) -> Iterator[str]:
    """Yield a sentence for each thing that may be meant so, but surprises."""
    backoff = policy.backoff
    if policy.restart == "never":
        yield "restart=never, so the backoff, intensity, period and on_exhausted have no effect"
        return
    if policy.intensity and backoff.factor == 1 and backoff.maximum > backoff.initial:
        yield f"factor=1, so the delay stays at {duration(backoff.initial)} and maximum has no effect"
    if policy.intensity and backoff.jitter == 1:
        yield "jitter=1, so a delay may be next to nothing"
    if policy.stop_grace == 0:
        yield "stop_grace=0, so what it has not sent when it is stopped is lost"


def _refuse(policy: RestartPolicy, waiting: float) -> NoReturn:
    backoff, restarts, period = policy.backoff, policy.intensity, policy.period

    def fits(**changes: Any) -> bool:
        changed = attrs.evolve(policy, backoff=attrs.evolve(backoff, **changes))
        return sum_of_delays(changed)(restarts) <= period

    if fits(maximum=backoff.initial):
        low, high = backoff.initial, backoff.maximum
        while high - low > 1e-4 * low:
            middle = (low + high) / 2
            low, high = (middle, high) if fits(maximum=middle) else (low, middle)
        first = f"maximum={backoff.maximum:g}"
        use = f"maximum={max(three_digits(low, math.floor), backoff.initial):.15g} or less"
    else:
        total = sum_of_delays(policy)
        fewer = first_where(0, restarts, lambda count: total(count + 1) > period)
        first = f"intensity={restarts}"
        use = f"intensity={fewer} or less" if fewer else "shorter delays"
    many = f"the {restarts} delays up to the last restart add up" if restarts > 1 else "the delay comes"
    raise ConfigError(
        f"{first} and period={period:g} cancel out: {many} to {duration(waiting)}, so {restarts}"
        f" restart{'s' * (restarts > 1)} and one failure more never lie within {duration(period)};"
        f" use {use}, or period={three_digits(waiting, math.ceil):.15g} or more"
    )
