"""The README's first example, as it stands there: in both shapes, and whatever others publish to its topics."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from taktora_trio.transport.domain import Domain
from tests.client import open_client
from tests.command import MODES, ROOT, open_run
from tests.mosquitto import Mosquitto


def _first_example() -> str:
    found = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("mode", MODES)
async def test_it_survives_garbage(mode: str, broker: Mosquitto, domain: Domain, tmp_path: Path) -> None:
    (tmp_path / "greenhouse.py").write_text(_first_example())
    env = {"PYTHONPATH": str(tmp_path)}
    async with (
        open_client(broker.port) as client,
        open_run("greenhouse:deployment", mode, broker, domain, env=env) as run,
    ):
        await run.until_printed("greenhouse/north/reading Reading(celsius=21.5)")
        for garbage in (b"garbage", b"", b"\xff\x00", b'{"celsius": "warm"}', b"[" * 1000):
            client.publish("greenhouse/south/reading", garbage)
        client.publish("greenhouse/south/reading", b'{"celsius": 3}')
        await run.until_printed("greenhouse/south/reading Reading(celsius=3.0)")
        await run.until_printed("Degraded (channel all gets messages that can't be read)")
        await run.until_event("message-unreadable", "(4 so far)", "greenhouse/south/reading")
        run.signal(signal.SIGINT)
        assert await run.wait(10) == 0
    assert "Traceback" not in "".join(run.stderr)
