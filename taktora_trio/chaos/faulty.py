"""Any connector, made to fail on demand in its gateway half: each small fault by name, at its moment, once.

An instruction is a file in a folder that an environment variable names: the file's name is the moment, its text the
fault. The first gateway that comes to that moment takes the file away and then does what it says.
"""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from enum import Enum
from functools import partial
from pathlib import Path
from typing import NoReturn

import attrs
import trio

from taktora_trio.channels import Envelope
from taktora_trio.chaos.greed import take_cores, take_memory
from taktora_trio.connectors.base import Connector, GatewayChannels
from taktora_trio.connectors.connection import Client, OnMessage
from taktora_trio.connectors.source import Source
from taktora_trio.executor import Context, on_health, when
from taktora_trio.health import HealthBoard, HealthEvents, Up

__all__ = ["FOLDER_VARIABLE", "GATEWAY_FAULTS", "Faulty", "GatewayFault", "Instructions", "Moment"]

log = logging.getLogger(__name__)

FOLDER_VARIABLE = "TAKTORA_CHAOS_FOLDER"
"""The environment variable with the folder of instructions. Without it the connector is as any other."""
_LOOK = 0.02  # seconds between two looks into the folder
_LONG = 60.0  # seconds that a blocked gateway and a leaked process last at most, should nobody end them
_GRANDCHILD = "grandchild"
_GREEDY = 0.5  # seconds
_HEADROOM = 64 * 2**20  # bytes of address space that are left to a gateway that is to run out of memory


class Moment(Enum):
    """A moment at which a gateway looks for an instruction to fail."""

    START = "start"
    """The process makes the connector, before it has touched shared memory: it was never ready."""
    CONNECTED = "connected"
    """The broker has just accepted it."""
    TAKE = "take"
    """A message could be taken out of shared memory; from then on none is."""
    PUBLISH = "publish"
    """A message was taken out of shared memory and is not acknowledged."""
    CLEANUP = "cleanup"
    """It was asked to stop, and has nothing more to do than to disconnect."""
    RUNNING = "running"
    """At any time while it runs: soon after the instruction is there."""


@attrs.frozen
class Instructions:
    """The folder through which gateways are told to fail."""

    folder: Path

    @staticmethod
    def of_environment() -> Instructions | None:
        folder = os.environ.get(FOLDER_VARIABLE)
        return None if folder is None else Instructions(Path(folder))

    def give(self, name: str) -> None:
        """Tell the next gateway that comes to the fault's moment."""
        moment = GATEWAY_FAULTS[name].moment
        complete = self.folder / f"{moment.value}.new"
        complete.write_text(name)
        complete.rename(self._file(moment))  # in one step: nobody finds half a file

    def take(self, moment: Moment) -> GatewayFault | None:
        """Return the fault that is asked for at this moment; nobody gets it a second time."""
        mine = self.folder / f"{moment.value}.{os.getpid()}"
        try:
            self._file(moment).rename(mine)
        except FileNotFoundError:
            return None
        return GATEWAY_FAULTS[mine.read_text()]

    def is_waiting(self, name: str) -> bool:
        """Return true if no gateway has taken it yet."""
        return self._file(GATEWAY_FAULTS[name].moment).exists()

    def clear(self) -> None:
        """Forget what nobody has taken, and what was left by who has."""
        for path in self.folder.iterdir():
            path.unlink()

    def note_grandchild(self, pid: int) -> None:
        (self.folder / _GRANDCHILD).write_text(str(pid))

    def grandchild(self) -> int | None:
        """Return the process that a gateway has leaked."""
        with contextlib.suppress(FileNotFoundError):
            return int((self.folder / _GRANDCHILD).read_text())
        return None

    def _file(self, moment: Moment) -> Path:
        return self.folder / moment.value


# The faults


@attrs.frozen
class GatewayFault:
    """One way to fail, and the moment for it."""

    moment: Moment
    act: Callable[[], Awaitable[None] | None]
    """Raises, blocks, or leaves something behind. At `START` there is no event loop yet: a plain function."""


class ChaosError(Exception):
    """An error that nobody expects, so that no handler is meant for it."""


def _crash() -> NoReturn:
    raise ChaosError("a crash on purpose")


def _leak_group() -> NoReturn:
    raise ExceptionGroup("a group on purpose", [ValueError("the first"), ExceptionGroup("inner", [OSError(5, "I/O")])])


def _loop() -> NoReturn:
    while True:
        pass


def _block() -> None:
    time.sleep(_LONG)


def _exit_early() -> None:
    """End the gateway, though nothing happened."""
    signal.raise_signal(signal.SIGTERM)


def _give_nothing() -> None:
    """Do nothing: from then on the channel gives no message (`_make_faulty`)."""


def _ignore_sigterm() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    log.info("deaf to SIGTERM from now on", extra={"event": "chaos-deaf"})


def _leak_grandchild() -> NoReturn:
    # In a session of its own, where no signal to the gateway's group reaches it.
    grandchild = subprocess.Popen(["sleep", f"{_LONG:g}"], stdin=subprocess.DEVNULL, start_new_session=True)  # noqa: S607
    instructions = Instructions.of_environment()
    assert instructions is not None
    instructions.note_grandchild(grandchild.pid)
    raise ChaosError("a crash that leaves a process behind")


async def _flood_stderr() -> None:
    """8 MB in lines, then 1 MB with no line end."""
    lines = ("x" * 199 + "\n") * 250
    for _ in range(160):
        sys.stderr.write(lines)
        await trio.lowlevel.checkpoint()
    sys.stderr.write("y" * 2**20)
    sys.stderr.flush()


def _exhaust_memory() -> NoReturn:
    """Reach the limit of the address space, with the memory still held when the error goes up."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + _HEADROOM
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    held: list[bytearray] = []
    while True:
        held.append(bytearray(2**20))


async def _take_everything() -> None:
    """Take every core for a while, and then all memory too: a fence is what ends that."""
    with take_cores():
        await trio.sleep(_GREEDY)
        await take_memory()


GATEWAY_FAULTS: Mapping[str, GatewayFault] = {
    "crash-at-start": GatewayFault(Moment.START, _crash),
    "crash-at-connect": GatewayFault(Moment.CONNECTED, _crash),
    "crash-in-publish": GatewayFault(Moment.PUBLISH, _crash),
    "crash-in-cleanup": GatewayFault(Moment.CLEANUP, _crash),
    "crash-with-group": GatewayFault(Moment.RUNNING, _leak_group),
    "hang-at-start": GatewayFault(Moment.START, _block),
    "hang-in-loop": GatewayFault(Moment.RUNNING, _loop),
    "hang-in-call": GatewayFault(Moment.RUNNING, _block),
    "stall-in-pump": GatewayFault(Moment.TAKE, _give_nothing),
    "exit-early": GatewayFault(Moment.RUNNING, _exit_early),
    "ignore-sigterm": GatewayFault(Moment.RUNNING, _ignore_sigterm),
    "leak-grandchild": GatewayFault(Moment.RUNNING, _leak_grandchild),
    "flood-stderr": GatewayFault(Moment.RUNNING, _flood_stderr),
    "out-of-memory": GatewayFault(Moment.RUNNING, _exhaust_memory),
    "greedy": GatewayFault(Moment.RUNNING, _take_everything),
}


# The connector


class Faulty(Connector):
    """Mixed into a connector's class, before it: its gateway half does what it finds in the folder of instructions.

    class FaultyConnector(Faulty, SomeConnector): ...
    """

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        instructions = Instructions.of_environment() if sys.argv[1:2] == ["gateway"] else None
        if instructions is not None and (fault := instructions.take(Moment.START)) is not None:
            fault.act()

    def client(self, channels: GatewayChannels, on_message: OnMessage) -> Client:
        client = super().client(channels, on_message)  # type: ignore[safe-super]  # of the class beside it, which has one
        instructions = Instructions.of_environment()
        if instructions is None:
            return client
        for source in channels.outbound.values():
            _make_faulty(source, instructions)
        look = partial(trio.sleep, _LOOK)  # a folder announces nothing, and a signal would kill one that just starts
        channels.executor.add(partial(_act_while_running, instructions), when(look), name="chaos.running")
        connected = on_health(_Health(channels.health), Up)
        channels.executor.add(partial(_act_when_connected, instructions), connected, name="chaos.connected")
        at_once = trio.lowlevel.checkpoint
        channels.executor.add(partial(_act_in_cleanup, instructions), when(at_once), name="chaos.cleanup")
        return client


@attrs.frozen
class _Health:
    """A board as a source of transitions."""

    board: HealthBoard

    def health_events(self) -> HealthEvents:
        return self.board.events()


async def _act_while_running(instructions: Instructions, ctx: Context) -> None:
    await _act(instructions, Moment.RUNNING)


async def _act_when_connected(instructions: Instructions, ctx: Context) -> None:
    await _act(instructions, Moment.CONNECTED)


async def _act_in_cleanup(instructions: Instructions, ctx: Context) -> None:
    """Run until the gateway ends, which cancels its items when it has disconnected."""
    try:
        await trio.sleep_forever()
    finally:
        await _act(instructions, Moment.CLEANUP)


def _make_faulty(source: Source, instructions: Instructions) -> None:
    """Let this outbound channel fail when a message has just been taken from it, or give none any more."""
    receive_nowait = source.receive_nowait
    stalled = False

    def receive_or_fail() -> Envelope:
        nonlocal stalled
        stalled = stalled or instructions.take(Moment.TAKE) is not None
        if stalled:
            raise trio.WouldBlock
        envelope = receive_nowait()
        if instructions.take(Moment.PUBLISH) is not None:
            raise ChaosError(f"a crash on purpose, with message {envelope.header.sequence_number} in hand")
        return envelope

    source.receive_nowait = receive_or_fail  # type: ignore[method-assign]  # of this source alone


async def _act(instructions: Instructions, moment: Moment) -> GatewayFault | None:
    fault = instructions.take(moment)
    if fault is not None and (acting := fault.act()) is not None:
        await acting
    return fault
