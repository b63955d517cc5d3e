"""The restart policy: an operator's decisions. One class, for tasks and for processes."""

from __future__ import annotations

import math
from typing import Any, Literal

import attrs

from taktora_trio.errors import ConfigError
from taktora_trio.supervision.backoff import Backoff

__all__ = ["RestartPolicy"]

_WORDS = {"restart": ("always", "on-failure", "never"), "on_exhausted": ("give_up", "escalate")}


@attrs.frozen(kw_only=True)
class RestartPolicy:
    """The decisions when, how soon and how often to restart, and how long a start, a silence and a stop may take.

    Times in seconds. `restart` has OTP's meanings under systemd's names: `always` (OTP: permanent), `on-failure`
    (transient), `never` (temporary). Raises `ConfigError` naming the field that can't be.

    At most `intensity` restarts are granted within `period` seconds, as to a child of an OTP supervisor; but only
    uptime counts as time here. What an instance spends waiting and starting gives nothing back, so one that is ready
    again and again and then fails is given up, too. After a run of `period` seconds the backoff starts over.
    """

    restart: Literal["always", "on-failure", "never"] = "on-failure"
    """After which ends it is started again."""
    backoff: Backoff = Backoff(initial=0.1, maximum=5.0)
    """The delays before it is started again."""
    intensity: int = 10
    """At most so many restarts are granted within `period`."""
    period: float = 60.0
    """The uptime within which restarts are counted."""
    on_exhausted: Literal["give_up", "escalate"] = "give_up"
    """At one failure more than `intensity`, `give_up` leaves it down and the rest alive, until somebody revives it;
    `escalate` ends the whole deployment with a nonzero exit code."""
    start_timeout: float = 20.0
    """A process that takes longer to be ready is killed, which counts as a crash (TimeoutStartSec= of a unit)."""
    watchdog: float | None = 10.0
    """A process that gives no sign of life for longer is killed (WatchdogSec=); `None` for never. Not for tasks."""
    stop_grace: float = 2.0
    """The time between the polite request to stop and the forced end (TimeoutStopSec=)."""

    def __attrs_post_init__(self) -> None:
        for field, words in _WORDS.items():
            if getattr(self, field) not in words:
                raise ConfigError(f"{field} is {getattr(self, field)!r}; use {' or '.join(map(repr, words))}")
        if not isinstance(self.backoff, Backoff):
            raise ConfigError(f"backoff is {self.backoff!r}; it must be a Backoff")
        for field in ("intensity", "period", "start_timeout", "watchdog", "stop_grace"):
            value = getattr(self, field)
            if isinstance(value, bool) or not (
                isinstance(value, int | float) or (field == "watchdog" and value is None)
            ):
                raise ConfigError(f"{field} is {value!r}; it must be a number")
        if not self.intensity >= 0:
            raise ConfigError(f"intensity is {self.intensity!r}; it must be at least 0 restarts")
        for field in ("period", "start_timeout"):
            if not getattr(self, field) > 0:
                raise ConfigError(f"{field} is {getattr(self, field)!r}; it must be more than 0 seconds")
        if self.watchdog is not None and not 0 < self.watchdog < math.inf:
            raise ConfigError(f"watchdog is {self.watchdog!r}; it must be more than 0 seconds, or off")
        if not self.stop_grace >= 0:
            raise ConfigError(f"stop_grace is {self.stop_grace!r}; it must be at least 0 seconds")

    def changed(self, text: str) -> RestartPolicy:
        """Return the policy with some fields changed, which are written as `intensity=3,period=30,maximum=2`.

        The fields of the backoff go by their own names; `watchdog=off` means none. Raises `ConfigError`.
        """
        changes: dict[str, Any] = {}
        backoff: dict[str, float] = {}
        for part in text.split(","):
            name, equals, value = (piece.strip() for piece in part.partition("="))
            if not equals or not value:
                raise ConfigError(f"policy {part.strip()!r} is no NAME=VALUE: write for example intensity=3,period=30")
            if name in _WORDS:
                changes[name] = value
            elif name == "intensity":
                changes[name] = _number(name, value, int)
            elif name == "watchdog" and value == "off":
                changes[name] = None
            elif name in ("period", "start_timeout", "watchdog", "stop_grace"):
                changes[name] = _number(name, value, float)
            elif name in BACKOFF_FIELDS:
                backoff[name] = _number(name, value, float)
            else:
                raise ConfigError(f"a policy has no field {name!r}; it has {', '.join(POLICY_FIELDS)}")
        return attrs.evolve(self, **changes, backoff=attrs.evolve(self.backoff, **backoff))

    def __str__(self) -> str:
        """Return all fields, as `changed` reads them."""
        watchdog = "off" if self.watchdog is None else f"{self.watchdog:g}"
        return (
            f"restart={self.restart},{self.backoff},intensity={self.intensity},period={self.period:g},"
            f"on_exhausted={self.on_exhausted},start_timeout={self.start_timeout:g},watchdog={watchdog},"
            f"stop_grace={self.stop_grace:g}"
        )


BACKOFF_FIELDS = tuple(field.name for field in attrs.fields(Backoff))
POLICY_FIELDS = tuple(
    name
    for field in attrs.fields(RestartPolicy)
    for name in (BACKOFF_FIELDS if field.name == "backoff" else (field.name,))
)


def _number(name: str, value: str, kind: type[int] | type[float]) -> Any:
    try:
        return kind(value)
    except ValueError:
        what = "whole number" if kind is int else "number"
        raise ConfigError(f"{name} is {value!r}; it must be a {what}") from None
