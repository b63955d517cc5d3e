"""Plain Zenoh sessions on hosts, each a process of its own."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import attrs
import trio
from trio_util import RepeatedEvent

from taktora_trio.processes.lines import read_lines
from tests.command import ROOT
from tests.hosts.network import Host
from tests.patience import PATIENCE

__all__ = ["LEASE", "PORT", "Node", "endpoint", "open_node", "open_router"]

PORT = 7447
LEASE = 1.5  # seconds after which whoever says nothing is taken for gone


def endpoint(host: Host, segment: str | None = None, protocol: str = "tcp") -> str:
    """Return where a router on this host is found."""
    return f"{protocol}/{host.address if segment is None else host.addresses[segment]}:{PORT}"


@attrs.define(eq=False)
class Node:
    process: trio.Process
    events: list[dict[str, Any]] = attrs.field(factory=list)
    """What it has told so far; see `node.py`."""
    _news: RepeatedEvent = attrs.field(factory=RepeatedEvent)

    async def do(self, what: str, **arguments: object) -> None:
        assert self.process.stdin is not None
        await self.process.stdin.send_all(json.dumps({"do": what, **arguments}).encode() + b"\n")

    def told(self, event: str, **fields: object) -> list[dict[str, Any]]:
        return [
            one
            for one in self.events
            if one["event"] == event and all(one[name] == value for name, value in fields.items())
        ]

    async def until(self, event: str, count: int = 1, **fields: object) -> dict[str, Any]:
        """Wait until it has told that so often, and return the last one."""
        with trio.fail_after(PATIENCE):
            while len(found := self.told(event, **fields)) < count:
                await self._news.wait()
        return found[count - 1]

    async def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()

    async def read(self) -> None:
        assert self.process.stdout is not None
        async for line in read_lines(self.process.stdout):
            self.events.append(json.loads(line))
            self._news.set()


@contextlib.asynccontextmanager
async def open_node(host: Host, mode: str, **config: object) -> AsyncIterator[Node]:
    """Run a session on the host; `config` is Zenoh's own, with `__` for each `/`. It tells `link` of each link."""
    settings = {"mode": mode, **{name.replace("__", "/"): value for name, value in config.items()}}
    async with trio.open_nursery() as nursery:
        process = await trio.lowlevel.open_process(
            [*host.within, sys.executable, "-m", "tests.zenoh.networks.node", json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        node = Node(process)
        nursery.start_soon(node.read)
        try:
            await node.until("open")
            await node.do("links")
            yield node
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 10):
                process.kill()
                await process.wait()
        nursery.cancel_scope.cancel()


def open_router(
    host: Host, *others: str, protocol: str = "tcp", **config: object
) -> contextlib.AbstractAsyncContextManager[Node]:
    """Run a router on the host, which connects to those at these endpoints, again and again."""
    # All of the host's addresses; on loopback its own one.
    listens = f"{protocol}/0.0.0.0:{PORT}" if host.within else endpoint(host, protocol=protocol)
    return open_node(
        host,
        "router",
        listen__endpoints=[listens],
        connect__endpoints=list(others),
        connect__timeout_ms=-1,
        connect__exit_on_failure=False,
        scouting__multicast__enabled=False,
        transport__link__tx__lease=round(1000 * LEASE),
        **config,
    )
