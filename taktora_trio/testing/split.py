"""A deployment in the split shape, as a user runs it: by the command, in processes of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator

import trio
from trio_util import RepeatedEvent

from taktora_trio import Domain
from taktora_trio.processes.lines import read_lines
from taktora_trio.testing.rig import Echo

__all__ = ["SplitRun", "open_split"]

_PATIENCE = 20.0  # seconds for something to be logged, and for the end of all processes


class SplitRun:
    """A running command."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self._gateways: list[int] = []
        self._lines: list[str] = []
        self._news = RepeatedEvent()

    async def gateway(self, incarnation: int) -> int:
        """Wait until that gateway was started, and return its process id."""
        with trio.move_on_after(_PATIENCE):
            while len(self._gateways) < incarnation:
                await self._news.wait()
            return self._gateways[incarnation - 1]
        raise AssertionError(f"gateway {incarnation} was not started; the command said:\n" + "\n".join(self._lines))

    async def stop(self) -> int:
        """Have it stop, and return its exit code."""
        self.process.terminate()
        with trio.fail_after(_PATIENCE):
            return await self.process.wait()

    async def _read(self) -> None:
        assert self.process.stderr is not None
        async for line in read_lines(self.process.stderr):
            self._lines.append(line.decode(errors="replace"))
            with contextlib.suppress(ValueError, KeyError):
                said = json.loads(line)["message"]
                if said.startswith("gateway: started, pid "):
                    self._gateways.append(int(said.rpartition(" ")[2]))
                    self._news.set()


@contextlib.asynccontextmanager
async def open_split(echo: Echo) -> AsyncIterator[SplitRun]:
    """Run it in a domain of its own. At the end of the block it is killed if it still runs."""
    domain = f"conformance-{uuid.uuid4().hex[:12]}"
    command = [sys.executable, "-m", "taktora_trio", "run", echo.target, "--mode", "split", "--domain", domain]
    process = await trio.lowlevel.open_process(
        [*command, "--log", "json", *echo.arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    run = SplitRun(process)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run._read)
        try:
            yield run
        finally:
            if process.returncode is None:
                os.kill(process.pid, signal.SIGTERM)  # it ends its halves, which a SIGKILL would leave to themselves
                with trio.CancelScope(shield=True, deadline=trio.current_time() + _PATIENCE) as patience:
                    await process.wait()
                if patience.cancelled_caught:
                    process.kill()
            Domain(domain).forget()
            nursery.cancel_scope.cancel()
