"""Which ends systemd answers by another try: what may pass (75) and failures, and neither bad input (2) nor success."""

from __future__ import annotations

from tests.operate.systemd.machine import Machine, Received

PROGRAM = "/opt/greenhouse/.venv/bin/taktora-trio"
MAY_PASS = "Main process exited, code=exited, status=75/TEMPFAIL"


def test_bad_input_is_not_tried_again(machine: Machine) -> None:
    for unit, command in (
        ("greenhouse", "run greenhouse:nothing --mode split"),
        ("greenhouse-gateway", "gateway greenhouse:deployment --no-such-option 1"),
        ("greenhouse-plugin", "plugin no_such_module:deployment"),
    ):
        bad = f"[Service]\nExecStart=\nExecStart={PROGRAM} {command}\n"
        machine.write(f"/etc/systemd/system/{unit}.service.d/bad.conf", bad)
    machine.systemctl("daemon-reload")
    for unit in ("greenhouse", "greenhouse-gateway", "greenhouse-plugin"):
        machine.systemctl("start", unit, check=False)
        assert machine.show(unit, "ActiveState") == "failed"
        assert machine.show(unit, "ExecMainStatus") == "2"
        assert machine.show(unit, "NRestarts") == "0"


def test_a_domain_in_use_is_waited_for(machine: Machine, received: Received) -> None:
    """Six times and more: systemd's own limit is five starts in ten seconds."""
    since = machine.mark()
    other = ("--unit=other", "--uid=greenhouse", "--property=Type=notify", "--working-directory=/opt/greenhouse")
    machine.run("systemd-run", *other, PROGRAM, "plugin", "greenhouse:deployment", "--domain", "greenhouse")
    quick = "[Service]\nRestartSec=0\n"
    machine.write("/etc/systemd/system/greenhouse-plugin.service.d/quick.conf", quick)
    machine.systemctl("daemon-reload")
    machine.systemctl("start", "--no-block", "greenhouse-plugin")
    machine.until_logged(MAY_PASS, since, "greenhouse-plugin", count=6)
    machine.systemctl("stop", "other")
    machine.until_logged("Started greenhouse-plugin.service", since, "greenhouse-plugin")
    received.until_runs(2)
    assert received.missing() == {}


def test_shared_memory_that_is_full_at_the_start_is_waited_for(machine: Machine, received: Received) -> None:
    since = machine.mark()
    machine.run("mount", "-o", "remount,size=64m", "/dev/shm")
    try:
        machine.run("fallocate", "-l", "67000000", "/dev/shm/anothers")
        for unit in ("greenhouse", "greenhouse-plugin"):
            machine.systemctl("start", "--no-block", unit)
            machine.until_logged(MAY_PASS, since, unit)
        machine.run("rm", "/dev/shm/anothers")
        machine.until_logged("Started greenhouse-plugin.service", since, "greenhouse-plugin")
        received.until_more()
    finally:
        machine.run("rm", "-f", "/dev/shm/anothers")
        machine.systemctl("stop", "greenhouse-plugin", "greenhouse-gateway", "greenhouse")
        machine.run("mount", "-o", "remount,size=50%", "/dev/shm")


def test_an_app_that_is_done_is_not_started_again_and_one_that_has_failed_is(
    machine: Machine, received: Received
) -> None:
    since = machine.mark()
    machine.systemctl("start", "greenhouse-plugin")
    received.until_more()
    machine.tell("exit 3")
    machine.until_logged("status=3", since, "greenhouse-plugin")
    received.until_runs(2)
    machine.tell("exit 0")
    machine.until_logged("greenhouse-plugin.service: Deactivated successfully", since, "greenhouse-plugin")
    assert machine.show("greenhouse-plugin", "ActiveState") == "inactive"
    assert machine.show("greenhouse-gateway", "ActiveState") == "active", "it waits for the next plugin"
    assert received.missing() == {}


def test_one_way_takes_the_place_of_the_other(machine: Machine, received: Received) -> None:
    """Both at once would share a domain: the units conflict, and nothing is lost between them."""
    machine.systemctl("start", "greenhouse-plugin")
    received.until_more()
    machine.systemctl("start", "greenhouse")
    assert machine.show("greenhouse-gateway", "ActiveState") == "inactive"
    received.until_runs(2)
    machine.systemctl("start", "greenhouse-plugin")
    assert machine.show("greenhouse", "ActiveState") == "inactive"
    received.until_runs(3)
    assert received.missing() == {}
