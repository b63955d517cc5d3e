"""Pump: the one task that moves messages for all channels of a connector, those alone that have something to move.

With a task for each channel, a message cost a wake-up, a task's turn and a cycle of its own, once there were many
channels and each had little to say.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

import trio

from taktora_trio.executor import Executor
from taktora_trio.executor.triggers import when_waited

if TYPE_CHECKING:
    from taktora_trio.connectors.connection import Connection

__all__ = ["Place", "Pump", "Turn"]

_BATCH = 64  # messages that are moved before other tasks have their turn


class Place(Protocol):
    """Where the pump waits. `wake` has the `wait` return that runs, or, unless `clear` is called, the next.

    `collect` has those ask for their turns who were rung and wait there.
    """

    def clear(self) -> None: ...

    def collect(self) -> None: ...

    def wake(self) -> None: ...

    async def wait(self) -> None: ...


class _Alone:
    """A place that nothing but `wake` ends the waiting at."""

    def __init__(self) -> None:
        self._woken = trio.Event()

    def clear(self) -> None:
        if self._woken.is_set():
            self._woken = trio.Event()

    def collect(self) -> None:
        pass

    def wake(self) -> None:
        self._woken.set()

    async def wait(self) -> None:
        await self._woken.wait()


class Turn:
    """The turn of one piece of work, of `Pump.add`: it is taken when somebody asks for it, and at first."""

    __slots__ = ("_is_asked_for", "_pump", "name", "step")

    def __init__(self, pump: Pump, name: str, step: Callable[[], int]) -> None:
        self.name = name
        self.step = step
        self._pump = pump
        self._is_asked_for = False

    def ask(self) -> None:
        """Have the step called once more, soon: behind those that were asked for before."""
        if not self._is_asked_for:
            self._is_asked_for = True
            pump = self._pump
            pump.ready.append(self)
            if not pump.in_batch:  # else it looks for itself
                pump.place.wake()

    def ask_at(self, time: float) -> None:
        """Have the step called at this time at the latest, if it is not called before."""
        later = self._pump.later
        if time < later.get(self, time + 1):
            later[self] = time
            self._pump.place.wake()

    def take(self) -> int:
        self._is_asked_for = False
        if self._pump.later:
            self._pump.later.pop(self, None)
        return self.step()


class Pump:
    """Takes the turns that are asked for, one after the other: none waits for more than a batch of each of the others.

    It is one item of an executor, with a batch of messages in a cycle.
    """

    def __init__(self, place: Place | None = None) -> None:
        """It waits at `place`, where also whoever rings a channel may wake it."""
        self.place: Place = _Alone() if place is None else place
        self.ready: deque[Turn] = deque()
        self.later: dict[Turn, float] = {}
        self.in_batch = False
        """True while it moves a batch, or a connection hands over what has come together: then nobody wakes it."""
        self.gathers = False
        """True while a connection says which messages are done, in a batch: the app is told at the end."""
        self.at_end: list[Callable[[], None]] = []
        """What is called then, once."""
        self._writing: AbstractContextManager[object] = contextlib.nullcontext()

    def add(self, name: str, step: Callable[[], int]) -> Turn:
        """Add a piece of work, of a channel of this name.

        `step` moves up to a batch of messages and returns how many it has moved. It never waits; where there may be
        more to move at once it asks for its next turn. What it raises ends the executor.
        """
        turn = Turn(self, name, step)
        turn.ask()
        return turn

    def add_to(self, executor: Executor, name: str) -> None:
        executor.add(self.cycle, when_waited(self.wait), name=name)

    @contextlib.contextmanager
    def serving(self, connection: Connection) -> Iterator[None]:
        """Move batches to and from this connection in the block: see `Connection.in_batches`."""
        self._writing = connection.in_batches(self)
        try:
            yield
        finally:
            self._writing = connection.in_batches(contextlib.nullcontext())

    # Around answers that a connection hands over

    def __enter__(self) -> None:
        self.in_batch = self.gathers = True

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._move()  # what can go now that there is room, in the same turn of the loop
        if self.ready:
            self.place.wake()

    async def wait(self) -> None:
        """Wait until somebody has asked for a turn. Other tasks run meanwhile, in any case."""
        if self.ready:  # nobody else would be heard as long as one always has more to move
            self.place.collect()
            self._ask_for_those_due()
            await trio.lowlevel.checkpoint()
        while not self.ready:
            self.place.clear()
            with trio.move_on_at(min(self.later.values())) if self.later else contextlib.nullcontext():
                await self.place.wait()
            self._ask_for_those_due()

    def _ask_for_those_due(self) -> None:
        if self.later:
            now = trio.current_time()
            for turn in [turn for turn, time in self.later.items() if time <= now]:
                del self.later[turn]
                turn.ask()

    async def cycle(self, context: object) -> None:
        """Take turns until a batch of messages is moved, or nobody asks for one."""
        self._move()

    def _move(self) -> None:
        ready, moved = self.ready, 0
        self.in_batch = True
        try:
            while ready and moved < _BATCH:
                with self._writing:
                    self.gathers = False
                    while ready and moved < _BATCH:
                        turn = ready.popleft()
                        try:
                            moved += turn.take() + 1  # to find nothing takes its time, too
                        except Exception as exc:
                            exc.add_note(f"in channel {turn.name!r}")
                            raise
                    self.gathers = True  # what is done since it was written
        finally:
            self.in_batch = self.gathers = False
            while self.at_end:  # an app that is told takes the core from us, so it is told last
                self.at_end.pop()()
