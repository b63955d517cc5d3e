"""What a restart policy comes to, worked out before anything is started. Pure, and derived from what `engine` does.

The worst hour: between a restart and the `intensity`-th after it, more than `period` seconds of uptime must lie, or it
is given up. Nothing else takes time but the delays, and these are shortest if that uptime is a single run, after which
they start over. So the most restarts are bursts of at most `intensity` failures at once, with a run of just over
`period` seconds between them; shorter bursts, where the delays of longer ones take more time than another run.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable
from typing import Any

import attrs

from taktora_trio.errors import ConfigError
from taktora_trio.supervision.backoff import Backoff
from taktora_trio.supervision.policy import RestartPolicy

__all__ = ["Explanation", "Spread", "explain", "most_restarts"]

_HOUR = 3600.0
_TELLING = 0.5  # seconds at most, in which a hung process may tell where it hangs before it is killed
_SHOWN = 8  # delays in a line
_ROUNDING = 1e-9

_MEANING = {
    "always": "Started again whenever it ends, also if it ends well.",
    "on-failure": "Started again when it fails, and not when it ends well (a process: with exit code 0).",
    "never": "Never started again: it is given up at its first failure.",
}
_BEYOND = {
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


@attrs.frozen
class Spread:
    """Seconds, without jitter and at both of its ends."""

    nominal: float
    shortest: float
    longest: float

    @classmethod
    def of(cls, nominal: float, backoff: Backoff) -> Spread:
        return cls(nominal, nominal * (1 - backoff.jitter), nominal * (1 + backoff.jitter))

    def __str__(self) -> str:
        if self.shortest == self.longest:
            return _time(self.nominal)
        return f"{_time(self.nominal)} ({_number(self.shortest)} to {_time(self.longest)})"


@attrs.frozen(kw_only=True)
class Explanation:
    """What a policy comes to. Times in seconds; what starting and ending take is not in them."""

    policy: RestartPolicy
    meaning: str
    """Of `restart`, in a sentence."""
    delays: tuple[Spread, ...]
    """Until they grow no more, or until the last that can come if it fails at once each time."""
    failures: int
    """So many without uptime between them, and it is given up."""
    until_given_up: Spread
    """The delays from the first of those failures to the last."""
    until_given_up_unready: float
    """At most so long from the first start, if it is never ready, and each time is killed for that."""
    restarts_an_hour: int
    """At most so many, without being given up."""
    burst: int
    """So many of them at once come between two runs of just over `period` seconds."""
    hang_to_restart: float | None
    """At most so long from where a process hangs to its next start; `None` if that is never noticed, or never done."""
    stall_to_restart: float | None
    """The same for one whose loop goes on, and whose work does not."""
    notes: tuple[str, ...]
    """What may be meant so, but surprises."""

    def check(self) -> None:
        """Raise `ConfigError` if two fields of the policy cancel out; it names both, and what to change."""
        policy = self.policy
        if policy.restart == "never":
            if policy.beyond == "escalate":
                raise ConfigError(
                    "restart=never and beyond=escalate cancel out: what is never restarted never escalates;"
                    " use beyond=give_up, or restart=on-failure with intensity=0 to end it all at the first failure"
                )
            return
        if policy.intensity == 0 and policy.beyond == "give_up":
            raise ConfigError(
                f"restart={policy.restart} and intensity=0 cancel out: not one restart is granted;"
                " use intensity=1 or more, or restart=never"
            )
        waiting = self.until_given_up.nominal
        if waiting > policy.period * (1 + _ROUNDING):
            _refuse(policy, waiting)

    def to_dict(self) -> dict[str, Any]:
        """For a machine to read."""
        return attrs.asdict(self)

    def table(self, half: str = "") -> str:
        """For people; `half` is `gateway` or `plugin`, where it is known whose policy it is."""
        policy = self.policy
        rows = [("delays", _series(self.delays, policy.backoff))] if self.delays else []
        if policy.restart != "never" and policy.intensity > 0:
            rows += [
                ("", f"from the first again after a run of {_time(policy.period)}"),
                ("given up", f"at the {_nth(self.failures)} failure, if it fails at once each time"),
                ("", f"after {self.until_given_up} of delays"),
                ("", f"at most {_time(self.until_given_up_unready)} after the first start, if it is never ready"),
                ("worst hour", f"{self.restarts_an_hour} restarts, and still not given up"),
                ("", f"by {_times(self.burst)} at once after each run of just over {_time(policy.period)}"),
            ]
        rows += [
            ("beyond", _BEYOND[policy.beyond if policy.restart != "never" else "give_up"][half]),
            ("start", f"killed if it is not ready within {_time(policy.start_timeout)}"),
            ("hang", self._hang()),
            ("stop", f"killed if it has not ended {_time(policy.stop_grace)} after SIGTERM"),
        ]
        lines = [half, f"  {self.meaning}", *(f"    {name:<10}  {what}" for name, what in rows)]
        lines += [f"  Note: {note}" for note in self.notes]
        return "\n".join([*(lines if half else lines[1:]), f"  {policy}"])

    def _hang(self) -> str:
        if self.policy.watchdog is None:
            return "not noticed"
        killed = f"killed after {_time(self.policy.watchdog)} without a sign of life"
        if self.hang_to_restart is None or self.stall_to_restart is None:
            return killed
        return (
            f"{killed}; it starts again at most {_time(self.hang_to_restart)} after it hung"
            f" ({_time(self.stall_to_restart)} if only its work hangs)"
        )


def explain(policy: RestartPolicy) -> Explanation:
    """Work out what the policy comes to. Contradictions are told by `check`."""
    backoff = policy.backoff
    restarts = 0 if policy.restart == "never" else policy.intensity
    waits = _waits(policy)
    longest = _last(backoff) * (1 + backoff.jitter)
    most, burst = most_restarts(policy, _HOUR)
    hang = policy.watchdog + _TELLING + longest if policy.watchdog is not None and restarts else None
    return Explanation(
        policy=policy,
        meaning=_MEANING[policy.restart],
        delays=tuple(Spread.of(delay, backoff) for delay in _delays(backoff, restarts)),
        failures=restarts + 1,
        until_given_up=Spread.of(waits(restarts), backoff),
        until_given_up_unready=waits(restarts) * (1 + backoff.jitter)
        + (restarts + 1) * (policy.start_timeout + _TELLING),
        restarts_an_hour=most,
        burst=burst,
        hang_to_restart=hang,
        # It tells of its work four times in a watchdog period, and is silent once that has stood still twice.
        stall_to_restart=None if hang is None or policy.watchdog is None else hang + policy.watchdog / 2,
        notes=tuple(_notes(policy)),
    )


def most_restarts(policy: RestartPolicy, seconds: float) -> tuple[int, int]:
    """How many restarts there can be in less than so many seconds without its being given up, and in bursts of what.

    Exact, if starting takes no time and every delay is as short as the jitter can make it.
    """
    if policy.restart == "never" or policy.intensity == 0:
        return 0, 0
    waits = _waits(policy)

    def span(restarts: int, bursts: int) -> float:
        # Delays never get shorter, so bursts of the same length take least; after the last restart comes none.
        each, more = divmod(restarts - 1, bursts)
        delays = (bursts - more) * waits(each) + more * waits(each + 1)
        return delays * (1 - policy.backoff.jitter) + ((bursts - 1) * policy.period if bursts > 1 else 0.0)

    def best(restarts: int) -> int:
        # `span` is convex in the number of bursts: the first after which it does not fall is the best.
        fewest = -(-restarts // policy.intensity)
        return bisect.bisect_left(
            range(restarts), True, lo=fewest, key=lambda bursts: span(restarts, bursts) <= span(restarts, bursts + 1)
        )

    too_many = policy.intensity * (int(seconds / policy.period) + 2)
    most = (
        bisect.bisect_left(
            range(1, too_many), True, key=lambda restarts: span(restarts, best(restarts)) >= seconds
        )
    )
    return most, -(-most // best(most))
