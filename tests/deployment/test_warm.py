"""Warm restart: the gateway comes from a fork, and is in all else the gateway that it is from a fresh start."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest
import trio

from benchmarks.kills import kill_again_and_again
from taktora_trio.transport.domain import Domain
from tests.client import open_client
from tests.command import Command, open_command, open_run, run_command
from tests.mosquitto import Mosquitto, open_mosquitto


def zygote_of(run: Command) -> psutil.Process:
    (found,) = [child for child in psutil.Process(run.pid).children() if child.pid not in _halves(run)]
    return found


def _halves(run: Command) -> set[int]:
    return {run.half("plugin"), run.half("gateway")}


async def test_a_fork_carries_messages_and_its_successor_does_after_a_kill(broker: Mosquitto, domain: Domain) -> None:
    async with (
        open_run("examples.echo:deployment", "split", broker, domain, "--warm") as run,
        open_client(broker.port, "taktora/echo/reply") as client,
    ):
        for incarnation in range(1, 4):
            await run.until_event("health-up", count=incarnation)
            client.publish("taktora/echo/request/me", b"hello %d" % incarnation)
            while (came := (await client.receive()).payload) != b"hello %d" % incarnation:
                # Again, if the gateway was killed before it knew that the broker had it.
                assert came == b"hello %d" % (incarnation - 1)
            gateway = psutil.Process(run.half("gateway"))
            assert gateway.ppid() == run.pid, "it is a child of the supervisor, like any other"
            assert os.getpgid(gateway.pid) == gateway.pid
            assert {gateway.pid, run.half("plugin"), zygote_of(run).pid} == {
                child.pid for child in psutil.Process(run.pid).children()
            }
            run.signal(signal.SIGKILL, gateway.pid)
        await run.until_event("health-up", count=4)
        run.signal(signal.SIGTERM)
        assert await run.wait(8) == 0


def open_descriptors(pid: int) -> list[str]:
    """What each of them is open to (proc_pid_fd(5))."""
    return [str(descriptor.readlink()) for descriptor in Path(f"/proc/{pid}/fd").iterdir()]


def imported_by(half: str, run: Command) -> list[str]:
    """Return the lines by which a half says that it has imported something of ours or of iceoryx2."""
    lines = [entry["message"] for entry in run.log if entry.get("process") == half]
    return [line for line in lines if "import time:" in line and ("taktora_trio" in line or "iceoryx2" in line)]


async def test_the_zygote_has_all_imported_nothing_open_and_one_thread(broker: Mosquitto, domain: Domain) -> None:
    env = {"PYTHONPROFILEIMPORTTIME": "1"}  # each import is told on standard error
    async with open_run("examples.echo:deployment", "split", broker, domain, "--warm", env=env) as run:
        await run.until_event("health-up")
        assert imported_by("plugin", run), "it is started afresh"
        assert imported_by("gateway", run) == [], "so a fork is quick"
        zygote = zygote_of(run)
        assert zygote.num_threads() == 1
        # The three standard ones, and the socket to its supervisor. (Newer releases of libffi hold their own file.)
        assert len([file for file in open_descriptors(zygote.pid) if ".so" not in file]) == 4
        assert not [mapping.path for mapping in zygote.memory_maps() if "/dev/shm" in mapping.path]
        run.signal(signal.SIGTERM)
        assert await run.wait(8) == 0


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_zygote_that_is_gone_or_stuck_is_replaced(
    signum: signal.Signals, broker: Mosquitto, domain: Domain
) -> None:
    async with open_run("examples.echo:deployment", "split", broker, domain, "--warm") as run:
        await run.until_event("health-up")
        zygote_of(run).send_signal(signum)
        run.signal(signal.SIGKILL, run.half("gateway"))
        await run.until_event("warm-start-replaced")
        await run.until_event("health-up", count=2)
        run.signal(signal.SIGTERM)
        assert await run.wait(8) == 0


async def test_a_fork_that_hangs_is_killed_and_tells_where(broker: Mosquitto, domain: Domain) -> None:
    async with open_run(
        "examples.echo:deployment", "split", broker, domain, "--warm", "--gateway-policy", "watchdog=1"
    ) as run:
        await run.until_event("health-up")
        run.signal(signal.SIGSTOP, run.half("gateway"))
        await run.until_event("restarting", "(no sign of life for 1.", half="gateway")
        await run.until_event("health-up", count=2)
        run.signal(signal.SIGTERM)
        assert await run.wait(8) == 0


async def test_a_password_reaches_every_fork(tmp_path_factory: pytest.TempPathFactory, domain: Domain) -> None:
    folder = tmp_path_factory.mktemp("broker")
    folder.chmod(0o755)
    users = folder / "users"
    await trio.run_process(["mosquitto_passwd", "-b", "-c", str(users), "me", "secret"], env=_with_sbin())
    users.chmod(0o644)
    async with open_mosquitto(folder, [f"password_file {users}"], anonymous=False) as broker:
        url = f"mqtt://me:secret@127.0.0.1:{broker.port}"
        target = "examples.echo:deployment"
        async with open_command(
            "run", target, "--mode", "split", "--broker", url, "--domain", domain.name, "--warm"
        ) as run:
            await run.until_event("health-up")
            run.signal(signal.SIGKILL, run.half("gateway"))
            await run.until_event("health-up", count=2)
            run.signal(signal.SIGTERM)
            assert await run.wait(8) == 0
            assert "secret" not in "\n".join(run.stderr)


def _with_sbin() -> dict[str, str]:
    return {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin"}


async def test_a_killed_supervisor_takes_the_zygote_and_the_fork_along(broker: Mosquitto, domain: Domain) -> None:
    async with open_run("examples.echo:deployment", "split", broker, domain, "--warm") as run:
        await run.until_event("health-up")
        run.signal(signal.SIGKILL)
        await run.wait()
    # The helper fails if a process is left, and the fixture if a file is.


async def test_it_is_for_the_split_shape() -> None:
    code, _, stderr = await run_command("run", "examples.echo:deployment", "--mode", "in-process", "--warm")
    assert (code, stderr.count("\n")) == (2, 0)
    assert "--warm is for --mode split" in stderr


@pytest.mark.chaos
@pytest.mark.parametrize("warm", [False, True], ids=["fresh", "warm"])
async def test_killed_again_and_again(warm: bool, broker: Mosquitto) -> None:
    """1,000 kills take minutes: `python -m benchmarks.kills`."""
    outcome = await kill_again_and_again(broker.port, 20, warm=warm, seed=7)
    assert outcome.start_errors == []
    assert (outcome.zombies, outcome.exit_code) == (0, 0)
    assert outcome.descriptors[1] <= outcome.descriptors[0] + 3
    assert outcome.threads[1] <= outcome.threads[0] + 2
