"""A domain: one deployment's private corner of shared memory.

Three roles hold a lock: the *owner* creates the services and outlives the halves (a supervisor, or else the plugin),
the *plugin*, and the *gateway*. One process each; a second one is refused.

Everything of a domain can be named, so everything of it can be removed. An owner that comes makes a new generation of
files, unless a half of the run before still uses the last; the last process to leave removes it. Nobody waits for
another process in that, so none that is stopped, or hangs, keeps another from coming.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal, TypeAlias

import attrs
import trio

from taktora_trio.digest import sha256
from taktora_trio.errors import ConfigError, DomainInUse, TransportError
from taktora_trio.transport.deliveries import is_needed
from taktora_trio.transport.doorbell import has_doorbell, ring, wait_at_doorbell
from taktora_trio.transport.folder import (
    AT_REST,
    FLIGHT,
    PULSE,
    Generation,
    generations,
    new_generation,
    open_folder,
    remove_generation,
    user_folder,
)
from taktora_trio.transport.kept import forget_kept, prune_kept
from taktora_trio.transport.locks import holder_of, is_stopped, release, try_lock
from taktora_trio.transport.machine import machine_id
from taktora_trio.transport.segments import segments

__all__ = ["HALVES", "ROLES", "Domain", "Role"]

log = logging.getLogger(__name__)

Role: TypeAlias = Literal["owner", "plugin", "gateway"]
HALVES: tuple[Role, ...] = ("plugin", "gateway")
ROLES: tuple[Role, ...] = ("owner", *HALVES)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LABEL = 13  # characters, for the path of a unix socket below it ends at 107 bytes
_READY = "ready"


@attrs.frozen
class Domain:
    """The names and locks of a domain of the present user, called `name` (1 to 64 letters, digits, `.`, `_`, `-`).

    Methods raise `ConfigError` if shared memory can't be used, or is not safe from other users.
    """

    name: str

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise ConfigError(f"domain {self.name!r}: use 1 to 64 letters, digits, '.', '_' or '-' (--domain NAME)")

    @property
    def identity(self) -> str:
        """A name by which others may know this deployment: the same at each start, and unlike any other machine's.

        In a container the next start may have another (`machine.py`). It has 31 letters, digits and `-` at most.
        """
        here = f"{machine_id()}:{socket.gethostname()}:{os.getuid()}:{self.name}"
        return f"{self.name[:20]}-{sha256(here.encode()).hexdigest()[:10]}"

    @property
    def label(self) -> str:
        """The domain's name as it is used in file names, where a long one is shortened."""
        digest = sha256(self.name.encode()).hexdigest()[:7]
        return self.name if len(self.name) <= _LABEL else f"{self.name[: _LABEL - 8]}~{digest}"

    @property
    def generation(self) -> Generation | None:
        """The files in use now; `None` if there are none."""
        with open_folder() as folder:
            return next(iter(generations(folder, self.label)), None)

    @property
    def root(self) -> Path:
        """The folder of all files that are no shared-memory segments. It exists only while somebody uses the domain.

        Under /dev/shm too, so that containers that share one mount share the domain.
        """
        now = self.generation
        return user_folder() / self.label if now is None else now.path

    @property
    def prefix(self) -> str:
        """The beginning of the names of this domain's present files in /dev/shm, and of no other's.

        Raises `TransportError` if the domain has no owner.
        """
        return self.present().prefix

    def files(self) -> list[Path]:
        """Return every path of this run of the domain that exists now, in /dev/shm and in the user's folder."""
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
        """Return the id of the process that holds the role (0 if its process-id namespace is another), or `None`."""
        return holder_of(self.name, role)

    @property
    def is_held(self) -> bool:
        """True if a process has a role here; what a killed run has left is not held."""
        return any(self.holder(role) is not None for role in ROLES)

    @contextlib.contextmanager
    def hold(self, *roles: Role, shared: bool = False) -> Iterator[None]:
        """Hold these roles in the block. The last holder to leave removes what is left of the domain. Never waits.

        An owner first removes what a killed run has left, unless a live half still uses it.
        Raises `DomainInUse` if another process holds one of them; with `shared`, unless that shares it, too.
        """
        with contextlib.ExitStack() as held:
            for role in roles:
                if not try_lock(self.name, role, shared=shared):
                    raise self.in_use(role)
                held.callback(release, self.name, role)
            holder = os.getpid()
            try:
                if "owner" in roles:
                    self._begin()
                yield
            finally:
                held.close()
                if os.getpid() == holder:  # else it was forked in the block: the domain is its parent's
                    self.remove_if_unused()

    def remove_if_alone(self) -> None:
        """Remove every file now, unless another process still uses them: for an owner that is about to end by force."""
        self._remove_unless(lambda holder: holder not in (None, os.getpid()))

    def remove_if_unused(self) -> None:
        """Remove every file, unless a process has a role."""
        self._remove_unless(lambda holder: holder is not None)

    def in_use(self, role: Role) -> DomainInUse:
        """Return the error that says who has the role."""
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
        """As the owner: make a new generation of files, unless a half of the run before still uses the last."""
        with open_folder() as folder:
            last = generations(folder, self.label)
            # In this order. A half that comes takes its role, and only then looks whether the domain is ready: so if
            # it was before this, its role is seen below.
            for generation in last:
                generation.path.joinpath(_READY).unlink(missing_ok=True)
                for half in HALVES:
                    generation.path.joinpath(f"{AT_REST}{half}").unlink(missing_ok=True)
            if last and any(self.holder(half) not in (None, os.getpid()) for half in HALVES):
                return
            stale = [*last, *generations(folder, self.label, gone=True)]
            keep_rings = _rings_left(stale)
            count = sum(remove_generation(folder, generation) for generation in stale)
            if count > 0:
                log.info(
                    "domain %s: removed %d files that a killed run has left",
                    self.name,
                    count,
                    extra={"event": "leftovers-removed", "domain": self.name, "count": count},
                )
            made = new_generation(folder, self.label, self.name)
            keep_rings(made.path)

    def present(self) -> Generation:
        """Return the files in use now. Raises `TransportError` if the domain has no owner."""
        now = self.generation
        if now is None:
            raise TransportError(f"domain {self.name!r} has no owner: start its plugin, or `taktora-trio run`, first")
        return now

    def _remove_unless(self, uses: Callable[[int | None], bool]) -> None:
        with open_folder() as folder:
            # Looked for before the roles are: an owner that comes later makes other files.
            mine = [*generations(folder, self.label), *generations(folder, self.label, gone=True)]
            if not any(uses(self.holder(role)) for role in ROLES):
                for generation in mine:
                    remove_generation(folder, generation)
                prune_kept(self.label, is_needed)

    def forget(self) -> None:
        """Remove what is kept for the next run, too: how often the app was given messages it is not done with."""
        forget_kept(self.label)

    # Readiness: the owner says when every service exists, the gateway may wait for it

    def announce_ready(self) -> None:
        """As the owner: say that all services exist. Wakes every process in `wait_until_ready`."""
        self.present().path.joinpath(_READY).touch(mode=0o600)
        with open_folder() as folder:
            ring(folder, self.label)

    def is_ready(self) -> bool:
        """True if an owner has announced every service, and lives."""
        now = self.generation
        return now is not None and now.path.joinpath(_READY).exists() and self.holder("owner") is not None

    async def wait_until_ready(self) -> None:
        """Wait until an owner has announced every service. (It waits at a named pipe of its own, and does not poll.)

        A half looks again (`is_ready`) once it has its role: from then on no owner removes the files that it uses.
        """
        await trio.lowlevel.checkpoint()
        if not self.is_ready():
            with open_folder() as folder:
                await wait_at_doorbell(folder, self.label, self.is_ready)

    def is_awaited(self) -> bool:
        """True if a process waits in `wait_until_ready`."""
        with open_folder() as folder:
            return has_doorbell(folder, self.label)

    # Rest: an operator has stopped a half for now, which is no failure

    def set_at_rest(self, half: Role, rests: bool) -> None:
        """As who supervises a half: say whether it is stopped for now. Where /dev/shm is full, nobody learns of it."""
        with contextlib.suppress(OSError):
            path = self.present().path / f"{AT_REST}{half}"
            if rests:
                path.touch(mode=0o600)
            else:
                path.unlink(missing_ok=True)

    def is_at_rest(self, half: Role) -> bool:
        """True if a half is stopped for now, and who supervises it lives."""
        now = self.generation
        return now is not None and (now.path / f"{AT_REST}{half}").exists() and self.holder("owner") is not None

    def pulse_path(self, role: Role) -> Path:
        """Return the file in which a role's holder gives its signs of life.

        Raises `TransportError` if the domain has no owner.
        """
        return self.present().path / f"{PULSE}{role}"


def _rings_left(stale: Iterable[Generation]) -> Callable[[Path], None]:
    """Return what keeps the flight rings that a killed run has left, in the folder of the next one."""
    if not any(path for generation in stale for path in generation.path.glob(f"{FLIGHT}*")):
        return lambda folder: None
    from taktora_trio.transport.flight import keep_left, left_in  # most runs have none

    left = {name: ring for generation in stale for name, ring in left_in(generation.path).items()}
    return lambda folder: keep_left(folder, left)
