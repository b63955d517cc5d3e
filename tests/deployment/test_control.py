"""A run is ruled from another terminal: a half is stopped, started and restarted, and nothing is lost by it."""

from __future__ import annotations

import json
import os
import re
import signal
from collections import Counter

import pytest
import trio

from taktora_trio.transport.domain import Domain
from tests.client import Client, open_client
from tests.command import MODES, Command, open_command, open_run, run_command
from tests.mosquitto import Mosquitto
from tests.patience import PATIENCE

TARGET = "tests.deployment.reload_apps:deployment"
HELD = "the gateway was stopped by an operator: `taktora-trio start` starts it again"


async def told(domain: Domain, *words: str) -> str:
    """Run a command that works, and return what it has said."""
    code, output, errors = await run_command(*words, "--domain", domain.name)
    assert (code, errors) == (0, "")
    return output


async def refused(domain: Domain, *words: str) -> tuple[int, str]:
    code, output, errors = await run_command(*words, "--domain", domain.name)
    assert code
    assert output == ""
    return code, errors


async def check_that_nothing_was_lost(run: Command, client: Client) -> None:
    """Stop the app by a message, and compare what it says it has sent with what has come."""
    client.publish("reload/stop", b"1")
    last = {}
    for name in ("once", "least"):
        found = re.search(rf"sent {name} (\d+)", await run.until_printed(f"sent {name} "))
        assert found is not None
        last[name] = int(found[1])
    assert await run.wait() == 0
    came: dict[str, Counter[int]] = {"once": Counter(), "least": Counter()}
    with trio.fail_after(PATIENCE):
        while any(len(came[name]) < last[name] for name in last):
            message = await client.receive()
            if message.topic != "reload/come":
                came[message.topic.rpartition("/")[2]][int(message.payload)] += 1
    assert max(came["once"].values()) == 1, "QoS 2"
    assert {name: sorted(numbers) for name, numbers in came.items()} == {
        name: list(range(count)) for name, count in last.items()
    }


@pytest.mark.chaos
@pytest.mark.parametrize("mode", MODES)
async def test_a_gateway_is_stopped_started_and_restarted_while_its_app_sends(
    mode: str, broker: Mosquitto, domain: Domain
) -> None:
    async with (
        open_client(broker.port, "reload/once", "reload/least", qos=2) as client,
        open_run(TARGET, mode, broker, domain) as run,
    ):
        await run.until_event("health-up")
        for number in range(100):
            client.publish("reload/come", b"%d" % number)
        assert await told(domain, "stop", "--half", "gateway") == (
            "the gateway has stopped; `taktora-trio start --half gateway` starts it again"
        )
        down = await run.until_event("health-down", "it was stopped by an operator")
        assert "it was stopped by an operator; `taktora-trio start` starts it again" in down["message"]
        assert "given up" not in down["message"]
        assert await told(domain, "healthcheck")  # it lives
        code, why = await refused(domain, "healthcheck", "--ready")
        assert (code, "an operator has stopped it" in why) == (1, True)
        assert await told(domain, "stop", "--half", "gateway") == "the gateway was stopped before"
        code, why = await refused(domain, "revive")
        assert (code, why.partition("): ")[2].strip()) == (1, HELD)
        assert await told(domain, "start", TARGET) == "the gateway is Up (mqtt)\nthe app runs already"
        assert await told(domain, "restart", "--half", "gateway", "--timeout", "20") == "the gateway is Up (mqtt)"
        assert await told(domain, "start") == "the gateway runs already\nthe app runs already"
        audit = run.events("audit-done")
        assert [(line["verb"], line["half"]) for line in audit] == [
            *(("stop", "gateway"), ("stop", "gateway"), ("start", ""), ("restart", "gateway"), ("start", "")),
        ]
        for line in audit:
            assert line["by_uid"] == os.getuid()
            assert f"pid {line['by_pid']} (" in line["message"]
            assert f" {line['verb']} " in line["message"].partition("(")[2], "the command line"
        [failed] = run.events("audit-failed")
        assert (failed["verb"], failed["message"].rpartition("): ")[2]) == ("revive", HELD)
        if mode == "in-process":
            code, why = await refused(domain, "restart")
            assert code == 2
            assert "restart its gateway alone, with --half gateway" in why
        await run.until_printed("come 99")
        await check_that_nothing_was_lost(run, client)


@pytest.mark.chaos
async def test_a_plugin_is_stopped_started_and_restarted_while_its_gateway_stays_connected(
    broker: Mosquitto, domain: Domain
) -> None:
    async with open_client(broker.port, "reload/come") as client, open_run(TARGET, "split", broker, domain) as run:
        await run.until_event("health-up")
        gateway = run.half("gateway")
        assert "the plugin has stopped" in await told(domain, "stop", "--half", "plugin")
        assert domain.holder("plugin") is None
        await client.publish_acknowledged("reload/come", b"7")  # it waits for the app
        assert await told(domain, "start", "--half", "plugin") == "the app runs"
        await run.until_printed("come 7")
        assert await told(domain, "restart", "--half", "plugin") == "the app runs"
        await run.until_event("process-started", half="plugin", count=3)
        assert len(run.events("connected")) == 1
        assert domain.holder("gateway") == gateway
        assert await told(domain, "restart") == "the gateway is Up (mqtt)\nthe app runs"
        assert domain.holder("gateway") != gateway
        assert (await told(domain, "stop")).splitlines() == [
            "all of it stops",
            f"the run (pid {run.pid}) has stopped",
        ]
        assert await run.wait() == 0
        code, why = await refused(domain, "start")
        assert code == 3
        assert f"there is no run in domain '{domain.name}'" in why


async def test_halves_that_run_by_themselves_are_stopped_and_left_to_whoever_starts_them(
    broker: Mosquitto, domain: Domain
) -> None:
    options = ("--domain", domain.name)
    async with (
        open_command("plugin", TARGET, *options) as plugin,
        open_command("gateway", TARGET, *options, "--broker", broker.url) as gateway,
    ):
        await plugin.until_event("health-up")
        assert await told(domain, "restart", "--half", "gateway") == "the gateway is Up (mqtt)"
        code, why = await refused(domain, "restart")
        assert code == 2
        assert "systemctl restart" in why
        assert (await told(domain, "stop")).splitlines() == [
            f"the plugin (pid {plugin.pid}) has stopped",
            "all of it stops",
            f"the gateway (pid {gateway.pid}) has stopped",
        ]
        assert (await plugin.wait(), await gateway.wait()) == (0, 0)


async def test_the_level_of_the_log_changes_while_it_runs_and_is_that_of_a_successor(
    broker: Mosquitto, domain: Domain
) -> None:
    async with open_run(TARGET, "split", broker, domain) as run:
        await run.until_event("health-up")
        assert await told(domain, "log-level", "error", "--half", "gateway") == "gateway: logged from error up"
        run.signal(signal.SIGKILL, run.half("gateway"))
        await run.until_event("health-up", count=2)
        assert len(run.events("connected")) == 1, "the second one is not logged"
        assert await told(domain, "log-level", "info") == "both halves: logged from info up"
        assert await told(domain, "restart", "--half", "gateway") == "the gateway is Up (mqtt)"
        await run.until_event("connected", count=2)
        run.signal(signal.SIGTERM)
        assert await run.wait() == 0


async def test_the_latest_lines_are_shown_by_another_process_also_of_a_run_that_was_killed(
    broker: Mosquitto, domain: Domain
) -> None:
    async with open_run(TARGET, "split", broker, domain) as run:
        await run.until_event("health-up")
        async with open_command("logs", "--domain", domain.name, "--follow", json_log=False) as following:
            await following.until_printed("[health-up]")
            run.signal(signal.SIGKILL, run.half("gateway"))
            await following.until_printed("gateway: ended (killed by SIGKILL)")
            await run.until_event("health-up", count=2)
            run.signal(signal.SIGSTOP)  # so that it starts neither again, and nobody tidies up
            for half in ("gateway", "plugin"):
                run.signal(signal.SIGKILL, run.half(half))
            run.signal(signal.SIGKILL)
            assert await run.wait() == -signal.SIGKILL
        lines = [json.loads(line) for line in (await told(domain, "logs", "--json")).splitlines()]
        assert [line["time"] for line in lines] == sorted(line["time"] for line in lines)
        assert {line["process"] for line in lines} == {"supervisor", "plugin", "gateway"}
        chosen = await told(domain, "logs", "--half", "gateway", "--event", "conn*", "--since", "1h")
        assert [line.split()[-1] for line in chosen.splitlines()] == ["[connected]"] * 2
        assert await told(domain, "logs", "--event", "connected", "--since", "2100-01-01") == ""
        assert (await refused(domain, "logs", "--since", "yesterday"))[0] == 2
    domain.remove_if_unused()
    assert (await refused(domain, "logs"))[0] == 3
