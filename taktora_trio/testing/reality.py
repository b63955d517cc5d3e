"""What both shapes with a real broker need: a domain and a folder of the test's own, and all peers."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import trio
import trio.testing

from taktora_trio.errors import ConfigError
from taktora_trio.runners.deployment import Deployment
from taktora_trio.statefolder import deployment_folder
from taktora_trio.testing.backend import PeerBackend, Run
from taktora_trio.testing.keeper import open_keeper
from taktora_trio.testing.live import LivePeer, open_peers
from taktora_trio.transport.domain import Domain

__all__ = ["RealBackend", "Reality", "open_reality"]


@attrs.frozen
class Reality:
    domain: Domain
    folder: Path
    """For the files of one run."""
    peers: Mapping[str, LivePeer]
    store: Path | None
    """The folder for what the deployment keeps on disk; `None` if that is nothing."""

    @property
    def settings(self) -> dict[str, Any]:
        """The settings by which each connector reaches its peer, as `open_deployment` takes them."""
        found: dict[str, Any] = {}
        for connector, peer in self.peers.items():
            for name, value in peer.settings.items():
                if "." in name:  # a key of a file, which names its connector itself
                    found[name] = value
                else:
                    found.setdefault(name, {})[connector] = value
        return found

    async def settle(self) -> None:
        """Wait until the test has heard all that the app has published."""
        for peer in self.peers.values():
            await peer.settle()


class RealBackend(PeerBackend):
    """A backend whose peers are real."""

    _reality: Reality

    async def publish(self, connector: str, topic: str, payload: bytes, /, **how: Any) -> None:
        await self._reality.peers[connector].publish(topic, payload, **how)


@contextlib.asynccontextmanager
async def open_reality(deployment: Deployment, run: Run) -> AsyncIterator[Reality]:
    """Open it for one run. After the block nothing of it is left. Raises `ConfigError`."""
    if isinstance(trio.lowlevel.current_clock(), trio.testing.MockClock):
        raise ConfigError(
            "a virtual clock does not go with a real broker: leave autojump_clock and mock_clock out, for the fixture"
            " open_app gives a test the clock that its shape needs"
        )
    domain = Domain(f"test-{uuid.uuid4().hex[:12]}")
    folder = Path(tempfile.mkdtemp(prefix="taktora-test-"))
    known_as = {connector.name: connector.known_as(domain.identity) for connector in deployment.connectors}
    try:
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(open_keeper(domain, folder))
            peers = await open_peers(stack, deployment.connectors, known_as, folder, run.broker, run.journal.add)
            yield Reality(domain, folder, peers, folder / "store" if deployment.store is not None else None)
    finally:
        domain.remove_if_unused()
        domain.forget()
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(deployment_folder(domain.name), ignore_errors=True)
