from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from taktora_trio.health import Failure
from taktora_trio.processes.child.supervisor_link import SupervisorLink, inherited_link
from taktora_trio.processes.link import GatewayFailed, GatewayStarted, LinkEnd, Message, ReviveGateway
from taktora_trio.processes.parent.child_link import ChildLink, open_link
from tests.processes.children import LONG

ROOT = Path(__file__).parent.parent.parent
FAILURE = Failure(
    kind="hang",
    description="no sign of life",
    incarnation=2,
    uptime=1.5,
    at=1e9,
    delay=None,
    attempts_left=0,
    gave_up="it ended 3 times",
    stderr_tail=("one", "zwei ä"),
)


@contextlib.contextmanager
def open_pair(monkeypatch: pytest.MonkeyPatch, incarnation: int = 3) -> Iterator[tuple[ChildLink, SupervisorLink]]:
    """Both ends in this process, the child's got as a child does."""
    with open_link() as link:
        (value,) = link.environment(incarnation).values()
        fd, rest = value.split(" ", 1)
        theirs = os.dup(int(fd))
        assert int(fd) == link.fd
        link.child_has_it()
        monkeypatch.setenv("TAKTORA_SUPERVISOR", f"{theirs} {rest}")
        inherited = inherited_link()
        assert inherited is not None
        yield link, inherited
        inherited.close()


async def received(end: LinkEnd, count: int) -> list[Message]:
    messages: list[Message] = []
    with trio.fail_after(LONG):
        async with contextlib.aclosing(end.messages()) as incoming:
            async for message in incoming:
                messages.append(message)
                if len(messages) == count:
                    break
    return messages


async def test_messages_go_both_ways_whole_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    with open_pair(monkeypatch) as (link, inherited):
        sent: list[Message] = [GatewayStarted(1, 42), GatewayFailed(42, FAILURE), GatewayStarted(2, 43)]
        for message in sent:
            link.send(message)
        inherited.send(ReviveGateway())
        assert await received(inherited, 3) == sent
        assert await received(link, 1) == [ReviveGateway()]


async def test_who_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    with open_pair(monkeypatch) as (_, inherited):
        assert (inherited.pid, inherited.incarnation) == (os.getpid(), 3)
        assert "TAKTORA_SUPERVISOR" not in os.environ  # what is started from here is another's
        assert not os.get_inheritable(inherited.fileno())
        assert inherited_link() is None


async def test_the_end_of_either_ends_the_messages_of_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    for index in (0, 1):
        with open_pair(monkeypatch) as pair:
            pair[index].send(GatewayStarted(1, 42))
            pair[index].close()
            assert await received(pair[1 - index], 9) == [GatewayStarted(1, 42)]
            pair[1 - index].send(ReviveGateway())  # to nobody: no error


async def test_closed_while_somebody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    with open_pair(monkeypatch) as (link, _), trio.fail_after(LONG):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(received, link, 1)
            await wait_all_tasks_blocked()
            link.close()


async def test_closed_while_nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    with open_pair(monkeypatch) as (link, inherited):
        inherited.send(ReviveGateway())
        messages = link.messages()
        assert await anext(messages) == ReviveGateway()
        link.close()
        assert [message async for message in messages] == []
        assert [message async for message in link.messages()] == []


async def test_a_peer_that_reads_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with open_pair(monkeypatch) as (link, inherited):
        for number in range(100_000):
            link.send(GatewayStarted(number, 42))
        first = await received(inherited, 3)
        assert first == [GatewayStarted(number, 42) for number in range(3)]


@pytest.mark.parametrize("nonsense", [b"{", b"null", b"\xff", b'{"type":"Unknown"}', b'{"type":"GatewayStarted"}'])
async def test_nonsense_is_passed_over(
    nonsense: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with open_pair(monkeypatch) as (link, inherited):
        os.write(inherited.fileno(), nonsense)
        inherited.send(ReviveGateway())
        assert await received(link, 1) == [ReviveGateway()]
    assert "a message on the link makes no sense" in caplog.text


@given(st.binary(min_size=1, max_size=100))
def test_no_bytes_end_the_one_that_reads(data: bytes) -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        link = ChildLink(ours, theirs)
        theirs.send(data)
        theirs.close()
        assert all([isinstance(message, Message) async for message in link.messages()])
        link.close()

    trio.run(main)


async def test_nothing_is_left_open() -> None:
    before = os.listdir("/proc/self/fd")
    with open_link():
        assert len(os.listdir("/proc/self/fd")) == len(before) + 2
    with contextlib.suppress(ZeroDivisionError), open_link() as link:
        link.child_has_it()
        raise ZeroDivisionError
    assert os.listdir("/proc/self/fd") == before


# A process between this one and its child, which is killed

BETWEEN = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=1)
print(child.pid, flush=True)
child.wait()
"""
CHILD = """
import os, socket, sys, trio
from taktora_trio.processes.child.supervisor_link import SupervisorLink
ours, theirs = socket.socketpair()
link = SupervisorLink(ours, os.getppid(), 1)

async def main():
    print("waits", flush=True)
    await link.wait_until_gone()
    print("gone", flush=True)
    await link.wait_until_gone()  # at once, when it is gone already

trio.run(main)
print("ended", flush=True)
"""


async def test_the_end_of_the_supervisor_is_noticed_however_it_comes() -> None:
    with trio.fail_after(LONG):
        between = await trio.lowlevel.open_process(
            [sys.executable, "-c", BETWEEN, CHILD], stdout=subprocess.PIPE, cwd=ROOT
        )
        assert between.stdout is not None
        said = b""
        async with between.stdout:
            while b"waits\n" not in said or said.count(b"\n") < 2:
                said += await between.stdout.receive_some()
            between.kill()
            await between.wait()
            async for chunk in between.stdout:
                said += chunk
    assert said.endswith(b"gone\nended\n")
