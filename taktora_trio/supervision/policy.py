"""When something that ended is started again. Pure: a function of the policy, the history and the time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, TypeAlias

import attrs

from taktora_trio.errors import ConfigError
from taktora_trio.supervision.backoff import Backoff

__all__ = ["Decision", "Finish", "GiveUp", "Restart", "RestartHistory", "RestartPolicy"]


@attrs.frozen(kw_only=True)
class RestartPolicy:
    """When to restart, how soon, how often, and what a stop may take. The same class for tasks and for processes.

    `restart` has OTP's meanings under systemd's names: `always` (OTP: permanent), `on-failure` (transient), `never`
    (temporary). After more than `intensity` restarts within `period` seconds it is given up for good, as an OTP
    supervisor terminates when its maximum restart intensity is exceeded. The backoff starts over once the last run
    lasted `period` seconds.
    """

    restart: Literal["always", "on-failure", "never"] = "on-failure"
    backoff: Backoff = Backoff(initial=0.1, maximum=5.0)
    intensity: int = 10
    period: float = 60.0
    stop_grace: float = 2.0
    """Seconds between the polite request to stop and the forced end."""

    def __attrs_post_init__(self) -> None:
        if self.restart not in ("always", "on-failure", "never"):
            raise ConfigError(f"restart is {self.restart!r}; use 'always', 'on-failure' or 'never'")
        if self.intensity < 0:
            raise ConfigError(f"intensity is {self.intensity!r}; it must be at least 0 restarts")
        if not self.period > 0:
            raise ConfigError(f"period is {self.period!r}; it must be more than 0 seconds")
        if not self.stop_grace >= 0:
            raise ConfigError(f"stop_grace is {self.stop_grace!r}; it must be at least 0 seconds")


@attrs.frozen
class Restart:
    """Start again after `delay` seconds."""

    delay: float


@attrs.frozen
class Finish:
    """It ended as it may; nothing more is to be done."""


@attrs.frozen
class GiveUp:
    """It failed too often. Terminal, and never silent."""

    reason: str


Decision: TypeAlias = Restart | Finish | GiveUp


@attrs.define
class RestartHistory:
    """What a decision depends on besides the policy. `now` is any clock in seconds that only goes forward."""

    policy: RestartPolicy
    _restarts: list[float] = attrs.field(factory=list, init=False)
    _delays: Iterator[float] | None = attrs.field(default=None, init=False)

    def decide(
        self, *, failed: bool, started: float, now: float, random: Callable[[], float] | None = None
    ) -> Decision:
        """What to do about a run that began at `started` and has just ended."""
        policy = self.policy
        if policy.restart == "never" or (policy.restart == "on-failure" and not failed):
            return Finish() if not failed else GiveUp("its policy is never to restart it")
        self._restarts = [at for at in self._restarts if now - at < policy.period]
        if len(self._restarts) >= policy.intensity:
            return GiveUp(f"it ended {len(self._restarts) + 1} times within {policy.period:g} s")
        self._restarts.append(now)
        if self._delays is None or now - started >= policy.period:
            self._delays = policy.backoff.delays(random) if random else policy.backoff.delays()
        return Restart(next(self._delays))
