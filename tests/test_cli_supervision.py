"""The commands about supervision: `explain-policy`, `revive`, and the policies that `run` is told."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import attrs
import pytest
import trio

from taktora_trio.runners.this_process.signals import REVIVE
from taktora_trio.transport.domain import Domain
from tests.command import MODES, Command, open_command, open_run, run_command
from tests.mosquitto import Mosquitto
from tests.revivable_apps import CAUSE_VARIABLE

ECHO = "examples.echo:deployment"
APPS = "tests.revivable_apps"


async def refused(*arguments: str, code: int = 2) -> str:
    """Return the one line that the command printed when it refused."""
    ended, output, errors = await run_command(*arguments)
    assert ended == code, errors
    assert output == ""
    [line] = errors.splitlines()
    return line


@attrs.frozen
class Cause:
    """As long as this file is there, the gateway fails."""

    path: Path

    def mend(self) -> None:
        self.path.unlink()

    @property
    def is_mended(self) -> bool:
        return not self.path.exists()


@pytest.fixture
def cause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cause:
    path = tmp_path / "cause"
    path.touch()
    monkeypatch.setenv(CAUSE_VARIABLE, str(path))
    return Cause(path)


# explain-policy


async def test_a_policy_is_explained() -> None:
    code, output, errors = await run_command("explain-policy", "restart=always,intensity=5,period=60,maximum=10")
    assert (code, errors) == (0, "")
    assert "at the 6th failure within 60 s of uptime" in output
    assert "3.1 s (2.79 s to 3.41 s)" in output
    assert "restart=always,initial=0.1,maximum=10," in output


async def test_the_policies_of_a_deployment_are_explained_with_what_changes_them() -> None:
    code, output, _ = await run_command(
        *("explain-policy", ECHO, "--gateway-policy", "intensity=3", "--plugin-policy", "on_exhausted=escalate")
    )
    assert code == 0
    gateway, plugin = output.split("\n\n")
    assert gateway.startswith("gateway:\n")
    assert "at the 4th failure" in gateway
    assert "taktora-trio revive" in gateway
    assert plugin.startswith("plugin:\n")
    assert "on_exhausted=escalate" in plugin


async def test_without_an_argument_the_defaults_are_explained_and_are_no_contradiction() -> None:
    code, output, _ = await run_command("explain-policy", "--json")
    assert code == 0
    explained = json.loads(output)
    assert explained["gateway"]["policy"]["restart"] == "always"
    assert explained["plugin"]["policy"]["restart"] == "on-failure"
    assert explained["gateway"]["restarts_an_hour"] == 436


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["maximum=60"], ["maximum=60 and period=60 cancel out", "use maximum=17.2"]),
        (["--plugin-policy", "intensity=0"], ["the plugin's policy: ", "restart=on-failure and intensity=0"]),
        ([ECHO, "--gateway-policy", "maximum=60"], ["the gateway's policy: ", "period=103"]),
        (["intensty=3"], ["no field 'intensty'"]),
        (["period=0"], ["period is 0.0"]),
        (["intensity=3", "--gateway-policy", "intensity=4"], ["'intensity=3' is a policy", "MODULE:DEPLOYMENT"]),
        (["examples.echo:nothing"], ["'nothing'"]),
        (["examples.echo"], ["MODULE:DEPLOYMENT"]),
    ],
)
async def test_what_cannot_be_is_refused(arguments: list[str], parts: list[str]) -> None:
    line = await refused("explain-policy", *arguments)
    for part in parts:
        assert part in line


# Given up, and revived


async def until_given_up(run: Command) -> str:
    message = (await run.until_event("given-up", half="gateway"))["message"]
    assert isinstance(message, str)
    await run.until_printed("Down, given up")
    return message


@pytest.mark.parametrize("mode", MODES)
async def test_a_gateway_that_was_given_up_is_revived_by_the_command(
    mode: str, broker: Mosquitto, domain: Domain, cause: Cause
) -> None:
    async with open_run(f"{APPS}:watching", mode, broker, domain) as run:
        message = await until_given_up(run)
        assert "it ended 2 times" in message
        assert "RuntimeError: the cause is not mended" in message
        assert run.process.returncode is None, "the app goes on"
        cause.mend()
        code, output, errors = await run_command("revive", "--domain", domain.name)
        assert (code, errors) == (0, "")
        assert output == (
            f"asked the run of domain {domain.name} (pid {run.pid}): the gateway was given up, and starts again"
        )
        await run.until_event("revived", half="gateway")
        await run.until_event("health-up")
        run.signal(signal.SIGTERM)
        assert await run.wait() == 0


@pytest.mark.parametrize("mode", MODES)
async def test_revived_too_early_it_is_given_up_again_after_its_whole_budget(
    mode: str, broker: Mosquitto, domain: Domain, cause: Cause
) -> None:
    async with open_run(f"{APPS}:watching", mode, broker, domain) as run:
        await until_given_up(run)
        await run_command("revive", "--domain", domain.name)
        await run.until_event("given-up", half="gateway", count=2)
        assert len(run.events("restarting")) == 2
        run.signal(signal.SIGTERM)
        assert await run.wait() == 0


@pytest.mark.parametrize("mode", MODES)
async def test_a_gateway_that_works_is_left_alone(mode: str, broker: Mosquitto, domain: Domain, cause: Cause) -> None:
    cause.mend()
    async with open_run(f"{APPS}:watching", mode, broker, domain) as run:
        await run.until_event("health-up")
        code, output, _ = await run_command("revive", f"{APPS}:watching", "--domain", domain.name)
        assert (code, output.partition("): ")[2]) == (0, "mqtt: is connected, so there is nothing to revive")
        run.signal(signal.SIGTERM)
        assert await run.wait() == 0
        assert not run.events("revived")
        assert len(run.events("health-up")) == 1


@pytest.mark.parametrize("mode", MODES)
async def test_the_app_may_have_it_revived(mode: str, broker: Mosquitto, domain: Domain, cause: Cause) -> None:
    async with open_run(f"{APPS}:mending", mode, broker, domain) as run:
        await run.until_printed("mends it: incarnation 2 ended")
        await run.until_event("revived", half="gateway")
        await run.until_event("health-up")
        assert await run.wait() == 0
    assert cause.is_mended


async def test_of_a_target_the_domain_is_the_deployments_name() -> None:
    assert "there is no run in domain 'watching'" in await refused("revive", f"{APPS}:watching", code=3)


async def test_where_there_is_no_run_revive_says_so(domain: Domain) -> None:
    assert f"there is no run in domain {domain.name!r}" in await refused("revive", "--domain", domain.name, code=3)
    assert "MODULE:DEPLOYMENT" in await refused("revive")
    assert "domain 'a/b'" in await refused("revive", "--domain", "a/b")


async def test_a_plugin_alone_is_not_signalled_but_its_gateway_is(domain: Domain, broker: Mosquitto) -> None:
    """The plugin would be ended by it."""
    async with open_command("plugin", ECHO, "--broker", broker.url, "--domain", domain.name) as plugin:
        await plugin.until_event("waiting-for-gateway")
        line = await refused("revive", "--domain", domain.name)
        assert f"(pid {plugin.pid}) does not supervise its gateway" in line
        async with open_command("gateway", ECHO, "--broker", broker.url, "--domain", domain.name) as gateway:
            await plugin.until_event("health-up")
            _, output, _ = await run_command("revive", "--domain", domain.name)
            assert output == (
                f"asked the gateway of domain {domain.name} (pid {gateway.pid}):"
                " mqtt: is connected, so there is nothing to revive"
            )
            gateway.signal(signal.SIGTERM)
            assert await gateway.wait() == 0
        assert plugin.process.returncode is None
        plugin.signal(signal.SIGTERM)
        assert await plugin.wait() == 0


async def test_nobody_is_signalled_who_does_not_catch_it(domain: Domain) -> None:
    """An owner that is neither a run nor a plugin: this process."""
    assert signal.getsignal(REVIVE) is signal.SIG_DFL
    with domain.hold("owner"):
        assert f"(pid {os.getpid()}) does not supervise" in await refused("revive", "--domain", domain.name)


# The policies that `run` is told


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("option", ["--gateway-policy", "--plugin-policy"])
@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("intensty=3", "'intensty'"),
        ("intensity=many", "intensity is 'many'"),
        ("period=0", "period is 0.0"),
        ("maximum=0.01", "maximum is 0.01"),
        ("on_exhausted=panic", "on_exhausted is 'panic'"),
        ("intensity", "'intensity' is no NAME=VALUE"),
    ],
)
async def test_a_bad_field_is_named(mode: str, option: str, text: str, part: str) -> None:
    assert part in await refused("run", ECHO, "--mode", mode, "--broker", "embedded", option, text)


@pytest.mark.parametrize("mode", MODES)
async def test_the_gateways_policy_may_be_changed(mode: str, broker: Mosquitto, domain: Domain, cause: Cause) -> None:
    async with open_run(f"{APPS}:watching", mode, broker, domain, "--gateway-policy", "intensity=3") as run:
        assert "it ended 4 times" in await until_given_up(run)
        run.signal(signal.SIGTERM)
        assert await run.wait() == 0


async def test_the_plugins_policy_may_be_changed(broker: Mosquitto, domain: Domain) -> None:
    async with open_run(
        "tests.deployment.apps:failing", "split", broker, domain, "--plugin-policy", "intensity=1,maximum=0.1"
    ) as run:
        message = (await run.until_event("given-up", half="plugin"))["message"]
        assert "it ended 2 times" in message
        assert "LookupError: the app's own fault" in message
        assert await run.wait() == 1


@pytest.mark.parametrize("mode", MODES)
async def test_a_gateways_failure_may_end_the_whole_run(
    mode: str, broker: Mosquitto, domain: Domain, cause: Cause
) -> None:
    async with open_run(f"{APPS}:watching", mode, broker, domain, "--gateway-policy", "on_exhausted=escalate") as run:
        assert await run.wait() == 1
    [line] = [line for line in run.stderr if line.startswith("taktora-trio: ")]
    assert "the gateway has failed too often" in line
    assert "it ended 2 times" in line


async def test_a_plugins_failure_may_end_the_whole_run(broker: Mosquitto, domain: Domain) -> None:
    policy = "on_exhausted=escalate,intensity=0"
    async with open_run("tests.deployment.apps:failing", "split", broker, domain, "--plugin-policy", policy) as run:
        assert await run.wait() == 1
    assert run.events("given-up", "(exit code 1): it ended once", half="plugin")


@pytest.mark.parametrize(
    ("target", "mode"),
    [
        (f"{APPS}:never_starting", "in-process"),
        (f"{APPS}:never_starting", "split"),
        ("tests.unloadable_app:unloadable", "split"),
    ],
)
async def test_a_gateway_that_can_never_start_is_given_up_with_the_end_of_its_output(
    target: str, mode: str, broker: Mosquitto, domain: Domain
) -> None:
    async with open_run(target, mode, broker, domain) as run:
        entry = await run.until_event("given-up", half="gateway")
        assert entry["level"] == "critical"
        assert "ImportError: libprotocol.so.1: no such file" in entry["message"] + entry.get("exception", "")
        await run.until_event("health-down", "given up: it ended 2 times")
        await trio.sleep(0.3)
        assert run.process.returncode is None, "the app goes on"
        assert len(run.events("restarting")) == 1
        run.signal(signal.SIGTERM)
        assert await run.wait() == 0


async def test_a_module_that_is_away_for_a_moment_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broker: Mosquitto, domain: Domain
) -> None:
    """The supervisor could import it, so it is no bad input."""
    (tmp_path / "replaced.py").write_text(
        "import pathlib, sys\n"
        "from tests.deployment.surrounded_apps import deployment\n"
        f"mark = pathlib.Path({str(tmp_path / 'mark')!r})\n"
        "if sys.argv[1:2] == ['plugin'] and not mark.exists():\n"
        "    mark.touch()\n"
        "    raise OSError('it is just being replaced')\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    async with open_run("replaced:deployment", "split", broker, domain) as run:
        assert await run.wait() == 0
        assert "works" in "".join(run.output)
    assert run.events("restarting", "ended (exit code 1)", half="plugin")
    assert any("it is just being replaced" in line for line in run.stderr)
