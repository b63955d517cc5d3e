"""What of Zenoh is in which process of a run: its library, its threads, its memory."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path

import psutil
import pytest
import trio

from taktora_trio import Up, open_deployment
from taktora_trio.testing.zenoh.router import ZenohRouter
from taktora_trio.transport.domain import Domain
from tests.command import Command, open_command
from tests.deployment.lean import recording
from tests.deployment.test_lean_processes import unwanted_in
from tests.deployment.test_warm import imported_by, open_descriptors, zygote_of
from tests.patience import PATIENCE
from tests.zenoh.operated_apps import deployment

pytestmark = pytest.mark.zenoh
TARGET = "tests.zenoh.operated_apps:deployment"
CPU = max(os.sched_getaffinity(0))
MOST = 5 * max(2, os.cpu_count() or 2)
"""Threads of the library in a process: it has these pools, and starts threads one by one as it needs them."""
POOLS = ("app-", "net-", "tx-", "rx-", "acc-")
"""How the names of the library's threads begin."""


def threads(pid: int) -> dict[int, str]:
    """Return the names of a process's threads."""
    tasks = Path(f"/proc/{pid}/task")
    return {int(task.name): (task / "comm").read_text().strip() for task in tasks.iterdir()}


def of_zenoh(pid: int) -> list[int]:
    return [thread for thread, name in threads(pid).items() if name.startswith(POOLS)]


def _maps(pid: int) -> str:
    return Path(f"/proc/{pid}/maps").read_text()


def _options(router: ZenohRouter, domain: Domain, mode: str, *more: str) -> list[str]:
    return ["run", TARGET, "--mode", mode, "--domain", domain.name, "--connect", router.endpoint, *more]


async def test_the_library_and_its_threads_are_in_the_gateways_process_alone_and_inside_its_fence(
    router: ZenohRouter, domain: Domain
) -> None:
    fences = (f"--fence.gateway.cpus={CPU}", "--fence.gateway.nice=11", "--fence.gateway.memory=300_000_000")
    async with open_command(*_options(router, domain, "split", *fences)) as run:
        for count in (1, 2):
            await run.until_event("health-up", count=count)
            gateway = run.half("gateway")
            assert "/zenoh" in _maps(gateway)
            assert len(of_zenoh(gateway)) >= 3
            for thread in threads(gateway):
                assert os.sched_getaffinity(thread) == {CPU}
                assert os.getpriority(os.PRIO_PROCESS, thread) == 11
            run.signal(signal.SIGKILL, gateway)
        for pid in (run.half("plugin"), run.pid):
            assert "/zenoh" not in _maps(pid)
            assert of_zenoh(pid) == []
        await run.until_event("health-up", count=3)
        run.signal(signal.SIGTERM)
        assert await run.wait() == 0


async def test_each_process_imports_what_it_needs_and_no_more(
    router: ZenohRouter, domain: Domain, tmp_path: Path
) -> None:
    async with open_command(*_options(router, domain, "split"), env={recording.RECORD: str(tmp_path)}) as run:
        await run.until_event("health-up")
        run.signal(signal.SIGTERM)
        assert await run.wait() == 0
    package = "taktora_trio.connectors.zenoh"
    of_the_gateway = {"zenoh", *(f"{package}.{name}" for name in ("client", "connection", "native.session"))}
    for process in ("supervisor", "plugin", "gateway"):
        loaded = set(json.loads((tmp_path / process).read_text()))
        if process == "gateway":
            assert of_the_gateway <= loaded
        else:
            assert of_the_gateway & loaded == set()
        assert "taktora_trio.connectors.mqtt" not in loaded
        # The app's messages are structs in JSON, which it looks at with this.
        assert unwanted_in(process, tmp_path) <= {"msgspec.inspect"}, process


async def test_a_warm_start_forks_a_gateway_that_imports_nothing(router: ZenohRouter, domain: Domain) -> None:
    env = {"PYTHONPROFILEIMPORTTIME": "1"}  # each import is told on standard error
    async with open_command(*_options(router, domain, "split", "--warm"), env=env) as run:
        await run.until_event("health-up")
        zygote = zygote_of(run)
        assert "/zenoh" in _maps(zygote.pid)
        assert zygote.num_threads() == 1, "a fork has but the thread that forks"
        assert len([file for file in open_descriptors(zygote.pid) if ".so" not in file]) == 4
        assert _imported(run, "gateway") == []
        run.signal(signal.SIGKILL, run.half("gateway"))
        await run.until_event("health-up", count=2)
        assert "/zenoh" not in _maps(run.half("plugin"))
        run.signal(signal.SIGTERM)
        assert await run.wait() == 0


def _imported(run: Command, half: str) -> list[str]:
    of_the_library = [
        entry["message"]
        for entry in run.log
        if entry.get("process") == half and "import time:" in entry["message"] and "zenoh" in entry["message"]
    ]
    return [*imported_by(half, run), *of_the_library]


async def test_in_one_process_its_threads_are_the_apps_and_run_as_usual(router: ZenohRouter, domain: Domain) -> None:
    """They do not inherit the real-time priority of the app's loop, and take what CPUs the app has."""
    may_be_real_time = _may_be_real_time()
    fences = [f"--fence.plugin.cpus={CPU}", *(["--fence.plugin.fifo=5"] if may_be_real_time else [])]
    async with open_command(*_options(router, domain, "in-process", *fences)) as run:
        await run.until_event("health-up")
        assert (os.sched_getscheduler(run.pid) & ~os.SCHED_RESET_ON_FORK == os.SCHED_FIFO) == may_be_real_time
        inside = of_zenoh(run.pid)
        assert inside != []
        for thread in inside:
            assert os.sched_getscheduler(thread) == os.SCHED_OTHER
            assert os.sched_getaffinity(thread) == {CPU}
        run.signal(signal.SIGTERM)
        assert await run.wait() == 0


def _may_be_real_time() -> bool:
    try:
        before = os.sched_getscheduler(0)
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
        os.sched_setscheduler(0, before, os.sched_param(0))
    except OSError:
        return False
    return True


async def test_connections_that_come_and_go_leave_no_threads_and_no_descriptors(
    router: ZenohRouter, domain: Domain
) -> None:
    async with open_command(*_options(router, domain, "split", "--reconnect", "initial=0.01")) as run:
        descriptors = []
        for count in range(1, 7):
            await run.until_event("health-up", count=count)
            gateway = psutil.Process(run.half("gateway"))
            descriptors.append(gateway.num_fds())
            await router.stop(signal.SIGKILL)
            await run.until_event("health-connecting", count=count)
            await router.start()
        await run.until_event("health-up", count=7)
        assert max(descriptors[3:]) <= max(descriptors[:3]) + 2, descriptors  # a worker thread of ours comes and goes
        assert len(of_zenoh(gateway.pid)) <= MOST
        assert gateway.num_threads() <= MOST + 4, "and some that wait for more work"
        run.signal(signal.SIGTERM)
        assert await run.wait() == 0


async def test_what_stays_in_a_program_after_its_run_does_not_grow(router: ZenohRouter, domain: Domain) -> None:
    """The library's threads are there for as long as the process is, so they are counted: the same after each run."""
    for _ in range(MOST + 2):
        settings = {"connect": router.endpoint}
        async with open_deployment(deployment, mode="in-process", domain=domain.name, settings=settings) as host:
            with trio.fail_after(PATIENCE):
                await host.wait_for_health(Up)
    assert 0 < len(of_zenoh(os.getpid())) <= MOST
    left = [thread.name for thread in threading.enumerate() if not thread.daemon and thread != threading.main_thread()]
    assert left == [], "the program would wait for these at its end"
