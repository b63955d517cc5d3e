"""The socket of a link: found by its addresses, it tells how the link ended, what was not taken, and breaks it off."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from taktora_trio.connectors.zenoh.native.link import LinkSocket, find_link_socket

LEASE = 10.0


class Ends(NamedTuple):
    own: socket.socket
    """The library's."""
    others: socket.socket
    found: LinkSocket


def endpoint(name: tuple[str, int], protocol: str = "tcp") -> str:
    host, port = name[:2]
    return f"{protocol}/[{host}]:{port}" if ":" in host else f"{protocol}/{host}:{port}"


@pytest.fixture(params=["127.0.0.1", "::1"])
def ends(request: pytest.FixtureRequest) -> Iterator[Ends]:
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    try:
        server = socket.create_server((request.param, 0), family=family)
    except OSError:
        pytest.skip(f"there is no {request.param}")
    with server, socket.create_connection(server.getsockname()[:2]) as own:
        others, _ = server.accept()
        with others:
            found = find_link_socket(endpoint(own.getsockname(), "tls"), endpoint(own.getpeername(), "tls"))
            assert found is not None
            yield Ends(own, others, found)
            found.close()


def test_only_that_of_both_addresses_is_found(ends: Ends) -> None:
    here, there = endpoint(ends.own.getsockname()), endpoint(ends.own.getpeername())
    descriptors = len(os.listdir("/proc/self/fd"))
    for source, destination in ((here, here), (there, there), (here, "udp/127.0.0.1:1"), ("nonsense", there)):
        assert find_link_socket(source, destination) is None
    with_options = find_link_socket(f"{here}?prio=1", f"{there}#iface=lo")
    assert with_options is not None
    with_options.close()
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_an_end_by_the_other_side_is_told_from_its_silence(ends: Ends) -> None:
    ends.others.sendall(b"x")
    assert ends.own.recv(1) == b"x"
    assert ends.found.ending(LEASE) == "left"  # it has just said something, and has not closed
    ends.others.close()
    assert ends.found.ending(LEASE) == "closed"
    assert ends.found.ending(lease=0.0) in ("closed", "silent")  # it depends on the time since


def test_a_reset_is_told(ends: Ends) -> None:
    ends.others.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    ends.others.close()
    assert ends.found.ending(LEASE) == "reset"


def test_what_is_not_taken_is_counted_and_broken_off(ends: Ends) -> None:
    assert ends.found.unsent == 0
    ends.own.setblocking(False)
    sent = 0
    try:
        while True:
            sent += ends.own.send(bytes(100_000))
    except BlockingIOError:
        pass
    assert 0 < ends.found.unsent <= sent
    ends.found.break_off()
    ends.own.setblocking(True)
    with pytest.raises(OSError, match="Broken pipe"):
        ends.own.send(b"x")


def test_after_its_end_nothing_raises(ends: Ends) -> None:
    ends.found.close()
    assert ends.found.unsent == 0
    ends.found.break_off()
