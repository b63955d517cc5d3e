"""The journal: what each half logs has its priority there, whoever has started it."""

from __future__ import annotations

import pytest

from tests.operate.systemd.machine import Machine, Received


@pytest.mark.parametrize("unit", ["greenhouse", "greenhouse-plugin"])
def test_lines_have_their_priority(unit: str, machine: Machine, received: Received) -> None:
    """Of the app and of the gateway. `journalctl -p warning` shows what is worth it."""
    since = machine.mark()
    machine.systemctl("start", unit)
    received.until_more()
    machine.tell("nonsense")
    machine.until_logged("no command: nonsense", since)
    machine.systemctl("restart", "mosquitto")
    machine.until_logged(r"\[connection-lost\]", since)
    machine.until_logged(r"\[connected\]", since, count=2)
    machine.mark()
    found = {
        text: {entry.priority for entry in machine.journal[since:] if text in entry.message}
        for text in ("no command: nonsense", "[connection-lost]", "[connected]")
    }
    assert found == {"no command: nonsense": {4}, "[connection-lost]": {4}, "[connected]": {6}}
    shown = machine.run("journalctl", "-p", "warning", "-u", "greenhouse*", "--grep", "connect|command", "-o", "cat")
    assert "[connection-lost]" in shown
    assert "[connected]" not in shown
