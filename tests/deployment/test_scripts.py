"""The runner scripts are the shapes: what the command runs, and what a user changes a copy of."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

import taktora_trio
from taktora_trio import Domain
from tests.command import MODES, ROOT, Command, open_command
from tests.mosquitto import Mosquitto

NAMES = {"in-process": "in_process", "split": "split"}
LOOK_ONCE = 'RestartPolicy(restart="always", intensity=0)'


@pytest.mark.parametrize("name", NAMES.values())
def test_a_script_is_the_module_that_the_command_runs(name: str) -> None:
    module = Path(taktora_trio.__file__).parent / "runners" / "scripts" / f"{name}.py"
    assert (ROOT / "supervisors" / f"{name}.py").samefile(module)
    text = module.read_text()
    assert len(text.splitlines()) < 130, "it is to be read in a minute"
    own = [line for line in text.splitlines() if line.startswith(("from taktora_trio", "import taktora_trio"))]
    assert own == ["from taktora_trio import ("], "public names alone"


def changed(mode: str, folder: Path, *changes: tuple[str, str]) -> str:
    """A user's copy."""
    text = (ROOT / "supervisors" / f"{NAMES[mode]}.py").read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = folder / "my_runner.py"
    path.write_text(text)
    return str(path)


async def stop(run: Command) -> None:
    run.signal(signal.SIGTERM)
    assert await run.wait(10) == 0


@pytest.mark.parametrize("mode", MODES)
async def test_a_copy_with_another_policy(mode: str, tmp_path: Path, broker: Mosquitto, domain: Domain) -> None:
    script = changed(
        mode,
        tmp_path,
        ("deployment.gateway_policy", LOOK_ONCE),
        ("from taktora_trio import (", "from taktora_trio import (\n    RestartPolicy,"),
    )
    arguments = ("tests.deployment.apps:crashing", "--broker", broker.url, "--domain", domain.name)
    async with open_command(*arguments, program=[script]) as run:
        # This gateway crashes on purpose; the deployment's own policy would start it again.
        await run.until_logged("gateway: given up", "it ended once")
        await stop(run)
