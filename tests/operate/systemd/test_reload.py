"""`systemctl reload`: it returns when the new configuration works, and fails where that does not."""

from __future__ import annotations

import pytest

from tests.operate.systemd.machine import Machine, Received

FILE = "/opt/greenhouse/taktora.toml"


@pytest.mark.parametrize(
    ("started", "reloaded"), [("greenhouse", "greenhouse"), ("greenhouse-plugin", "greenhouse-gateway")]
)
def test_a_reload_is_done_when_it_works(started: str, reloaded: str, machine: Machine, received: Received) -> None:
    machine.systemctl("start", started)
    received.until_more()
    pid = machine.main_pid(reloaded)
    for seconds in (20, 30, 40):
        machine.write(FILE, f"[connector]\nkeepalive = {seconds}\n")
        since = machine.mark()
        machine.systemctl("reload", reloaded)
        machine.mark()
        machine.until_logged(r"reload: changed: connector\.keepalive", since, reloaded)
        assert machine.show(reloaded, "ActiveState") == "active", "it says that it reloads still"
    machine.write(FILE, "[connector]\nkeepalive = -1\n")
    with pytest.raises(AssertionError, match=rf"Job for {reloaded}\.service failed"):
        machine.systemctl("reload", reloaded)
    received.until_more()
    assert machine.show(reloaded, "ActiveState") == "active"
    assert machine.main_pid(reloaded) == pid
    assert received.missing() == {}


@pytest.mark.parametrize("unit", ["greenhouse-plugin"])
def test_what_can_not_be_reloaded_says_so(unit: str, machine: Machine) -> None:
    assert machine.show(unit, "CanReload") == "no"
