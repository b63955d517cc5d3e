"""A network of hosts for a test: namespaces where the machine allows it, else addresses of loopback.

In namespaces a host can be cut off and joined again: neither it nor another is told. On loopback it can't.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs
import pytest

__all__ = ["Host", "Network", "open_network", "reason_for_no_namespaces"]

_ANCHOR = Path(__file__).with_name("anchor.py")
_UNTIL_THERE = 10.0


@attrs.define(eq=False)
class Host:
    """A host: what is started with `within` before its command runs there."""

    name: str
    within: Sequence[str] = ()
    addresses: dict[str, str] = attrs.field(factory=dict)
    """Its address on each segment."""
    pid: int = 0

    @property
    def address(self) -> str:
        """Its address on the first segment that it was joined to."""
        return next(iter(self.addresses.values()))


@attrs.define(eq=False)
class Network:
    """Hosts and segments. A segment is what a switch joins: whoever is on it reaches the others, and no one else."""

    switch: Host | None
    """The namespace of the switches; `None` where the hosts are addresses of loopback."""
    hosts: dict[str, Host] = attrs.field(factory=dict)
    _segments: list[str] = attrs.field(factory=list)
    _anchors: contextlib.ExitStack = attrs.field(factory=contextlib.ExitStack)

    @property
    def can_cut(self) -> bool:
        return self.switch is not None

    def segment(self, name: str, *hosts: str) -> None:
        """Add a segment, and hosts to it, which are made if there are none of these names."""
        self._segments.append(name)
        number = len(self._segments)
        if self.switch is not None:
            self._ip(self.switch, f"link add {name} type bridge mcast_snooping 0", f"link set {name} up")
        for host_name in hosts:
            host = self.hosts.get(host_name) or self._add(host_name)
            place = 1 + list(self.hosts).index(host_name)
            host.addresses[name] = f"10.77.{number}.{place}" if self.can_cut else f"127.77.{number}.{place}"
            if self.switch is not None:
                port = self._port(host_name, name)
                self._ip(
                    self.switch,
                    f"link add {port} type veth peer name {name} netns {host.pid}",
                    f"link set {port} master {name} up",
                )
                self._ip(host, f"addr add {host.addresses[name]}/24 dev {name}", f"link set {name} up")

    def cut(self, host: str, segment: str | None = None) -> None:
        """Cut the host off a segment, or off all: what is sent is lost from now on, and nobody is told."""
        self._each_port(host, segment, "nomaster")

    def join(self, host: str, segment: str | None = None) -> None:
        """Undo `cut`."""
        for name in self._of(host, segment):
            self._each_port(host, name, f"master {name}")

    def _each_port(self, host: str, segment: str | None, what: str) -> None:
        if self.switch is None:
            pytest.skip(f"on loopback no host can be cut off: {reason_for_no_namespaces()}")
        self._ip(self.switch, *(f"link set {self._port(host, name)} {what}" for name in self._of(host, segment)))

    def _of(self, host: str, segment: str | None) -> list[str]:
        return list(self.hosts[host].addresses) if segment is None else [segment]

    def _port(self, host: str, segment: str) -> str:
        return f"p{list(self.hosts).index(host)}s{self._segments.index(segment)}"

    def _add(self, name: str) -> Host:
        host = self.hosts[name] = self._anchors.enter_context(_namespace(name)) if self.can_cut else Host(name)
        return host

    def _ip(self, where: Host, *commands: str) -> None:
        subprocess.run(
            [*where.within, "ip", "-batch", "-"],
            input="\n".join(commands).encode(),
            check=True,
            timeout=_UNTIL_THERE,
        )


@contextlib.contextmanager
def _namespace(name: str) -> Iterator[Host]:
    """A network namespace with nothing but loopback. At the end of the block whatever runs there is killed."""
    command = ["unshare", "--net", sys.executable, "-I", "-S", str(_ANCHOR)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        if process.stdout.readline() != b"here\n":
            raise OSError(f"no network namespace: {' '.join(command)} ended by {process.wait()}")
        within = ("nsenter", f"--net=/proc/{process.pid}/ns/net", "--")
        subprocess.run([*within, "ip", "link", "set", "lo", "up"], check=True, timeout=_UNTIL_THERE)
        yield Host(name, within, pid=process.pid)
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait(_UNTIL_THERE)


@functools.cache
def reason_for_no_namespaces() -> str:
    """Return why this machine has no namespaces for a test; empty if it has."""
    for tool in ("unshare", "nsenter", "ip"):
        if shutil.which(tool) is None:
            return f"{tool}(8) is not installed"
    if os.geteuid() != 0:
        return "only root may make network namespaces"
    trial = [
        "unshare",
        "--net",
        "sh",
        "-c",
        "ip link add name there type bridge && ip link add name one type veth peer name other",
    ]
    done = subprocess.run(trial, capture_output=True, timeout=_UNTIL_THERE)
    return f"no bridge or veth: {done.stderr.decode(errors='replace').strip()}" if done.returncode else ""


@contextlib.contextmanager
def open_network(*, loopback: bool = True) -> Iterator[Network]:
    """An empty network. Where there are no namespaces it is one of loopback, or the test is skipped without `loopback`.

    At the end of the block, and at the end of this process, however it ends, all that runs on its hosts is killed.
    """
    reason = reason_for_no_namespaces()
    if reason and not loopback:
        pytest.skip(f"no network namespaces: {reason}")
    with contextlib.ExitStack() as anchors:
        yield Network(None if reason else anchors.enter_context(_namespace("switch")), anchors=anchors)
