"""Hosts of a test's own reach each other, can be cut off, and leave nothing behind, however their owner ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.command import ROOT
from tests.hosts import network
from tests.hosts.network import Host, open_network
from tests.patience import PATIENCE

pytestmark = pytest.mark.zenoh  # whose tests alone use them

_SERVER = """
import socket
with socket.create_server(("0.0.0.0", 7007)) as server:
    print("ready", flush=True)
    while True:
        server.accept()[0].close()
"""
_OWNER = """
import subprocess, sys
from tests.hosts.network import open_network
with open_network(loopback=False) as net:
    net.segment("lan", "a", "b")
    command = [*net.hosts["a"].within, "sh", "-c", "echo inside; exec sleep 1000"]
    inside = subprocess.Popen(command, stdout=subprocess.PIPE)
    inside.stdout.readline()
    print(inside.pid, net.switch.pid, *(host.pid for host in net.hosts.values()), flush=True)
    sys.stdin.read()
"""


def reaches(host: Host, address: str) -> bool:
    try_it = f"import socket; socket.create_connection(({address!r}, 7007), 1)"
    return not subprocess.run([*host.within, sys.executable, "-ISc", try_it], stderr=subprocess.DEVNULL).returncode


def test_a_host_reaches_those_of_its_segments_until_it_is_cut_off() -> None:
    with open_network(loopback=False) as net:
        net.segment("left", "a", "b")
        net.segment("right", "b", "c")
        a, b, c = net.hosts.values()
        server = subprocess.Popen([*b.within, sys.executable, "-ISc", _SERVER], stdout=subprocess.PIPE)
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        server.stdout.close()
        assert reaches(a, b.addresses["left"])
        assert reaches(c, b.addresses["right"])
        assert not reaches(c, b.addresses["left"])
        net.cut("b", "left")
        assert not reaches(a, b.addresses["left"])
        assert reaches(c, b.addresses["right"])
        net.join("b", "left")
        assert reaches(a, b.addresses["left"])
    assert server.wait(PATIENCE) == -signal.SIGKILL


def test_nothing_stays_of_a_network_whose_owner_was_killed() -> None:
    if reason := network.reason_for_no_namespaces():
        pytest.skip(reason)
    owner = subprocess.Popen([sys.executable, "-c", _OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
    assert owner.stdin is not None
    assert owner.stdout is not None
    pids = [int(pid) for pid in owner.stdout.readline().split()]
    assert len(pids) == 4
    spaces = {Path(f"/proc/{pid}/ns/net").stat().st_ino for pid in pids}
    assert len(spaces) == 3
    owner.kill()
    owner.wait()
    owner.stdin.close()
    owner.stdout.close()
    end = time.monotonic() + PATIENCE
    while spaces & network_spaces():
        assert time.monotonic() < end, "left behind: a namespace"
        time.sleep(0.01)


def network_spaces() -> set[int]:
    """Return the network namespaces that some process is in; one that nobody is in is gone, as these have no name."""
    found = set()
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                found.add(Path(f"/proc/{name}/ns/net").stat().st_ino)
            except OSError:  # it has ended
                continue
    return found


def test_without_namespaces_hosts_are_addresses_of_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "reason_for_no_namespaces", lambda: "nothing is allowed")
    with open_network() as net:
        net.segment("lan", "a", "b")
        assert [host.address for host in net.hosts.values()] == ["127.77.1.1", "127.77.1.2"]
        with pytest.raises(pytest.skip.Exception, match="nothing is allowed"):
            net.cut("a")
    with pytest.raises(pytest.skip.Exception, match="nothing is allowed"), open_network(loopback=False):
        pass
