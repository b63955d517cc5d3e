"""What is known of a level of the log: who has said that it logs from there up."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Collection
from typing import Any

import pytest
import trio
import trio.lowlevel
from trio.testing import wait_all_tasks_blocked

from taktora_trio.processes.child.supervisor_link import SupervisorLink
from taktora_trio.processes.link import LinkEnd
from taktora_trio.runners.parts.levels import PATIENCE
from taktora_trio.runners.parts.relay import Relay
from taktora_trio.transport.domain import Domain


@pytest.fixture(autouse=True)
def level_as_before() -> Any:
    root = logging.getLogger()
    before = root.level
    yield
    root.setLevel(before)


class Half:
    """A half and its link. It answers once it listens."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.link, self.own = LinkEnd(ours), SupervisorLink(theirs, os.getppid(), 1)

    async def listen(self) -> None:
        async for _ in self.own.messages():
            pass


@pytest.mark.parametrize("silent", [(), ("gateway",), ("plugin",), ("gateway", "plugin")])
@pytest.mark.parametrize("ends", [False, True])
async def test_who_has_not_answered_is_named_unless_it_ends(
    silent: Collection[str], ends: bool, autojump_clock: trio.testing.MockClock
) -> None:
    halves = {"plugin": Half(), "gateway": Half()}
    told: list[Collection[str]] = []
    is_told = trio.Event()

    def tell(names: Collection[str]) -> None:
        told.append(names)
        is_told.set()

    async with trio.open_nursery() as nursery:
        relay = Relay(Domain("levels"), nursery)
        relay.plugin_started(halves["plugin"].link)
        relay.gateway(lambda: None).started(1, 1, halves["gateway"].link)
        for name, half in halves.items():
            if name not in silent:
                nursery.start_soon(half.listen)
        await wait_all_tasks_blocked()
        relay.set_level("debug", "", tell)
        if ends:
            for name in silent:
                halves[name].own.close()
        await is_told.wait()
        assert told == [[] if ends else sorted(silent)]
        assert trio.current_time() == (0 if ends or not silent else PATIENCE)
        nursery.cancel_scope.cancel()
    for half in halves.values():
        half.link.close()
        half.own.close()


async def test_a_half_that_is_not_meant_is_not_waited_for() -> None:
    told: list[Collection[str]] = []
    async with trio.open_nursery() as nursery:
        relay, plugin = Relay(Domain("levels"), nursery), Half()
        relay.plugin_started(plugin.link)
        relay.set_level("debug", "gateway", told.append)
        await wait_all_tasks_blocked()
        assert told == [[]]
        nursery.cancel_scope.cancel()
    plugin.link.close()
    plugin.own.close()
