"""One set of observers sees the app's items and the gateway's pumps, in every shape."""

from __future__ import annotations

import signal

import pytest

from taktora_trio import ConfigError, Deployment
from taktora_trio.executor import Observer
from taktora_trio.transport.domain import Domain
from tests.command import open_run
from tests.executor.apps import app, observed
from tests.mosquitto import Mosquitto


@pytest.mark.parametrize(
    ("target", "mode"),
    [("observed", "in-process"), ("observed_in_thread", "in-process"), ("observed", "split")],
)
async def test_observers_see_both_halves(target: str, mode: str, broker: Mosquitto, domain: Domain) -> None:
    async with open_run(f"tests.executor.apps:{target}", mode, broker, domain) as run:
        for line in (
            "timer slack 1 ns, garbage collection leaves out True",
            "started send",
            "started receive",
            "started gateway.mqtt",
            "imported beside gateway.mqtt: []",  # the session that is the default needs no library
            "cycle send Tick",
            "cycle notice Transition",
            "cycle gateway.mqtt Ready",
            "event receive received {'value': 7}",
        ):
            await run.until_printed(line)
        run.signal(signal.SIGTERM)
        assert await run.wait(10) == 0
    assert "Traceback" not in "".join(run.stderr)


def test_what_is_no_observer() -> None:
    with pytest.raises(ConfigError, match=r"deployment 'x': .* is no observer"):
        Deployment("x", app, observed.connectors, observers=[Observer])  # type: ignore[list-item]
