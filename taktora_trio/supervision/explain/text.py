"""Explanations of policies, as a table for people."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from taktora_trio.supervision.backoff import Backoff
from taktora_trio.supervision.explain.delays import longest_delay
from taktora_trio.supervision.explain.explanation import Explanation, Spread
from taktora_trio.supervision.explain.figures import duration, ordinal
from taktora_trio.supervision.policy import RestartPolicy

__all__ = ["table", "to_text"]

_SHOWN = 8  # delays in a line

_ON_EXHAUSTED = {
    "give_up": {
        "": "it stays down and the rest goes on, until it is revived",
        "gateway": "it stays down and the app goes on, until it is revived (taktora-trio revive)",
        "plugin": "the run ends, with the plugin's exit code or 1: without its app there is nothing left to run",
    },
    "escalate": {
        "": "the whole deployment ends, with a nonzero exit code",
        "gateway": "the whole run ends, with exit code 1",
        "plugin": "the run ends, with the plugin's exit code or 1, as with give_up",
    },
}


def to_text(explained: Mapping[str, Explanation]) -> str:
    """Return all explanations, by the half that each is for (or an empty name)."""
    return "\n\n".join(table(explanation, half) for half, explanation in explained.items())


def table(explanation: Explanation, half: str = "") -> str:
    """Return an explanation for people. `half` is `gateway` or `plugin` if it is known whose policy it is."""
    policy = explanation.policy
    rows = _restarts(explanation) if explanation.failures > 1 else []
    rows += [
        ("exhausted", _ON_EXHAUSTED[policy.on_exhausted if policy.restart != "never" else "give_up"][half]),
        ("start", f"killed if it is not ready within {duration(policy.start_timeout)}"),
        ("hang", _hang(policy)),
    ]
    if explanation.hang_to_restart is not None and explanation.stall_to_restart is not None:
        work = f"{duration(explanation.stall_to_restart)} if its loop goes on and its work does not"
        rows += [("", f"starts again at most {duration(explanation.hang_to_restart)} after it hung ({work})")]
    rows += [("stop", f"killed if it has not ended {duration(policy.stop_grace)} after SIGTERM")]
    lines = [explanation.meaning, *(f"  {name:<10}  {what}" for name, what in rows)]
    lines += [*(f"Note: {note}." for note in explanation.notes), f"In full: {policy}"]
    return "\n".join([f"{half}:", *(f"  {line}" for line in lines)] if half else lines)


def _restarts(explanation: Explanation) -> list[tuple[str, str]]:
    policy, period = explanation.policy, duration(explanation.policy.period)
    worst = f"{explanation.restarts_an_hour} restarts, and still not given up"
    rows = [("delays", _series(explanation.delays, policy.backoff))]
    uptime = ""
    if policy.period < math.inf:
        uptime = f" within {period} of uptime"
        rows += [("", f"from the first again after a run of {period}")]
        if explanation.bursts > 1:
            most = -(-explanation.restarts_an_hour // explanation.bursts)
            bursts = f"in {explanation.bursts} bursts of {most} at most, with runs of just over {period} between"
            worst = f"{worst}: {bursts}"
    return [
        *rows,
        ("given up", f"at the {ordinal(explanation.failures)} failure{uptime}"),
        ("", f"if it fails at once each time, after {explanation.until_given_up} of delays"),
        ("", f"if it is never ready, after {duration(explanation.until_given_up_unready)} at most"),
        ("worst hour", worst),
    ]


def _hang(policy: RestartPolicy) -> str:
    if policy.watchdog is None:
        return "not noticed, since watchdog=off"
    return f"killed after {duration(policy.watchdog)} without a sign of life"


def _series(delays: Sequence[Spread], backoff: Backoff) -> str:
    growing = [duration(delay.nominal) for delay in delays if delay.nominal < longest_delay(backoff)]
    if len(growing) > _SHOWN:
        growing[_SHOWN - 1 :] = ["..."]
    then = "then " if growing else ""
    spread = f", up to {100 * backoff.jitter:g} % shorter or longer" if backoff.jitter else ""
    return ", ".join([*growing, f"{then}{duration(longest_delay(backoff))} each time"]) + spread
