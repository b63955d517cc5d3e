"""A domain: one deployment's private corner of shared memory.

Three roles hold a lock: the *owner* creates the services and outlives the halves (a supervisor, or else the plugin),
the *plugin*, and the *gateway*. One process each; a second one is refused.

Everything of a domain can be named, so everything of it can be removed. An owner that comes makes a new generation of
files, unless a half of the run before still uses the last; the last process to leave removes it. Nobody waits for
another process in that, so none that is stopped, or hangs, keeps another from coming.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Literal, TypeAlias

import attrs
import iceoryx2 as iox2
import trio
from trio_util import move_on_when

from taktora_trio.errors import ConfigError, DomainInUse, TransportError
from taktora_trio.processes.patience import sleep_running
from taktora_trio.processes.pidfd import wait_for_exit
from taktora_trio.transport.descriptors import refusal
from taktora_trio.transport.doorbell import has_doorbell, ring, wait_at_doorbell
from taktora_trio.transport.folder import (
    PULSE,
    Generation,
    generations,
    new_generation,
    open_folder,
    remove_generation,
    user_folder,
)
from taktora_trio.transport.locks import holder_of, is_stopped, release, try_lock
from taktora_trio.transport.machine import machine_id
from taktora_trio.transport.reservation import reserve
from taktora_trio.transport.segments import PAGE, SHM, segments

__all__ = ["ROLES", "SHM", "Domain", "Node", "Role", "clean_up_dead_nodes", "open_node"]

log = logging.getLogger(__name__)

Node: TypeAlias = iox2.Node
Role: TypeAlias = Literal["owner", "plugin", "gateway"]
HALVES: tuple[Role, ...] = ("plugin", "gateway")
ROLES: tuple[Role, ...] = ("owner", *HALVES)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LABEL = 13  # characters, for the path of a unix socket below it ends at 107 bytes
_READY = "ready"
_NODE = 4 * PAGE

iox2.set_log_level(iox2.LogLevel.Error)


@attrs.frozen
class Domain:
    """Names and locks of the domain called `name` (1 to 64 letters, digits, `.`, `_`, `-`), of the present user.

    What is done with it raises `ConfigError` if shared memory can't be used, or is not safe from other users.
    """

    name: str

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise ConfigError(f"domain {self.name!r}: use 1 to 64 letters, digits, '.', '_' or '-' (--domain NAME)")

    @property
    def identity(self) -> str:
        """A name for others to know this deployment by: the same at each start, and unlike that of any other machine.
        In a container it may pass (`machine.py`).

        MQTT brokers take 23 letters and digits for certain (MQTT 3.1.1, section 3.1.3.1), most of them far more.
        """
        here = f"{machine_id()}:{socket.gethostname()}:{os.getuid()}:{self.name}"
        return f"{self.name[:20]}-{hashlib.sha256(here.encode()).hexdigest()[:10]}"

    @property
    def label(self) -> str:
        """The name in file names: a long one is shortened."""
        digest = hashlib.sha256(self.name.encode()).hexdigest()[:7]
        return self.name if len(self.name) <= _LABEL else f"{self.name[: _LABEL - 8]}~{digest}"

    @property
    def generation(self) -> Generation | None:
        """The files in use now, if there are any."""
        with open_folder() as folder:
            return next(iter(generations(folder, self.label)), None)

    @property
    def root(self) -> Path:
        """The folder of everything that is not a shared-memory segment; there is none while nobody uses the domain.

        Under /dev/shm too, so that containers that share one mount share the domain.
        """
        now = self.generation
        return user_folder() / self.label if now is None else now.path

    @property
    def prefix(self) -> str:
        """With this the domain's files in /dev/shm begin now, and no other domain's. Raises `TransportError`."""
        return self._present().prefix

    def files(self) -> list[Path]:
        """Everything that exists of this domain now, in /dev/shm and in the user's folder."""
        with open_folder() as folder:
            own = [*generations(folder, self.label), *generations(folder, self.label, gone=True)]
        found = [segment.path for each in own for segment in segments(each.prefix)]
        for each in own:
            # os.walk, unlike a glob, does not mind folders that vanish meanwhile, as those of a node that is closing.
            walk = [Path(folder, name) for folder, folders, names in os.walk(each.path) for name in (*folders, *names)]
            found += [each.path, *walk]
        return sorted(found)

    # Roles

    def holder(self, role: Role) -> int | None:
        """The process id that holds the role, if a live process does (0, if its process-id namespace is another)."""
        return holder_of(self.name, role)

    @contextlib.contextmanager
    def hold(self, *roles: Role) -> Iterator[None]:
        """Hold these roles; the last holder to leave removes what is left of the domain. Never waits.

        An owner first removes what a killed run has left, unless a live half still uses it.
        Raises `DomainInUse` if another process holds one of them.
        """
        with contextlib.ExitStack() as held:
            for role in roles:
                if not try_lock(self.name, role):
                    raise self._in_use(role)
                held.callback(release, self.name, role)
            holder = os.getpid()
            try:
                if "owner" in roles:
                    self._begin()
                yield
            finally:
                held.close()
                if os.getpid() == holder:  # else it was forked in the block: the domain is its parent's
                    self._remove_if_unused()

    def remove_if_alone(self) -> None:
        """Remove every file now, for an owner that is about to end by force; unless another process still uses them."""
        self._remove_unless(lambda holder: holder not in (None, os.getpid()))

    async def settle(self, seconds: float = 5.0) -> None:
        """Before a run of both halves: let those of a killed run end, which they do by themselves.

        Raises `DomainInUse` if a half goes on after `seconds`.
        """
        if self.holder("owner") is None:
            for role in HALVES:
                if pid := self.holder(role):
                    log.info("domain %s: waiting for the %s of the run before (pid %d) to end", self.name, role, pid)
                    async with move_on_when(sleep_running, seconds):
                        await wait_for_exit(pid)
        for role in ROLES:
            if self.holder(role) is not None:
                raise self._in_use(role)
        await trio.lowlevel.checkpoint()

    async def end_orphan(self, role: Role, seconds: float = 5.0) -> None:
        """As a half that has left, after their supervisor was killed: see to it that the other half ends, too.

        It does by itself, unless it hangs or is stopped; then it is killed, and what it used is removed.
        """
        if (pid := self.holder(role)) is None:
            return
        async with move_on_when(sleep_running, seconds):
            await wait_for_exit(pid)
        if self.holder(role) == pid:
            log.error(
                "domain %s: the %s (pid %d) does not end without its supervisor, so it is killed", self.name, role, pid
            )
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            await wait_for_exit(pid)
        self._remove_if_unused()  # it may not have left as it should

    def _in_use(self, role: Role) -> DomainInUse:
        pid = self.holder(role)
        which = f"pid {pid or 'unknown'}"
        if pid and is_stopped(pid):
            which += f", which stands still: `kill -CONT {pid}` lets it go on"
        return DomainInUse(
            f"domain {self.name!r} already has {'an' if role == 'owner' else 'a'} {role} ({which}):"
            " end that one, or choose another domain with --domain NAME"
        )

    # Generations

    def _begin(self) -> None:
        """As the owner: have files to work with."""
        with open_folder() as folder:
            last = generations(folder, self.label)
            # In this order. A half that comes takes its role, and only then looks whether the domain is ready: so if
            # it was before this, its role is seen below.
            for generation in last:
                generation.path.joinpath(_READY).unlink(missing_ok=True)
            if last and any(self.holder(half) not in (None, os.getpid()) for half in HALVES):
                return
            stale = [*last, *generations(folder, self.label, gone=True)]
            count = sum(remove_generation(folder, generation) for generation in stale)
            if count > 0:
                log.info("domain %s: removed %d files that a killed run has left", self.name, count)
            new_generation(folder, self.label)

    def _present(self) -> Generation:
        now = self.generation
        if now is None:
            raise TransportError(f"domain {self.name!r} has no owner: start its plugin, or `taktora-trio run`, first")
        return now

    def _remove_if_unused(self) -> None:
        self._remove_unless(lambda holder: holder is not None)

    def _remove_unless(self, uses: Callable[[int | None], bool]) -> None:
        with open_folder() as folder:
            # Looked for before the roles are: an owner that comes later makes other files.
            mine = [*generations(folder, self.label), *generations(folder, self.label, gone=True)]
            if not any(uses(self.holder(role)) for role in ROLES):
                for generation in mine:
                    remove_generation(folder, generation)

    # Readiness: the owner says when every service exists, the gateway may wait for it

    def announce_ready(self) -> None:
        """As the owner: all services exist. Wakes every process in `wait_until_ready`."""
        self._present().path.joinpath(_READY).touch(mode=0o600)
        with open_folder() as folder:
            ring(folder, self.label)

    def is_ready(self) -> bool:
        now = self.generation
        return now is not None and now.path.joinpath(_READY).exists() and self.holder("owner") is not None

    async def wait_until_ready(self) -> None:
        """Wait until an owner has announced every service; without polling, by a named pipe of its own.

        A half looks again (`is_ready`) when it has its role: from then on no owner removes the files that it uses.
        """
        await trio.lowlevel.checkpoint()
        if not self.is_ready():
            with open_folder() as folder:
                await wait_at_doorbell(folder, self.label, self.is_ready)

    def is_awaited(self) -> bool:
        """Whether a process waits in `wait_until_ready`."""
        with open_folder() as folder:
            return has_doorbell(folder, self.label)

    def pulse_path(self, role: Role) -> Path:
        """Where the holder of a role gives its signs of life. Raises `TransportError` if the domain has no owner."""
        return self._present().path / f"{PULSE}{role}"

    # iceoryx2

    def config(self) -> iox2.config.Config:
        now = self._present()
        config = iox2.config.default()
        config.global_cfg.root_path = iox2.Path.new(str(now.path))
        config.global_cfg.prefix = iox2.FileName.new(now.prefix)
        return config


@contextlib.asynccontextmanager
async def open_node(domain: Domain, name: str) -> AsyncIterator[iox2.Node]:
    """An iceoryx2 node in the domain, with dead ones cleaned up first.

    Whoever opens one must hold a role, and hold it for longer than any reference to the node lasts: a local variable
    of the same function outlives the block that it was opened for.

    Raises `TransportError` (`SharedMemoryFull` is one) and `TooFewDescriptors`.
    """
    config = domain.config()
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
    yield node


async def clean_up_dead_nodes(node: iox2.Node) -> None:
    """Free the ports of processes that were killed. Scans the domain's folder, so it runs in a thread."""
    await trio.to_thread.run_sync(node.try_cleanup_dead_nodes)
