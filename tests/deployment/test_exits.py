"""How an app ends its run: with an exit code of its own, or by an error that says where it was raised."""

from __future__ import annotations

import inspect

import pytest

from taktora_trio import Domain
from tests.client import open_client
from tests.command import MODES, open_run, run_command
from tests.deployment import exiting_apps
from tests.mosquitto import Mosquitto

APPS = "tests.deployment.exiting_apps"


@pytest.mark.parametrize("mode", MODES)
async def test_an_exit_is_an_end_with_that_code_and_what_was_sent_is_published(
    mode: str, broker: Mosquitto, domain: Domain
) -> None:
    """It is no failure: the plugin is not started again."""
    async with open_client(broker.port, "test/exits") as client:
        async with open_run(f"{APPS}:seven", mode, broker, domain) as run:
            assert await run.wait() == 7
        assert (await client.receive()).payload == b'"the last one"'
    assert len(run.events("process-started")) == (2 if mode == "split" else 0)
    assert "Traceback" not in "".join(run.stderr)


async def test_an_exit_of_a_plugin_alone(domain: Domain) -> None:
    code, _, _ = await run_command("plugin", f"{APPS}:text", "--domain", domain.name)
    assert code == 1


@pytest.mark.parametrize(
    ("mode", "name", "expected", "told"),
    [("in-process", "text", 1, "that is all"), ("split", "text", 1, "that is all"), ("in-process", "nothing", 0, "")],
)
async def test_other_exits_are_as_everywhere(mode: str, name: str, expected: int, told: str, domain: Domain) -> None:
    code, _, stderr = await run_command("run", f"{APPS}:{name}", "--mode", mode, "--domain", domain.name)
    assert code == expected
    assert any(line.endswith(told) for line in stderr.splitlines())
    assert "Traceback" not in stderr


@pytest.mark.parametrize("mode", MODES)
async def test_an_error_of_ours_says_where_in_the_app_it_was_raised(mode: str, domain: Domain) -> None:
    lines = inspect.getsource(exiting_apps).splitlines()
    line = next(number for number, text in enumerate(lines, 1) if "# HERE" in text)
    code, _, stderr = await run_command("run", f"{APPS}:undeclared", "--mode", mode, "--domain", domain.name)
    assert code == 2
    told = next(text for text in stderr.splitlines() if "taktora-trio: " in text and "belongs to no connector" in text)
    assert told.endswith(f" ({exiting_apps.__file__}:{line})")
    assert "Traceback" not in stderr
