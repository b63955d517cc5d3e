"""What becomes of the units, and of messages at QoS 1, whatever ends or hangs."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping

import pytest

from tests.operate.systemd.machine import PASSWORD, Machine, Received

BOTH = ("greenhouse-plugin", "greenhouse-gateway")  # in the order in which they are stopped
UP = r"health of mqtt: \w+ -> Up"


def sent(machine: Machine, since: int) -> Mapping[int, int]:
    """How far each app has come that has ended since, as it was told to."""
    return {
        int(match[1]): int(match[2])
        for entry in machine.journal[since:]
        if (match := re.search(r"run (\d+) has sent (\d+)", entry.message))
    }


def stop(machine: Machine, received: Received, since: int, *units: str, by: str = "") -> None:
    """Stop the units: each ends well, and everything that the app has sent arrives."""
    if by:
        machine.systemctl("stop", by)  # which does not wait for them, as the next command does
    machine.systemctl("stop", *units)
    for unit in units:
        assert (machine.show(unit, "ActiveState"), machine.show(unit, "Result")) == ("inactive", "success")
    machine.mark()
    told = sent(machine, since)
    assert told, "\n".join(entry.message for entry in machine.journal[-40:])
    received.until_all(told)
    assert machine.left() == ([], [])


def test_a_boot_with_the_gateway_alone_ends(booted: Machine) -> None:
    """Of the three units it was the only one that was enabled."""
    assert booted.systemctl("is-system-running").strip() == "running"
    assert booted.systemctl("is-active", "multi-user.target").strip() == "active"
    assert 'Status: "waiting for its plugin"' in booted.at_boot


@pytest.mark.parametrize(
    ("unit", "below"), [("greenhouse", 2.0), ("greenhouse-gateway", 2.0), ("greenhouse-plugin", 1.0)]
)
def test_a_unit_is_exposed_little(unit: str, below: float, machine: Machine) -> None:
    found = re.search(
        r"exposure level for \S+: ([\d.]+)", machine.run("systemd-analyze", "security", "--no-pager", unit)
    )
    assert found is not None
    assert float(found[1]) < below


class TestOneUnit:
    """`greenhouse.service`: our supervisor has both halves."""

    def test_it_goes_on_whatever_is_killed_and_nothing_is_lost(self, machine: Machine, received: Received) -> None:
        since = machine.mark()
        machine.systemctl("start", "greenhouse")
        received.until_more()
        for half, runs in (("gateway", 1), ("plugin", 2)):
            supervisor = machine.main_pid("greenhouse")
            before = machine.mark()
            machine.kill(machine.half("greenhouse", half))
            machine.until_logged(rf"{half}: started", before)
            received.until_runs(runs)
            assert machine.main_pid("greenhouse") == supervisor
        before = machine.mark()
        machine.kill(machine.main_pid("greenhouse"))
        machine.until_logged("Main process exited, code=killed, status=9/KILL", before, "greenhouse")
        machine.until_logged("Started greenhouse.service", before, "greenhouse")
        received.until_runs(3)
        stop(machine, received, since, "greenhouse")

    def test_a_supervisor_that_hangs_is_started_again(self, machine: Machine, received: Received) -> None:
        machine.write(
            "/etc/systemd/system/greenhouse.service.d/soon.conf", "[Service]\nWatchdogSec=2\nTimeoutAbortSec=1\n"
        )
        machine.systemctl("daemon-reload")
        since = machine.mark()
        machine.systemctl("start", "greenhouse")
        received.until_more()
        machine.kill(machine.main_pid("greenhouse"), signal.SIGSTOP)
        machine.until_logged("Watchdog timeout", since, "greenhouse")
        machine.until_logged("Started greenhouse.service", since, "greenhouse", count=2)
        received.until_runs(2)
        stop(machine, received, since, "greenhouse")

    def test_no_process_shows_the_password(self, machine: Machine) -> None:
        machine.systemctl("start", "greenhouse")
        for pid in machine.processes("greenhouse"):
            for file in ("cmdline", "environ"):
                assert PASSWORD not in machine.run("cat", f"/proc/{pid}/{file}")
        assert PASSWORD not in "".join(entry.message for entry in machine.read())


class TestTwoUnits:
    """`greenhouse-plugin.service` and `greenhouse-gateway.service`: systemd has each half."""

    def test_each_goes_on_when_the_other_is_killed_and_nothing_is_lost(
        self, machine: Machine, received: Received
    ) -> None:
        since = machine.mark()
        machine.systemctl("start", "greenhouse.target")
        received.until_more()
        for killed, other, runs in ((*BOTH, 2), (*BOTH[::-1], 2)):
            before, pid = machine.mark(), machine.main_pid(other)
            machine.kill(machine.main_pid(killed))
            machine.until_logged(f"Started {killed}.service", before, killed)
            received.until_runs(runs)
            assert machine.main_pid(other) == pid
        for half in BOTH:
            machine.systemctl("restart", half)
            received.until_runs(3)
        machine.systemctl("restart", "greenhouse.target")
        received.until_runs(4)
        stop(machine, received, since, *BOTH, by="greenhouse.target")

    def test_a_half_that_hangs_is_started_again(self, machine: Machine, received: Received) -> None:
        for unit in BOTH:
            machine.write(
                f"/etc/systemd/system/{unit}.service.d/soon.conf", "[Service]\nWatchdogSec=2\nTimeoutAbortSec=1\n"
            )
        machine.systemctl("daemon-reload")
        since = machine.mark()
        machine.systemctl("start", "greenhouse-plugin")  # which wants the other
        received.until_more()
        for unit in BOTH:
            machine.kill(machine.main_pid(unit), signal.SIGSTOP)
        for unit in BOTH:
            machine.until_logged("Watchdog timeout", since, unit)
            machine.until_logged(f"Started {unit}.service", since, unit, count=2)
        received.until_runs(2)
        stop(machine, received, since, *BOTH)
