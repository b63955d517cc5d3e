"""A deployment that sends numbers and one that hears them, each on a host, and what became of the numbers."""

from __future__ import annotations

import contextlib
import re
import signal
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs

from taktora_trio.transport.domain import Domain
from tests.command import Command, open_command
from tests.deployment.lossless import Figures, figures_of
from tests.hosts.network import Host
from tests.patience import PATIENCE
from tests.zenoh.networks.counting_apps import KINDS, Plan, variable
from tests.zenoh.networks.nodes import LEASE

__all__ = ["Counting", "open_counting", "open_counting_app"]

_HEARD = re.compile(r"\bheard (\w+) ([\d ]+)")


@attrs.define
class Counting:
    """Both run, in the split shape."""

    sender: Command
    receiver: Command
    until: Path
    heard: defaultdict[str, list[int]] = attrs.field(factory=lambda: defaultdict(list))
    """What has come, of each kind."""
    _lines: int = 0

    def look(self) -> None:
        """Read what the receiver has printed since."""
        output = self.receiver.output
        for line in output[self._lines :]:
            if found := _HEARD.search(line):
                self.heard[found[1]] += map(int, found[2].split())
        self._lines = len(output)

    async def until_more(self, count: int = 200, kind: str = "acknowledged", seconds: float = PATIENCE) -> None:
        """Wait until so many more have come."""
        self.look()
        wanted = len(self.heard[kind]) + count

        def enough() -> bool | None:
            self.look()
            return len(self.heard[kind]) >= wanted or None

        await self.receiver.until(enough, f"{count} more of {kind}", seconds)

    async def finish(self) -> dict[str, Figures]:
        """Stop sending, and return what became of all, by kind."""
        sent = {kind: await self.sent(kind) for kind in KINDS}
        for kind, count in sent.items():
            await self.until_heard(kind, count - 1)
        return {kind: figures_of(self.heard[kind], count) for kind, count in sent.items()}

    async def sent(self, kind: str) -> int:
        """Stop sending, and return how many were sent of the kind."""
        self.until.touch()
        line = await self.sender.until_printed(f"sent {kind}")
        return int(re.findall(r"\d+", line.partition(f"sent {kind}")[2])[0])

    async def until_heard(self, kind: str, number: int) -> None:
        """Wait until this number has come."""

        def has_come() -> bool | None:
            self.look()
            return number in self.heard[kind] or None

        await self.receiver.until(has_come, f"{number} of {kind}", PATIENCE)


@contextlib.asynccontextmanager
async def open_counting(
    folder: Path, sender: tuple[Host, dict[str, Any]], receiver: tuple[Host, dict[str, Any]]
) -> AsyncIterator[Counting]:
    """Both are connected when the block begins, each by these options on its host. At the end both must end well."""
    until = folder / f"until-{uuid.uuid4().hex[:8]}"
    async with contextlib.AsyncExitStack() as stack:
        runs = {}
        for name, (host, options) in {"receiver": receiver, "sender": sender}.items():
            runs[name] = await stack.enter_async_context(
                open_counting_app(name, host, until, options={"lease": LEASE, **options})
            )
        for run in runs.values():
            await run.until_event("health-up")
        yield Counting(runs["sender"], runs["receiver"], until)
        for run in runs.values():
            run.signal(signal.SIGTERM)
            assert await run.wait() == 0


@contextlib.asynccontextmanager
async def open_counting_app(name: str, host: Host | None, until: Path, **plan: Any) -> AsyncIterator[Command]:
    """Run the one of this name, in the split shape; `plan` is the rest of its `Plan`."""
    domain = Domain(f"test-{uuid.uuid4().hex[:12]}")
    try:
        async with open_command(
            *("run", f"tests.zenoh.networks.counting_apps:{name}", "--mode", "split", "--domain", domain.name),
            within=() if host is None else host.within,
            env=variable(Plan(until=str(until), **plan)),
        ) as run:
            yield run
        assert domain.files() == [], "left behind in shared memory"
    finally:
        domain.remove_if_alone()
        domain.forget()
