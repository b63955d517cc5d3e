"""The process care of the split shape: every fault of a half is noticed, told, and mended, and nothing is orphaned."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import trio

from taktora_trio.chaos.faulty import FOLDER_VARIABLE, Instructions
from taktora_trio.processes.pidfd import wait_for_exit
from taktora_trio.transport.domain import Domain
from tests.client import open_client
from tests.command import ROOT, Command, open_command, open_run
from tests.mosquitto import Mosquitto
from tests.patience import PATIENCE

APPS = "tests.deployment.supervised_apps"


async def until_gone(*pids: int, seconds: float = PATIENCE) -> None:
    with trio.fail_after(seconds):
        for pid in pids:
            await wait_for_exit(pid)


async def until(condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """For what announces nothing: a file that goes, a process that comes."""
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.01)


async def test_the_cause_of_each_end_reaches_the_app(broker: Mosquitto, domain: Domain) -> None:
    async with open_run(f"{APPS}:telling", "split", broker, domain) as run:
        await run.until_event("health-up")
        run.signal(signal.SIGKILL, run.half("gateway"))
        await run.until_printed("signal 1 9 True True")
        await run.until_event("health-up", count=2)
        run.signal(signal.SIGSTOP, run.half("gateway"))
        await run.until_printed("hang 2 8 True True")
        await run.until_event("health-up", count=3)
        run.signal(signal.SIGTERM)
        assert await run.wait(8) == 0


async def test_a_hang_tells_where_it_hangs(broker: Mosquitto, domain: Domain, tmp_path: Path) -> None:
    """SIGABRT makes Python tell it (faulthandler), and the last words are part of the cause."""
    async with open_run(f"{APPS}:telling", "split", broker, domain, env={FOLDER_VARIABLE: str(tmp_path)}) as run:
        await run.until_event("health-up")
        Instructions(tmp_path).give("hang-in-loop")
        line = await run.until_printed("hang 1 9")
        assert "in _loop" in line
        await run.until_event("restarting", "no sign of life for 1.")
        await run.until_event("health-up", count=2)
        run.signal(signal.SIGTERM)
        assert await run.wait(8) == 0


async def test_a_plugin_that_hangs_is_started_again(broker: Mosquitto, domain: Domain) -> None:
    async with open_run(f"{APPS}:hanging", "split", broker, domain) as run:
        await run.until_printed("hangs from now on")
        first = run.half("plugin")
        await run.until_event("restarting", "(no sign of life for 1.", half="plugin")
        await run.until_event("process-started", half="plugin", count=2)
        assert run.half("plugin") != first
        assert any("in hang" in entry["message"] for entry in run.log), "it was not asked where it hangs"
        run.signal(signal.SIGTERM)
        assert await run.wait(8) == 0


@pytest.mark.parametrize("how", ["loops", "stopped"])
async def test_a_killed_supervisor_leaves_no_orphan_even_if_a_half_hangs(
    how: str, broker: Mosquitto, domain: Domain, tmp_path: Path
) -> None:
    async with open_run(f"{APPS}:faulty", "split", broker, domain, env={FOLDER_VARIABLE: str(tmp_path)}) as run:
        await run.until_event("health-up")
        halves = [run.half(name) for name in ("plugin", "gateway")]
        if how == "loops":
            Instructions(tmp_path).give("hang-in-loop")
            await until(lambda: not Instructions(tmp_path).is_waiting("hang-in-loop"))
        else:
            run.signal(signal.SIGSTOP, run.half("gateway"))
        run.signal(signal.SIGKILL)
        await run.wait()
        await until_gone(*halves)


async def test_a_run_that_was_stopped_goes_on(broker: Mosquitto, domain: Domain) -> None:
    """As by `docker pause`: time in which nobody ran is nobody's silence."""
    async with (
        open_run(f"{APPS}:faulty", "split", broker, domain) as run,
        open_client(broker.port, "test/ticks") as told,
    ):
        await run.until_event("health-up")
        everything = [run.pid, *map(run.half, ("plugin", "gateway"))]
        for pid in everything:
            run.signal(signal.SIGSTOP, pid)
        await trio.sleep(2.5)  # more than two periods of the watchdog: that nothing comes of it can't be waited for
        for pid in everything:
            run.signal(signal.SIGCONT, pid)
        with trio.move_on_after(1.5):  # for longer than a period
            while True:
                await told.receive(5)
        run.signal(signal.SIGTERM)
        assert await run.wait(8) == 0
    assert run.events("ended") + run.events("restarting") == []


async def test_children_of_a_half_end_with_it(broker: Mosquitto, domain: Domain) -> None:
    async with open_run(f"{APPS}:parental", "split", broker, domain) as run:
        assert await run.wait() == 0
        pids = [int(number) for line in run.output for number in re.findall(r"child (\d+)", line)]
        assert len(pids) == 2
        assert not any(psutil.pid_exists(pid) for pid in pids)
        await run.until_event("process-leftovers-killed", half="plugin")


async def test_children_of_a_half_end_with_a_killed_supervisor(broker: Mosquitto, domain: Domain) -> None:
    async with open_run(f"{APPS}:parental", "split", broker, domain, "--await-broker") as run:
        await broker.stop()  # so that the app waits
        await run.until_printed("child")
        await until(lambda: len(run.output) == 2)
        first = int(re.findall(r"child (\d+)", run.output[0])[0])
        run.signal(signal.SIGKILL)
        await run.wait()
        await until_gone(first)
        second = int(re.findall(r"child (\d+)", run.output[1])[0])
        os.kill(second, signal.SIGKILL)  # it left the group; with no supervisor there is nobody to know of it


async def test_every_line_arrives_whole_with_the_name_of_its_half(broker: Mosquitto, domain: Domain) -> None:
    async with open_command(
        *("run", f"{APPS}:talking", "--mode", "split", "--broker", broker.url, "--domain", domain.name), json_log=False
    ) as run:
        assert await run.wait() == 1
    assert [line for line in run.output if "line" in line] == [f"plugin     | line {n}" for n in range(1000)]
    assert "plugin     | not a log entry" in run.stderr
    assert "plugin     | the last words" in run.stderr
    assert all(re.match(r"(plugin|gateway|supervisor) +\| ", line) or line.startswith("    ") for line in run.stderr)


async def test_with_json_every_line_is_an_entry(broker: Mosquitto, domain: Domain) -> None:
    async with open_run(f"{APPS}:talking", "split", broker, domain) as run:
        assert await run.wait() == 1
    entries = [json.loads(line) for line in run.output]
    assert [entry["message"] for entry in entries] == [f"line {n}" for n in range(1000)]
    assert {(entry["process"], entry["stream"]) for entry in entries} == {("plugin", "stdout")}
    assert "the last words" in [json.loads(line)["message"] for line in run.stderr]
    given_up = await run.until_event("given-up", "(killed by SIGKILL)", half="plugin")
    assert "the last words" in given_up["message"]


def _gateways(supervisor: int) -> list[int]:
    """The gateway processes of a run; one that has just ended has no command line any more."""
    found = []
    for process in psutil.Process(supervisor).children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if "gateway" in process.cmdline():
                found.append(process.pid)
    return found


async def test_output_that_nobody_reads_holds_nobody_up(broker: Mosquitto, domain: Domain) -> None:
    """Neither the app, which writes more than a pipe holds, nor the supervisor, which still restarts the gateway."""
    arguments = ["run", f"{APPS}:shouting", "--mode", "split", "--broker", broker.url, "--domain", domain.name]
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "taktora_trio", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,  # which nobody reads
        cwd=ROOT,
    )
    try:
        async with open_client(broker.port, "test/quiet") as client:
            assert (await client.receive()).payload == b'"wrote it all"'
        [gateway] = _gateways(process.pid)
        os.kill(gateway, signal.SIGKILL)
        await until_gone(gateway)
        await until(lambda: _gateways(process.pid) not in ([], [gateway]))
        process.send_signal(signal.SIGTERM)
        with trio.fail_after(10):
            assert await process.wait() == 0
    finally:
        process.kill()
        await process.wait()


async def test_the_commands_speak_systemds_protocol(broker: Mosquitto, domain: Domain, tmp_path: Path) -> None:
    """The same commands alone, with the socket that systemd would give them."""
    told: dict[str, list[str]] = {"plugin": [], "gateway": []}
    async with trio.open_nursery() as nursery:

        async def listen(half: str) -> dict[str, str]:
            path = str(tmp_path / half)
            sock = trio.socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            await sock.bind(path)

            async def read() -> None:
                with sock:
                    while True:
                        told[half] += (await sock.recv(4096)).decode().splitlines()

            nursery.start_soon(read)
            return {"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "400000"}

        async def start(half: str, *more: str) -> Command:
            command = open_command(half, "examples.echo:deployment", "--domain", domain.name, *more, env=envs[half])
            return await stack.enter_async_context(command)

        envs = {half: await listen(half) for half in told}
        async with contextlib.AsyncExitStack() as stack:
            gateway = await start("gateway", "--broker", broker.url)
            await gateway.until_event("waiting-for-plugin")
            plugin = await start("plugin")
            await plugin.until_event("health-up")
            await until(lambda: all(lines.count("WATCHDOG=1") >= 3 for lines in told.values()))
            for command in (plugin, gateway):
                command.signal(signal.SIGTERM)
                assert await command.wait() == 0
        nursery.cancel_scope.cancel()
    for half, lines in told.items():
        assert lines.index("READY=1") < lines.index("WATCHDOG=1") < lines.index("STOPPING=1"), half
    assert told["gateway"][:2] == ["READY=1", "STATUS=waiting for its plugin"]


async def test_a_stale_gateway_is_fenced_off(broker: Mosquitto, domain: Domain) -> None:
    """By the lock, there is one gateway a domain; by the client id, the broker closes what an earlier one left."""
    async with open_run("examples.echo:deployment", "split", broker, domain) as run:
        await run.until_event("health-up")
        async with open_command(
            "gateway", "examples.echo:deployment", "--domain", domain.name, "--broker", broker.url, json_log=False
        ) as second:
            assert await second.wait() == os.EX_TEMPFAIL
        assert "already has a gateway" in "\n".join(second.stderr)
        run.signal(signal.SIGTERM)
        assert await run.wait(8) == 0
