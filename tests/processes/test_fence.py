"""Fences: what a process may have of CPUs and memory. They are put up in children, for they can't be taken back."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taktora_trio import ConfigError
from taktora_trio.processes import fence
from taktora_trio.processes.fence import GatewayFence, PluginFence
from taktora_trio.processes.parent.memory_controller import memory_controller, out_of_memory_kills
from taktora_trio.processes.parent.memory_group import MemoryGroup, _is_ours
from taktora_trio.processes.procfs import process_stat

NOBODY = 65534
_CHILD = """
import json, os, resource, subprocess, sys, threading
from taktora_trio.processes.fence import *
if {user}: os.setuid({user})
threading.Thread(target=threading.Event().wait, daemon=True).start()
failed = ({fence}).put_up()
threads = sorted(map(int, os.listdir("/proc/self/task")), key=lambda one: one != os.getpid())
try:
    bytearray(10**9)
    memory = "there"
except MemoryError:
    memory = "none"
started = subprocess.run(["sh", "-c", "cat /proc/self/stat"], capture_output=True, text=True).stdout.split()
print(json.dumps(dict(
    failed=failed, memory=memory,
    cpus=[sorted(os.sched_getaffinity(one)) for one in threads],
    nice=[os.getpriority(os.PRIO_PROCESS, one) for one in threads],
    policies=[os.sched_getscheduler(one) for one in threads],
    started=int(started[40]),
)))
"""


def put_up(fence: str, user: int = 0) -> dict[str, Any]:
    """Put up a fence in a process of two threads, and return what it has come to."""
    code = _CHILD.format(fence=fence, user=user)
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    found: dict[str, Any] = json.loads(said)
    return found


def may(change: Callable[[], object]) -> bool:
    """Return whether a child of ours may change itself so."""
    if (child := os.fork()) == 0:
        try:
            change()
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_each_thread_is_fenced_and_only_the_loop_is_of_real_time() -> None:
    cpu = max(os.sched_getaffinity(0))
    found = put_up(f"PluginFence(cpus='{cpu}', nice=7, fifo=3)")
    assert (found["cpus"], found["nice"], found["memory"]) == ([[cpu], [cpu]], [7, 7], "there")
    if may(lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(3))):
        assert found["failed"] == []
        assert found["policies"] == [os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.SCHED_OTHER]
        assert found["started"] == os.SCHED_OTHER, "a program of the app's runs as usual"
    else:
        assert [line.partition(":")[0] for line in found["failed"]] == ["fifo 3"]


@pytest.mark.skipif(os.getuid() != 0, reason="only root may be another user")
def test_what_a_user_may_not_is_told_with_what_would_help_and_the_rest_is_done() -> None:
    cpu = max(os.sched_getaffinity(0))
    found = put_up(f"PluginFence(cpus='{cpu}', nice=-5, fifo=3)", NOBODY)
    assert found["cpus"] == [[cpu], [cpu]]
    nice, fifo = found["failed"]
    assert nice.startswith("nice -5: ")
    assert "LimitNICE=-5" in nice
    assert fifo.startswith("fifo 3: ")
    assert "LimitRTPRIO=3" in fifo


def test_a_gateway_without_a_group_gets_no_more_data_than_it_may_have() -> None:
    assert put_up("GatewayFence(memory=200_000_000)")["memory"] == "none"


def test_a_lower_limit_that_is_there_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[object] = []
    monkeypatch.setattr(resource, "getrlimit", lambda which: (70_000_000, 80_000_000))
    monkeypatch.setattr(resource, "setrlimit", lambda which, limits: given.append(limits))
    assert GatewayFence(memory=200_000_000).put_up() == []
    assert given == [(80_000_000, 80_000_000)]


def test_cpus_of_others_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container: the kernel takes the ones that are allowed, and refuses where there are none of these."""
    monkeypatch.setattr(os, "sched_setaffinity", lambda thread, cpus: None)
    monkeypatch.setattr(os, "sched_getaffinity", lambda thread: {2, 3})
    [some] = PluginFence(cpus="1-2,7").put_up()
    assert some.startswith("cpus 1-2,7: this process may have 2,3 of them, and not 1,7")

    def refuse(thread: int, cpus: object) -> None:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    [none] = PluginFence(cpus="1").put_up()
    assert none.startswith("cpus 1: this process may have none of them, only 2,3")


@pytest.mark.parametrize("text", ["", "a", "1-", "-1", "2-1", "0,,1", "0;1", "1-2-3", "999999"])
def test_what_is_no_list_of_cpus_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="write numbers of CPUs, such as 0-2,5"):
        PluginFence(cpus=text)


def test_a_list_of_cpus() -> None:
    assert fence._numbers("0-2, 5,4-4") == {0, 1, 2, 4, 5}


def test_a_cpu_that_the_machine_has_not_is_refused() -> None:
    count = os.sysconf("SC_NPROCESSORS_CONF")
    PluginFence(cpus=f"0-{count - 1}").check("plugin")
    with pytest.raises(ConfigError, match=rf"fence.gateway.cpus is 0,{count}: this machine has"):
        GatewayFence(cpus=f"0,{count}").check("gateway")


# Control groups


def _may_make_groups() -> bool:
    controller = memory_controller()
    if controller is None or not controller.is_first:
        return False  # in version 2 this process, which others have started, may not be the only one in its group
    try:
        (controller.folder / f"taktora-test-{os.getpid()}").mkdir()
        (controller.folder / f"taktora-test-{os.getpid()}").rmdir()
    except OSError:
        return False
    return True


@pytest.mark.skipif(not _may_make_groups(), reason="this user may make no control group of version 1 here")
def test_a_child_in_a_group_has_its_limit() -> None:
    group = MemoryGroup(f"taktora-test-{os.getpid()}", 100_000_000)
    controller = memory_controller()
    assert controller is not None
    folder = controller.folder / f"taktora-test-{os.getpid()}"
    try:
        assert group.open()
        before, ours = group.kills(), out_of_memory_kills()
        assert group.open(), "each incarnation asks"
        takes = "import sys; sys.stdin.read(1); held = bytearray(b'x') * 200_000_000; print(len(held))"
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", takes], stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0
        )
        try:
            group.add(child.pid)
            assert str(child.pid) in (folder / "cgroup.procs").read_text().split()
            said, _ = child.communicate(b"x", timeout=60)
            assert (said, child.returncode) == (b"", -signal.SIGKILL), "the kernel has ended it"
            assert (group.kills(), out_of_memory_kills()) == (before + 1, ours), "which is counted there alone"
        finally:
            child.kill()
            child.wait()
    finally:
        group.close()
    assert not folder.exists()
    group.add(os.getpid())  # the run ends
    assert not group.open()


def test_where_a_process_is_accounted(tmp_path: Path) -> None:
    """Version 1, version 2, both (where the first one has the memory), and none; in a container, too."""
    folder = tmp_path / "unit"
    folder.mkdir()
    (folder / "cgroup.controllers").write_text("cpu memory pids\n")

    def found(own: str, *mounts: str) -> tuple[str, bool] | None:
        (tmp_path / "cgroup").write_text(own)
        (tmp_path / "mountinfo").write_text("".join(f"1 2 0:3 {mount}\n" for mount in mounts))
        controller = memory_controller(tmp_path)
        return None if controller is None else (str(controller.folder.relative_to(tmp_path)), controller.is_first)

    first = f"/ {tmp_path}/first rw shared:4 - cgroup cgroup rw,memory"
    second = f"/ {tmp_path} rw - cgroup2 cgroup2 rw"
    assert found("4:cpu,memory:/a/b\n0::/\n", f"/ {tmp_path}/cpu rw - cgroup x rw,cpu", first) == ("first/a/b", True)
    assert found("4:memory:/docker/x/y\n", f"/docker/x {tmp_path}/first rw - cgroup x rw,memory") == ("first/y", True)
    assert found("0::/unit\n", second) == ("unit", False)
    assert found("4:memory:/a\n0::/unit\n", second, first) == ("first/a", True)
    assert found("0::/\n", second) is None, "its memory is in no group"
    assert found("0::/elsewhere\n", f"/unit {tmp_path} rw - cgroup2 cgroup2 rw") is None
    assert found("") is None
    assert memory_controller(tmp_path / "nowhere") is None


def test_which_processes_are_ours() -> None:
    child = subprocess.Popen(["sleep", "60"], stdin=subprocess.DEVNULL)
    try:
        assert _is_ours(os.getpid())
        assert _is_ours(child.pid)
        assert not _is_ours(int(process_stat(os.getpid())[1]))
        assert not _is_ours(1)
    finally:
        child.kill()
        child.wait()
