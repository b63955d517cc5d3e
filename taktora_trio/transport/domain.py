"""A domain: one deployment's private corner of shared memory.

Everything of a domain can be named, so everything of it can be removed: its files in /dev/shm carry its prefix, all
others live under its root. Who uses it is known by advisory locks, which the kernel releases however a process ends.

Three roles hold a lock: the *owner* creates the services and outlives the halves (a supervisor, or else the plugin),
the *plugin*, and the *gateway*. One process each; a second one is refused.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import re
import signal
import socket
import stat
import struct
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Literal, TypeAlias

import attrs
import iceoryx2 as iox2
import trio

from taktora_trio.errors import ConfigError, DomainInUse, TransportError
from taktora_trio.supervision.pidfd import wait_for_exit
from taktora_trio.transport.reserve import PAGE, SHM, NoRoom, room

__all__ = ["SHM", "Domain", "Node", "Role", "clean_up_dead_nodes", "open_node"]

log = logging.getLogger(__name__)

Node: TypeAlias = iox2.Node
Role: TypeAlias = Literal["owner", "plugin", "gateway"]
HALVES: tuple[Role, ...] = ("plugin", "gateway")
ROLES: tuple[Role, ...] = ("owner", *HALVES)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_FLOCK = struct.Struct("hhqqi4x")  # Linux's struct flock on 64-bit machines
_WHOLE_FILE = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
_NODE = 4 * PAGE

iox2.set_log_level(iox2.LogLevel.Error)


@attrs.frozen
class Domain:
    """Names and locks of the domain called `name` (1 to 64 letters, digits, `.`, `_`, `-`), of the present user."""

    name: str

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise ConfigError(f"domain {self.name!r}: use 1 to 64 letters, digits, '.', '_' or '-' (--domain NAME)")

    @property
    def _digest(self) -> str:
        return hashlib.sha256(f"{os.getuid()}:{self.name}".encode()).hexdigest()[:10]

    @property
    def identity(self) -> str:
        """A name for others to know this deployment by: the same at each start, and unlike that of any other machine.

        MQTT brokers take 23 letters and digits for certain (MQTT 3.1.1, section 3.1.3.1), most of them far more.
        """
        here = f"{_machine()}:{socket.gethostname()}:{os.getuid()}:{self.name}"
        return f"{self.name[:20]}-{hashlib.sha256(here.encode()).hexdigest()[:10]}"

    @property
    def root(self) -> Path:
        """The folder of everything that is not a shared-memory segment; it goes when the last user goes.

        Under /dev/shm too, so that containers that share one mount share the domain. A long name is shortened, since
        the path of a unix socket below it ends at 107 bytes.
        """
        short = self.name if len(self.name) <= 20 else f"{self.name[:12]}~{self._digest[:7]}"
        return SHM / f"taktora-{os.getuid()}" / short

    @property
    def prefix(self) -> str:
        """With this the domain's files in /dev/shm begin, and no other domain's."""
        return f"tk{self._digest}_"

    def files(self) -> list[Path]:
        """Everything that exists of this domain now, in /dev/shm and under its root."""
        segments = [path for path in SHM.iterdir() if path.name.startswith(self.prefix)]
        # os.walk, unlike a glob, does not mind folders that vanish meanwhile, as those of a node that is closing.
        below = [Path(folder, name) for folder, folders, names in os.walk(self.root) for name in (*folders, *names)]
        return sorted(segments) + sorted(below)

    # Locks

    def holder(self, role: Role) -> int | None:
        """The process id that holds the role, if a live process does; asks without taking the lock."""
        try:
            fd = os.open(self._lock_path(role), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            kind = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _WHOLE_FILE))[0]
            if kind == fcntl.F_UNLCK:
                return None
            return int(os.pread(fd, 32, 0) or b"0")
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def hold(self, *roles: Role) -> Iterator[None]:
        """Hold these roles; the last holder to leave removes what is left of the domain.

        Raises `DomainInUse` if another process holds one of them.
        """
        with contextlib.ExitStack() as held:
            with self._exclusively():
                for role in roles:
                    held.callback(os.close, self._lock(role))
            try:
                yield
            finally:
                with self._exclusively():
                    held.close()
                    self._remove_if_unused()

    def sweep(self) -> None:
        """As the owner: remove what a killed run has left, unless a live half still uses it."""
        with self._exclusively():
            if any(self.holder(half) not in (None, os.getpid()) for half in HALVES):
                return
            stale = [path for path in self.files() if not _is_lock(path) and not _is_waited_at(path)]
            if stale:
                log.info("domain %s: removing %d files that a killed run has left", self.name, len(stale))
            _remove(stale)

    def remove_if_alone(self) -> None:
        """Remove every file now, for an owner that is about to end by force; unless another process still uses them."""
        if all(self.holder(role) in (None, os.getpid()) for role in ROLES):
            self._remove_all()

    async def settle(self, seconds: float = 5.0) -> None:
        """Before a run of both halves: let those of a killed run end, which they do by themselves.

        Raises `DomainInUse` if a half goes on after `seconds`.
        """
        if self.holder("owner") is None:
            for role in HALVES:
                if pid := self.holder(role):
                    log.info("domain %s: waiting for the %s of the run before (pid %d) to end", self.name, role, pid)
                    with trio.move_on_after(seconds):
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
        with trio.move_on_after(seconds) as waiting:
            await wait_for_exit(pid)
        if waiting.cancelled_caught and self.holder(role) == pid:
            log.error(
                "domain %s: the %s (pid %d) does not end without its supervisor, so it is killed", self.name, role, pid
            )
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            await wait_for_exit(pid)
        with self._exclusively():
            self._remove_if_unused()  # it may not have left as it should

    def _lock_path(self, name: str) -> Path:
        return self.root / f"{name}.lock"

    def _lock(self, role: Role) -> int:
        fd = os.open(self._lock_path(role), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # Open-file-description locks: unlike POSIX record locks they survive closing another descriptor.
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _WHOLE_FILE)
        except BlockingIOError:
            os.close(fd)
            raise self._in_use(role) from None
        try:
            os.pwrite(fd, b"%-10d" % os.getpid(), 0)  # over the one before, for to cut that off could lose the page
        except OSError as exc:
            os.close(fd)
            raise NoRoom(f"the lock of domain {self.name!r}") from exc
        return fd

    @contextlib.contextmanager
    def _exclusively(self) -> Iterator[None]:
        """One process at a time comes, goes or sweeps. Blocks for the moment that takes."""
        path = self._lock_path("mutex")
        while True:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except FileNotFoundError:
                continue  # the folder was removed between the two lines above
            fcntl.fcntl(fd, fcntl.F_OFD_SETLKW, _WHOLE_FILE)
            with contextlib.suppress(FileNotFoundError):
                if os.fstat(fd).st_ino == path.stat().st_ino:
                    break
            os.close(fd)  # it was removed while we waited for it
        try:
            yield
        finally:
            os.close(fd)

    def _in_use(self, role: Role) -> DomainInUse:
        return DomainInUse(
            f"domain {self.name!r} already has {'an' if role == 'owner' else 'a'} {role}"
            f" (pid {self.holder(role) or 'unknown'}): stop that one, or choose another domain with --domain NAME"
        )

    def _remove_if_unused(self) -> None:
        if all(self.holder(role) is None for role in ROLES):
            self._remove_all()

    def _remove_all(self) -> None:
        _remove([path for path in self.files() if not _is_waited_at(path)])
        with contextlib.suppress(OSError):  # somebody waits in there
            self.root.rmdir()
            self.root.parent.rmdir()

    # Readiness: the owner says when every service exists, the gateway may wait for it

    @property
    def _ready(self) -> Path:
        return self.root / "ready"

    def announce_ready(self) -> None:
        """As the owner: all services exist. Wakes every process in `wait_until_ready`."""
        self._ready.touch(mode=0o600)
        for doorbell in self.root.glob("waiting.*"):
            with contextlib.suppress(OSError):  # whoever waited there was killed
                fd = os.open(doorbell, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                os.write(fd, b"!")
                os.close(fd)

    def is_ready(self) -> bool:
        return self._ready.exists() and self.holder("owner") is not None

    async def wait_until_ready(self) -> None:
        """Wait until an owner has announced every service; without polling, by a named pipe of its own."""
        await trio.lowlevel.checkpoint()
        if self.is_ready():
            return
        doorbell = self.root / f"waiting.{os.getpid()}"
        with self._exclusively():
            with contextlib.suppress(FileExistsError):
                os.mkfifo(doorbell, 0o600)
            # Opened for both directions, so that it never reports an end of file.
            fd = os.open(doorbell, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            while not self.is_ready():
                await trio.lowlevel.wait_readable(fd)
                os.read(fd, 64)
        finally:
            os.close(fd)
            with self._exclusively():
                doorbell.unlink(missing_ok=True)
                self._remove_if_unused()

    # iceoryx2

    def config(self) -> iox2.config.Config:
        config = iox2.config.default()
        config.global_cfg.root_path = iox2.Path.new(str(self.root))
        config.global_cfg.prefix = iox2.FileName.new(self.prefix)
        return config


def _machine() -> str:
    for path in (Path("/etc/machine-id"), Path("/proc/sys/kernel/random/boot_id")):
        with contextlib.suppress(OSError):
            if text := path.read_text().strip():
                return text
    return ""


def _is_lock(path: Path) -> bool:
    return path.suffix == ".lock"


def _is_waited_at(path: Path) -> bool:
    """Whether it is the named pipe of a process that still waits there."""
    try:
        if not stat.S_ISFIFO(path.lstat().st_mode):
            return False
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError:  # ENXIO: nobody reads from it (fifo(7))
        return False
    return True


def _remove(paths: list[Path]) -> None:
    for path in reversed(paths):
        with contextlib.suppress(FileNotFoundError):
            if path.is_dir():
                with contextlib.suppress(OSError):  # somebody waits in there
                    path.rmdir()
            else:
                path.unlink()


@contextlib.asynccontextmanager
async def open_node(domain: Domain, name: str) -> AsyncIterator[iox2.Node]:
    """An iceoryx2 node in the domain, with dead ones cleaned up first.

    Whoever opens one must hold a role, and hold it for longer than any reference to the node lasts: a local variable
    of the same function outlives the block that it was opened for.

    Raises `TransportError`; `NoRoom` is one.
    """
    config = domain.config()
    try:
        async with room(config, _NODE, f"a node of domain {domain.name!r}"):
            node = (
                iox2.NodeBuilder.new()
                .name(iox2.NodeName.new(name))
                .config(config)
                # By default iceoryx2 takes 13 signals, and trio would never see SIGINT or SIGTERM again.
                .signal_handling_mode(iox2.SignalHandlingMode.Disabled)
                .create(iox2.ServiceType.Ipc)
            )
    except iox2.NodeCreationFailure as exc:
        raise TransportError(f"cannot open shared memory under {domain.root}: {exc}; is it writable?") from exc
    await clean_up_dead_nodes(node)
    yield node


async def clean_up_dead_nodes(node: iox2.Node) -> None:
    """Free the ports of processes that were killed. Scans the domain's folder, so it runs in a thread."""
    await trio.to_thread.run_sync(node.try_cleanup_dead_nodes)
