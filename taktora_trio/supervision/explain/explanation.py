"""A policy in figures, worked out before anything is started. Pure, and derived from `engine`."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import msgspec

from taktora_trio.errors import ConfigError
from taktora_trio.supervision.backoff import Backoff
from taktora_trio.supervision.explain.contradictions import check, surprises
from taktora_trio.supervision.explain.delays import growing_delays, longest_delay, sum_of_delays
from taktora_trio.supervision.explain.figures import duration
from taktora_trio.supervision.explain.worst_hour import most_restarts
from taktora_trio.supervision.policy import RestartPolicy

__all__ = ["Explanation", "Spread", "explain", "explain_all", "to_json"]

_HOUR = 3600.0
_TELLING = 0.5  # seconds at most, in which a hung process may say where it hangs before it is killed
_SERIES = 64  # delays at most in an explanation

_MEANING = {
    "always": "Started again whenever it ends, also if it ends well.",
    "on-failure": "Started again when it fails, and not when it ends well (a process: with exit code 0).",
    "never": "Never started again: it is given up at its first failure.",
}
_NOT_ONCE = {
    "always": "Never started again: its first end is one too many.",
    "on-failure": "Never started again: its first failure is one too many.",
}


@attrs.frozen
class Spread:
    """A time in seconds: without jitter, and at both ends of the jitter."""

    nominal: float
    shortest: float
    longest: float

    @classmethod
    def of(cls, nominal: float, backoff: Backoff) -> Spread:
        """Spread a time by the jitter of a backoff."""
        return cls(nominal, nominal * (1 - backoff.jitter), nominal * (1 + backoff.jitter))

    def __str__(self) -> str:
        if self.shortest == self.longest:
            return duration(self.nominal)
        return f"{duration(self.nominal)} ({duration(self.shortest)} to {duration(self.longest)})"


@attrs.frozen(kw_only=True)
class Explanation:
    """A policy in figures. Times in seconds; the time of starting and ending is not in them."""

    policy: RestartPolicy
    meaning: str
    """The meaning of `restart`, in a sentence."""
    delays: tuple[Spread, ...]
    """The delays until they grow no more; of a series that grows slowly, its beginning."""
    failures: int
    """The failures without uptime between them, after which it is given up."""
    until_given_up: Spread
    """The delays from the first of those failures to the last."""
    until_given_up_unready: float
    """The longest time from the first start, if it is never ready, and each time is killed for that."""
    restarts_an_hour: int
    """The most restarts without being given up."""
    bursts: int
    """The bursts in which those come, with a run of just over `period` seconds between."""
    hang_to_restart: float | None
    """The longest time from a hang to the next start; `None` if it is never noticed, or never started again."""
    stall_to_restart: float | None
    """The same for a process whose loop goes on, and whose work does not."""
    notes: tuple[str, ...]
    """Things that may be meant so, but surprise."""


def explain(policy: RestartPolicy) -> Explanation:
    """Work out the figures of a policy. (`contradictions.check` refuses one that contradicts itself.)"""
    backoff = policy.backoff
    restarts = 0 if policy.restart == "never" else policy.intensity
    waits = sum_of_delays(policy)
    longest = longest_delay(backoff) * (1 + backoff.jitter)
    most, bursts = most_restarts(policy, _HOUR)
    hang = policy.watchdog + _TELLING + longest if policy.watchdog is not None and restarts else None
    return Explanation(
        policy=policy,
        meaning=_MEANING[policy.restart] if restarts or policy.restart == "never" else _NOT_ONCE[policy.restart],
        delays=tuple(Spread.of(delay, backoff) for delay in growing_delays(backoff, _SERIES)),
        failures=restarts + 1,
        until_given_up=Spread.of(waits(restarts), backoff),
        until_given_up_unready=waits(restarts) * (1 + backoff.jitter)
        + (restarts + 1) * (policy.start_timeout + _TELLING),
        restarts_an_hour=most,
        bursts=bursts,
        hang_to_restart=hang,
        # It looks at its work four times in a watchdog period, and gives no sign once that has stood still twice.
        stall_to_restart=None if hang is None or policy.watchdog is None else hang + policy.watchdog / 2,
        notes=tuple(surprises(policy)),
    )


def explain_all(policies: Mapping[str, RestartPolicy]) -> dict[str, Explanation]:
    """Explain each, by the half that it is for (or an empty name). Raises `ConfigError` if one contradicts itself."""
    explained = {}
    for half, policy in policies.items():
        explained[half] = explain(policy)
        try:
            check(policy)
        except ConfigError as exc:
            raise ConfigError(f"the {half}'s policy: {exc}" if half else str(exc)) from exc
    return explained


def to_json(explained: Mapping[str, Explanation]) -> bytes:
    """Return all explanations for machines. Times without end are null."""
    return msgspec.json.format(msgspec.json.encode({half or "policy": e for half, e in explained.items()}), indent=2)
