"""Cleaning up after killed processes, such that a cleaner that is killed itself leaves nothing undone for good.

iceoryx2 first removes the tag of a dead port, then frees the port's place in its service. The next cleaner takes a
missing tag for an error, and skips the port: so if one was killed between the two, the place stayed taken, and nobody
could open that end of the channel again. Therefore tags have a second name while a cleaner is at work, by which the
next one puts back those that are gone.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import iceoryx2 as iox2
import trio

__all__ = ["KEPT", "clean_up_dead_nodes", "without_own_cleaning"]

KEPT = "kept"
"""The folder of the second names, among a domain's present files. Who has its lock cleans up."""


def without_own_cleaning(config: iox2.config.Config) -> iox2.config.Config:
    """Have iceoryx2 not clean up by itself, as it would whenever a node or a service is opened."""
    config.global_cfg.node.cleanup_dead_nodes_on_creation = False
    config.global_cfg.node.cleanup_dead_nodes_on_destruction = False
    config.global_cfg.service.cleanup_dead_nodes_on_open = False
    return config


async def clean_up_dead_nodes(node: iox2.Node) -> None:
    """Free the ports of processes that were killed, unless somebody else is at it.

    It scans the domain's folder, so it runs in a thread. Where it can't (there is no descriptor left), what needs the
    place fails, and says why.
    """
    await trio.to_thread.run_sync(_clean_up, node)


def _clean_up(node: iox2.Node) -> None:
    root = Path(node.config.global_cfg.root_path.to_string())
    nodes, kept = root / "nodes", root / KEPT
    with contextlib.suppress(OSError, iox2.NodeListFailure), _alone(kept):
        for name in os.listdir(kept):
            tag, _, owner = name.rpartition(".")
            _link(kept / name, nodes / owner / tag)
        suffix = node.config.global_cfg.node.port_tag_suffix.to_string()
        for state in iox2.Node.list(iox2.ServiceType.Ipc, node.config):
            if isinstance(state, iox2.NodeState.Dead):
                owner = str(state[0].id.value)
                with contextlib.suppress(FileNotFoundError):
                    for tag in os.listdir(nodes / owner):
                        if tag.endswith(suffix):
                            _link(nodes / owner / tag, kept / f"{tag}.{owner}")
        node.try_cleanup_dead_nodes()
        for name in os.listdir(kept):
            if not (nodes / name.rpartition(".")[2]).exists():
                (kept / name).unlink()


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which the kernel takes from a killed process. Raises `BlockingIOError` if it is taken."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(fd)


def _link(name: Path, other: Path) -> None:
    # It is there already, or the node is gone; and where there is no room for a name, cleaning up makes some.
    with contextlib.suppress(OSError):
        os.link(name, other, follow_symlinks=False)
