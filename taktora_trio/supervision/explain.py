"""What a restart policy comes to, worked out before anything is started. Pure, and derived from what `engine` does.

The worst hour: between a restart and the `intensity`-th after it, more than `period` seconds of uptime must lie, or it
is given up. Nothing else takes time but the delays, and these are shortest if that uptime is a single run, after which
they start over. So the most restarts are bursts of at most `intensity` failures at once, with a run of just over
`period` seconds between them; shorter bursts, where the delays of longer ones take more time than another run.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

import attrs
import msgspec

from taktora_trio.errors import ConfigError
from taktora_trio.supervision.backoff import Backoff
from taktora_trio.supervision.policy import RestartPolicy

__all__ = ["Explanation", "Spread", "explain", "explain_all", "most_restarts", "to_json", "to_text"]

_HOUR = 3600.0
_TELLING = 0.5  # seconds at most, in which a hung process may tell where it hangs before it is killed
_SERIES = 64  # delays at most in an explanation
_SHOWN = 8  # of them in a line
_ROUNDING = 1e-9

_MEANING = {
    "always": "Started again whenever it ends, also if it ends well.",
    "on-failure": "Started again when it fails, and not when it ends well (a process: with exit code 0).",
    "never": "Never started again: it is given up at its first failure.",
}
_NOT_ONCE = {
    "always": "Never started again: its first end is one too many.",
    "on-failure": "Never started again: its first failure is one too many.",
}
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
        return f"{_time(self.nominal)} ({_time(self.shortest)} to {_time(self.longest)})"


@attrs.frozen(kw_only=True)
class Explanation:
    """What a policy comes to. Times in seconds; what starting and ending take is not in them."""

    policy: RestartPolicy
    meaning: str
    """Of `restart`, in a sentence."""
    delays: tuple[Spread, ...]
    """Until they grow no more; of a series that grows slowly, its beginning."""
    failures: int
    """So many without uptime between them, and it is given up."""
    until_given_up: Spread
    """The delays from the first of those failures to the last."""
    until_given_up_unready: float
    """At most so long from the first start, if it is never ready, and each time is killed for that."""
    restarts_an_hour: int
    """At most so many, without being given up."""
    bursts: int
    """In that case they come in so many bursts, with a run of just over `period` seconds between."""
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
        waiting = self.until_given_up.nominal
        if waiting > policy.period * (1 + _ROUNDING):
            _refuse(policy, waiting)

    def table(self, half: str = "") -> str:
        """For people; `half` is `gateway` or `plugin`, where it is known whose policy it is."""
        policy = self.policy
        rows = []
        if self.failures > 1:
            worst = f"{self.restarts_an_hour} restarts, and still not given up"
            rows += [("delays", _series(self.delays, policy.backoff))]
            if policy.period < math.inf:
                runs, uptime = f"runs of just over {_time(policy.period)}", f" within {_time(policy.period)} of uptime"
                rows += [("", f"from the first again after a run of {_time(policy.period)}")]
                if self.bursts > 1:
                    most = -(-self.restarts_an_hour // self.bursts)
                    worst = f"{worst}: in {self.bursts} bursts of {most} at most, with {runs} between"
            else:
                uptime = ""
            rows += [
                ("given up", f"at the {_nth(self.failures)} failure{uptime}"),
                ("", f"if it fails at once each time, after {self.until_given_up} of delays"),
                ("", f"if it is never ready, after {_time(self.until_given_up_unready)} at most"),
                ("worst hour", worst),
            ]
        rows += [
            ("exhausted", _ON_EXHAUSTED[policy.on_exhausted if policy.restart != "never" else "give_up"][half]),
            ("start", f"killed if it is not ready within {_time(policy.start_timeout)}"),
            ("hang", self._hang()),
        ]
        if self.hang_to_restart is not None and self.stall_to_restart is not None:
            work = f"{_time(self.stall_to_restart)} if its loop goes on and its work does not"
            rows += [("", f"starts again at most {_time(self.hang_to_restart)} after it hung ({work})")]
        rows += [("stop", f"killed if it has not ended {_time(policy.stop_grace)} after SIGTERM")]
        lines = [self.meaning, *(f"  {name:<10}  {what}" for name, what in rows)]
        lines += [*(f"Note: {note}." for note in self.notes), f"In full: {policy}"]
        return "\n".join([f"{half}:", *(f"  {line}" for line in lines)] if half else lines)

    def _hang(self) -> str:
        if self.policy.watchdog is None:
            return "not noticed, since watchdog=off"
        return f"killed after {_time(self.policy.watchdog)} without a sign of life"


def explain(policy: RestartPolicy) -> Explanation:
    """Work out what the policy comes to. Contradictions are told by `check`."""
    backoff = policy.backoff
    restarts = 0 if policy.restart == "never" else policy.intensity
    waits = _waits(policy)
    longest = _last(backoff) * (1 + backoff.jitter)
    most, bursts = most_restarts(policy, _HOUR)
    hang = policy.watchdog + _TELLING + longest if policy.watchdog is not None and restarts else None
    return Explanation(
        policy=policy,
        meaning=_MEANING[policy.restart] if restarts or policy.restart == "never" else _NOT_ONCE[policy.restart],
        delays=tuple(Spread.of(delay, backoff) for delay in _delays(backoff, _SERIES)),
        failures=restarts + 1,
        until_given_up=Spread.of(waits(restarts), backoff),
        until_given_up_unready=waits(restarts) * (1 + backoff.jitter)
        + (restarts + 1) * (policy.start_timeout + _TELLING),
        restarts_an_hour=most,
        bursts=bursts,
        hang_to_restart=hang,
        # It tells of its work four times in a watchdog period, and is silent once that has stood still twice.
        stall_to_restart=None if hang is None or policy.watchdog is None else hang + policy.watchdog / 2,
        notes=tuple(_notes(policy)),
    )


def explain_all(policies: Mapping[str, RestartPolicy]) -> dict[str, Explanation]:
    """Explain each, by the half that it is for (or an empty name). Raises `ConfigError` if one contradicts itself."""
    explained = {}
    for half, policy in policies.items():
        explained[half] = explain(policy)
        try:
            explained[half].check()
        except ConfigError as exc:
            raise ConfigError(f"the {half}'s policy: {exc}" if half else str(exc)) from exc
    return explained


def to_text(explained: Mapping[str, Explanation]) -> str:
    """For people."""
    return "\n\n".join(explanation.table(half) for half, explanation in explained.items())


def to_json(explained: Mapping[str, Explanation]) -> bytes:
    """For machines; times without end are null."""
    return msgspec.json.format(msgspec.json.encode({half or "policy": e for half, e in explained.items()}), indent=2)


def most_restarts(policy: RestartPolicy, seconds: float) -> tuple[int, int]:
    """How many restarts there can be in less than so many seconds without its being given up, and in how many bursts.

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
        return _first(fewest, restarts, lambda bursts: span(restarts, bursts) <= span(restarts, bursts + 1))

    def shortest(restarts: int) -> float:
        return span(restarts, best(restarts))

    too_many = policy.intensity * (int(seconds / policy.period) + 2)
    most = _first(1, too_many, lambda restarts: shortest(restarts + 1) >= seconds)
    return most, best(most)


def _first(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """The first number from `low` for which it holds, as for all after it; `high` if it does for none before."""
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low


def _middle() -> float:
    return 0.5


def _last(backoff: Backoff) -> float:
    """The delay after which none is longer, without jitter."""
    return backoff.initial if backoff.factor == 1 else backoff.maximum


def _delays(backoff: Backoff, restarts: int) -> list[float]:
    """So many delays without jitter, up to the first of those that grow no more."""
    delays: list[float] = []
    for attempt in range(restarts):
        delays.append(backoff.delay(attempt, _middle))
        if delays[-1] == _last(backoff):
            break
    return delays


def _waits(policy: RestartPolicy) -> Callable[[int], float]:
    """How long the first so many delays are together, without jitter."""
    growing = _delays(policy.backoff, policy.intensity)
    sums = list(itertools.accumulate(growing, initial=0.0))

    def waits(count: int) -> float:
        return sums[count] if count < len(sums) else sums[-1] + (count - len(growing)) * _last(policy.backoff)

    return waits


def _refuse(policy: RestartPolicy, waiting: float) -> NoReturn:
    backoff, restarts, period = policy.backoff, policy.intensity, policy.period

    def fits(**changes: Any) -> bool:
        changed = attrs.evolve(policy, backoff=attrs.evolve(backoff, **changes))
        return _waits(changed)(restarts) <= period

    if fits(maximum=backoff.initial):
        low, high = backoff.initial, backoff.maximum
        while high - low > 1e-4 * low:
            middle = (low + high) / 2
            low, high = (middle, high) if fits(maximum=middle) else (low, middle)
        first = f"maximum={backoff.maximum:g}"
        use = f"maximum={max(_rounded(low, math.floor), backoff.initial):.15g} or less"
    else:
        waits = _waits(policy)
        fewer = _first(0, restarts, lambda count: waits(count + 1) > period)
        first = f"intensity={restarts}"
        use = f"intensity={fewer} or less" if fewer else "shorter delays"
    many = f"the {restarts} delays up to the last restart add up" if restarts > 1 else "the delay comes"
    raise ConfigError(
        f"{first} and period={period:g} cancel out: {many} to {_time(waiting)}, so {restarts}"
        f" restart{'s' * (restarts > 1)} and one failure more never lie within {_time(period)};"
        f" use {use}, or period={_rounded(waiting, math.ceil):.15g} or more"
    )


def _notes(policy: RestartPolicy) -> Iterator[str]:
    backoff = policy.backoff
    if policy.restart == "never":
        yield "restart=never, so the backoff, intensity, period and on_exhausted have no effect"
        return
    if policy.intensity and backoff.factor == 1 and backoff.maximum > backoff.initial:
        yield f"factor=1, so the delay stays at {_time(backoff.initial)} and maximum has no effect"
    if policy.intensity and backoff.jitter == 1:
        yield "jitter=1, so a delay may be next to nothing"
    if policy.stop_grace == 0:
        yield "stop_grace=0, so what it has not sent when it is stopped is lost"


def _series(delays: Sequence[Spread], backoff: Backoff) -> str:
    growing = [_time(delay.nominal) for delay in delays if delay.nominal < _last(backoff)]
    if len(growing) > _SHOWN:
        growing[_SHOWN - 1 :] = ["..."]
    then = "then " if growing else ""
    spread = f", up to {100 * backoff.jitter:g} % shorter or longer" if backoff.jitter else ""
    return ", ".join([*growing, f"{then}{_time(_last(backoff))} each time"]) + spread


def _rounded(value: float, to: Callable[[float], int]) -> float:
    """To three digits, down or up."""
    step = 10.0 ** (math.floor(math.log10(value)) - 2)
    return float(f"{to(value / step) * step:.3g}")


def _number(seconds: float) -> str:
    return f"{seconds:.3g}" if seconds < 1000 else f"{seconds:.0f}"


def _time(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 10 * size:
            return f"{_number(seconds / size)} {unit}"
    return f"{_number(seconds)} s"


def _nth(count: int) -> str:
    suffix = "th" if 10 <= count % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(count % 10, "th")
    return f"{count}{suffix}"
