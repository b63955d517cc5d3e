"""Runs an app, and gives it what a recording has: on a virtual clock, or in real time."""

from __future__ import annotations

from typing import Literal

import msgspec
import trio
from trio.testing import MockClock
from trio_util import move_on_when

from taktora_trio.connectors.peer import Published
from taktora_trio.errors import ConnectorError, summary
from taktora_trio.health import Degraded, Up
from taktora_trio.replay.plan import Expected, Plan
from taktora_trio.runners.configuration.from_program import ProgramSettings
from taktora_trio.runners.deployment import Deployment
from taktora_trio.testing.backend import Backend, Broker, Run, Shape, backend_for
from taktora_trio.testing.journal import Journal, channel_of

__all__ = ["How", "Played", "play"]

_CONNECTING = 20.0  # seconds
_AFTERWARDS = 1.0  # seconds for which the app may still send what the last message was answered by


class How(msgspec.Struct, frozen=True, kw_only=True):
    """How the app is run."""

    target: str
    clock: Literal["virtual", "real"] = "virtual"
    shape: Shape = "memory"
    broker: Broker = None
    settings: ProgramSettings = {}


class Played(msgspec.Struct, frozen=True):
    """What the app has sent, by connector and channel, with seconds from the first message that it was given."""

    sent: dict[tuple[str, str], list[Expected]]
    given: int
    has_ended: bool
    """True if the app has returned before it was given everything."""


class _Noting(Journal):
    """It also knows when each message came."""

    def __init__(self, deployment: Deployment) -> None:
        super().__init__(deployment.connectors)
        self._by_name = {connector.name: connector for connector in deployment.connectors}
        self.start = trio.current_time()
        self.noted: dict[tuple[str, str], list[Expected]] = {}

    def add(self, connector: str, published: Published) -> None:
        channel = channel_of(self._by_name[connector], published.topic)
        if channel is not None:  # else it is nothing of the app's, as a last will
            at = trio.current_time() - self.start
            one = Expected(at=at, topic=published.topic, payload=published.payload)
            self.noted.setdefault((connector, channel.name), []).append(one)
        self.wake()


def play(plan: Plan, deployment: Deployment, how: How) -> Played:
    """Run the app with what the recording has, and return what it has sent.

    Raises `ConfigError` for what can't be run so, and `ConnectorError` if the app fails.
    """
    clock = MockClock(autojump_threshold=0) if how.clock == "virtual" else None
    return trio.run(_play, plan, deployment, how, clock=clock)


async def _play(plan: Plan, deployment: Deployment, how: How) -> Played:
    journal, scope = _Noting(deployment), trio.CancelScope()
    run = Run(journal, scope, how.target, how.broker, how.settings)
    given = 0
    has_ended = False
    async with backend_for(how.shape)(deployment, run) as backend:
        with scope:
            await _connect(plan, backend, run)
            journal.start = trio.current_time()
            async with move_on_when(_until_ended, run, journal):
                for message in plan.given:
                    await trio.sleep_until(journal.start + message.at)
                    await backend.publish(
                        message.connector,
                        message.topic,
                        message.payload,
                        metadata=message.metadata,
                        correlation_id=message.correlation_id,
                        retain=False,
                    )
                    given += 1
                await trio.sleep_until(journal.start + plan.seconds + _AFTERWARDS)
            has_ended = run.has_ended
    if run.failure is not None:
        raise ConnectorError(f"the app has failed after {given} messages: {summary(run.failure)}") from run.failure
    return Played(journal.noted, given, has_ended)


async def _connect(plan: Plan, backend: Backend, run: Run) -> None:
    """Wait until its gateway can receive. Raises `ConnectorError` if that takes too long."""
    with trio.move_on_after(_CONNECTING) as patience:
        async with move_on_when(_until_ended, run, run.journal):
            for connector in dict.fromkeys(message.connector for message in plan.given):
                await backend.wait_for_health(connector, (Up, Degraded))
    if patience.cancelled_caught:
        states = ", ".join(f"{name} {state}" for name, state in backend.states().items())
        raise ConnectorError(f"the app's gateway has not connected in {_CONNECTING:g} s: {states}")


async def _until_ended(run: Run, journal: Journal) -> None:
    while not run.has_ended:
        await journal.wait()
