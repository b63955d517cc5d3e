"""Nodes in shared memory: one for each process of a domain, by which it opens iceoryx2's services."""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import iceoryx2 as iox2

from taktora_trio.transport import attaching
from taktora_trio.transport.cleaning import clean_up_dead_nodes, without_own_cleaning
from taktora_trio.transport.cursor import map_cursors
from taktora_trio.transport.descriptors import refusal
from taktora_trio.transport.domain import Domain
from taktora_trio.transport.folder import VITALS
from taktora_trio.transport.kept import map_kept
from taktora_trio.transport.lasting import map_lasting
from taktora_trio.transport.listener_socket import SocketListener
from taktora_trio.transport.ports import Node
from taktora_trio.transport.reservation import reserve
from taktora_trio.transport.segments import PAGE
from taktora_trio.transport.snapshot import Snapshot, SnapshotWriter, map_snapshot, read_snapshot
from taktora_trio.transport.spec import KEPT_WRITERS, Direction, TrunkSpec

__all__ = ["SharedNode", "config_of", "open_node"]

_NODE = 4 * PAGE
# A subscriber with more connections than this to writers that are gone ends its process (iceoryx2 0.10). Each costs it
# 4 KB; the default is 128.
_SPARE = 16


def config_of(domain: Domain) -> iox2.config.Config:
    """Return the iceoryx2 configuration for the domain's present files. Raises `TransportError` if it has no owner."""
    present = domain.present()
    config = iox2.config.default()
    config.global_cfg.root_path = iox2.Path.new(str(present.path))
    config.global_cfg.prefix = iox2.FileName.new(present.prefix)
    config.defaults.publish_subscribe.subscriber_expired_connection_buffer = KEPT_WRITERS + _SPARE
    return without_own_cleaning(config)


class SharedNode(Node):
    """A node of iceoryx2's, and the files of its domain. Use `open_node`."""

    def __init__(self, iox: iox2.Node) -> None:
        self.iox = iox
        self._root = Path(iox.config.global_cfg.root_path.to_string())

    @property
    def generation(self) -> int:
        return int.from_bytes(self._root.name.rpartition("~")[2].encode()[:8], "little")

    def reserve(self, needed: int, what: str) -> AbstractAsyncContextManager[None]:
        return reserve(self.iox.config, needed, what)

    async def open_listener(self, name: str, ids: int) -> SocketListener:
        return await attaching.open_listener(self.iox, name, ids)

    async def open_notifier(self, name: str, ids: int) -> attaching.Notifying:
        return await attaching.open_notifier(self.iox, name, ids)

    async def open_publisher(self, spec: TrunkSpec, direction: Direction) -> attaching.Served:
        return await attaching.open_publisher(self.iox, spec, direction)

    async def open_subscriber(self, spec: TrunkSpec, direction: Direction) -> attaching.Subscribing:
        return await attaching.open_subscriber(self.iox, spec, direction)

    async def open_report_publisher(self, name: str) -> attaching.ServedReports:
        return await attaching.open_report_publisher(self.iox, name)

    async def open_report_subscriber(self, name: str) -> attaching.SubscribingReports:
        return await attaching.open_report_subscriber(self.iox, name)

    def map_cursors(self, spec: TrunkSpec) -> mmap.mmap:
        return map_cursors(self._root / "cursors", spec)

    def map_lasting(self, connector: str, name: str, size: int) -> mmap.mmap:
        return map_lasting(self._root / "cursors", connector, name, size)

    def map_kept(self, name: str, size: int) -> mmap.mmap:
        return map_kept(self._root.name.rpartition("~")[0], name, size)

    def map_snapshot(self, name: str, most: int) -> SnapshotWriter:
        return map_snapshot(self._root / f"{VITALS}{name}", most)

    def last_snapshot(self, name: str) -> Snapshot | None:
        return read_snapshot(self._root / f"{VITALS}{name}")

    async def clean_up(self) -> None:
        await clean_up_dead_nodes(self.iox)


@contextlib.asynccontextmanager
async def open_node(domain: Domain, name: str) -> AsyncIterator[SharedNode]:
    """Open a node in the domain, and clean up dead ones.

    The caller must hold a role, and hold it for longer than any reference to the node lasts: a local variable of the
    same function outlives the block that the node was opened for.

    Raises `TransportError` (`SharedMemoryFull` is one) and `TooFewDescriptors`.
    """
    iox2.set_log_level(iox2.LogLevel.Error)  # here, so that an import of ours changes nothing for others
    config = config_of(domain)
    try:
        async with reserve(config, _NODE, f"a node of domain {domain.name!r}"):
            node = (
                iox2.NodeBuilder.new()
                .name(iox2.NodeName.new(name))
                .config(config)
                # By default iceoryx2 takes 13 signals, and trio would never see SIGINT or SIGTERM again.
                .signal_handling_mode(iox2.SignalHandlingMode.Disabled)
                .create(iox2.ServiceType.Ipc)
            )
    except iox2.NodeCreationFailure as exc:
        what = f"a node of domain {domain.name!r}"
        raise refusal(what, exc, f"cannot open {what}: {exc}; see the iceoryx2 documentation") from exc
    await clean_up_dead_nodes(node)
    shared = SharedNode(node)
    del node
    yield shared
