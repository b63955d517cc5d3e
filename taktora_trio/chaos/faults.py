"""Each fault: how it is brought about and healed, what the app must see of it, and whom it may replace."""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Literal

import attrs
import trio

from taktora_trio.chaos import private_shm
from taktora_trio.chaos.faulty import Instructions
from taktora_trio.chaos.looking import look_until
from taktora_trio.chaos.observer import Observer
from taktora_trio.chaos.processes import look_at, wait_until_gone
from taktora_trio.chaos.proxy import Mode, Proxy
from taktora_trio.chaos.schedule import Parameters, Ranges
from taktora_trio.chaos.subject import Half, Subject
from taktora_trio.chaos.subscriber import Subscriber
from taktora_trio.health import FailureKind
from taktora_trio.testing.server import Broker

__all__ = ["FAULTS", "BrokenPromise", "Fault", "System", "heal"]

_SOON = 10.0  # seconds for what should come at once


class BrokenPromise(Exception):
    """Something was observed while a fault was brought about that must not be."""


@attrs.define
class System:
    """The deployment under test and all that it depends on."""

    broker: Broker
    proxy: Proxy
    observer: Observer
    subscriber: Subscriber
    instructions: Instructions
    subject: Subject = attrs.field(init=False)
    """The run there is now; the rest outlives it."""


Inject = Callable[[System, Parameters], Awaitable[None]]


@attrs.frozen(kw_only=True)
class Fault:
    """One kind of fault."""

    what: str
    """A few words for people."""
    inject: Inject
    """Brings it about, and heals it where nobody else would."""
    events: str
    """A regular expression for the states that the app sees until it is `Up` again, such as `Down Connecting Up `."""
    replaces: frozenset[Half] = frozenset()
    """The halves that end and come again by it. All others must live on."""
    failures: frozenset[FailureKind] = frozenset()
    """The causes of `Down` that the app must have been told of."""
    one_is_enough: bool = False
    """True if one of these causes is enough: it is chance which of them comes first."""
    exit_code: int | None = None
    """Set where it ends the whole run, with this exit code; the run is then started again."""
    ranges: Ranges = attrs.field(factory=dict)
    """The parameters of `inject`, in seconds where nothing else is said."""
    files_left: int = 0
    """The number of files of the domain that it may leave in /dev/shm until the run ends."""
    of_warm: bool = False
    """True if it is one of a run with --warm."""
    fills_shm: bool = False
    """True if it needs a /dev/shm of its own."""


async def heal(system: System) -> None:
    """Put right whatever a fault may have left that was interrupted or did not work out."""
    system.proxy.set_mode(Mode.PASS)
    system.instructions.clear()
    if not system.broker.anonymous:
        system.broker.anonymous = True
        await system.broker.stop()
    if not system.broker.is_running:
        await _start_broker(system)


# Processes


async def _signal_half(half: Half, signum: signal.Signals, system: System, parameters: Parameters) -> None:
    if not system.subject.signal(signum, half):
        raise BrokenPromise(f"there was no {half} to send {signum.name} to")
    await trio.lowlevel.checkpoint()


async def _kill_starting_gateways(system: System, parameters: Parameters) -> None:
    """Kill it, and then some of its successors while they start."""
    await _signal_half("gateway", signal.SIGKILL, system, parameters)
    killed = [system.subject.pid("gateway")]
    for _ in range(round(parameters["times"])):
        with trio.fail_after(_SOON):
            await look_until(lambda: system.subject.newest_gateway() not in (None, *killed))
        await trio.sleep(parameters["age"])
        if (pid := system.subject.newest_gateway()) is not None:
            killed.append(pid)
            os.kill(pid, signal.SIGKILL)


async def _signal_zygote(signum: signal.Signals, system: System, parameters: Parameters) -> None:
    """Break the process that gateways are forked from, and then need a new gateway."""
    zygote = system.subject.zygote()
    if zygote is None:
        raise BrokenPromise("there is no process that gateways are forked from")
    os.kill(zygote, signum)
    await _signal_half("gateway", signal.SIGKILL, system, parameters)


async def _end_run(signum: signal.Signals, who: Literal["plugin", "supervisor"], system: System, _: Parameters) -> None:
    system.subject.signal(signum, who)
    with trio.fail_after(_SOON):
        await system.subject.process.wait()


async def _pause_supervisor(system: System, parameters: Parameters) -> None:
    system.subject.signal(signal.SIGSTOP, "supervisor")
    try:
        await trio.sleep(parameters["seconds"])
    finally:
        system.subject.signal(signal.SIGCONT, "supervisor")
    await trio.sleep(0.5)  # for whatever it might do about the time it has missed


# The broker and the way to it


async def _restart_broker(system: System, parameters: Parameters) -> None:
    await _stop_broker(system, signal.SIGTERM if parameters["politely"] > 0.5 else signal.SIGKILL)
    await trio.sleep(parameters["seconds"])
    await _start_broker(system)


async def _refuse_login(system: System, parameters: Parameters) -> None:
    """Refuse the login. It is tried again only after half a minute, so in the end there is a new gateway."""
    await _stop_broker(system, signal.SIGTERM)
    system.broker.anonymous = False
    await system.broker.start()
    system.proxy.set_mode(Mode.PASS)
    await _wait_for_state(system, "Down")
    await _stop_broker(system, signal.SIGTERM)
    system.broker.anonymous = True
    await _start_broker(system)
    await _signal_half("gateway", signal.SIGKILL, system, parameters)


async def _stop_broker(system: System, signum: signal.Signals) -> None:
    # Nobody may publish before the subscriber is there again: it would take what it has missed for lost.
    system.proxy.set_mode(Mode.REFUSE)
    await system.broker.stop(signum)


async def _start_broker(system: System) -> None:
    subscribed = system.subscriber.connections.value
    await system.broker.start()
    await system.subscriber.wait_until_subscribed(subscribed + 1, _SOON)
    system.proxy.set_mode(Mode.PASS)


async def _cut(system: System, parameters: Parameters) -> None:
    system.proxy.cut()
    await trio.lowlevel.checkpoint()


async def _slow_down(system: System, parameters: Parameters) -> None:
    system.proxy.set_mode(Mode.SLOW, piece=round(parameters["bytes"]), delay=parameters["delay"])
    try:
        await trio.sleep(parameters["seconds"])
    finally:
        system.proxy.set_mode(Mode.PASS)


async def _go_half_open(system: System, parameters: Parameters) -> None:
    system.proxy.go_half_open()
    await trio.lowlevel.checkpoint()


async def _fill_queue(system: System, parameters: Parameters) -> None:
    system.proxy.set_mode(Mode.STALL)
    try:
        await system.observer.order(flood=True)
        await _wait_for_state(system, "Degraded")
        await trio.sleep(parameters["seconds"])
    finally:
        system.proxy.set_mode(Mode.PASS)
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
            await system.observer.order(flood=False)


# Shared memory


async def _fill_shm(system: System, parameters: Parameters) -> None:
    with private_shm.fill() as ballast:
        await _signal_half("gateway", signal.SIGKILL, system, parameters)
        with trio.move_on_after(parameters["seconds"]):
            while True:
                ballast.grow()  # what the dead gateway had is being freed meanwhile
                await trio.sleep(0.01)


# A gateway that is wrong by itself


async def _tell_gateway(name: str, system: System, parameters: Parameters) -> None:
    system.instructions.give(name)
    await _until_taken(name, system)


async def _tell_next_gateway(name: str, system: System, parameters: Parameters) -> None:
    system.instructions.give(name)
    await _signal_half("gateway", signal.SIGKILL, system, parameters)
    await _until_taken(name, system)


async def _until_taken(name: str, system: System) -> None:
    with trio.fail_after(_SOON):
        await look_until(lambda: not system.instructions.is_waiting(name))


async def _crash_in_cleanup(system: System, parameters: Parameters) -> None:
    system.instructions.give("crash-in-cleanup")
    await _signal_half("gateway", signal.SIGTERM, system, parameters)


async def _ignore_sigterm(system: System, parameters: Parameters) -> None:
    await _tell_gateway("ignore-sigterm", system, parameters)
    await trio.sleep(0.1)
    await _end_run(signal.SIGTERM, "supervisor", system, parameters)


async def _leak_grandchild(system: System, parameters: Parameters) -> None:
    system.instructions.clear()  # what was noted an earlier time
    await _tell_gateway("leak-grandchild", system, parameters)
    with trio.fail_after(_SOON):
        await look_until(lambda: system.instructions.grandchild() is not None)
    leaked = look_at(system.instructions.grandchild() or 0)
    if leaked is not None and await wait_until_gone([leaked], _SOON):
        raise BrokenPromise(f"what the gateway has started is still there: {leaked}")


async def _flood_stderr(system: System, parameters: Parameters) -> None:
    before = system.subject.stderr_bytes
    await _tell_gateway("flood-stderr", system, parameters)
    said = -1
    while said != system.subject.stderr_bytes:  # until nothing more comes
        said = system.subject.stderr_bytes
        await trio.sleep(0.5)
    if said - before < 1_000_000:
        raise BrokenPromise(f"of 9 MB that the gateway has said, {said - before} bytes came")


async def _wait_for_state(system: System, state: str) -> None:
    def is_there() -> bool:
        return system.observer.app is not None and system.observer.app.health.startswith(state)

    await system.observer.wait_until(is_there, _SOON)


# The states that the app sees. There is always load, so a channel may be full for a while whenever it is connected.

_CONNECTED = "(Degraded |Up )*"
_TRIED = f"Connecting {_CONNECTED}"
_AGAIN = "Connecting (Degraded |Up )+"
_LOST = f"{_CONNECTED}{_AGAIN}"
_REPLACED = f"{_CONNECTED}(Down )+{_AGAIN}"
_NEW_APP = "(Degraded |Up )+"
_ANYTHING = ".*"

_GATEWAY: frozenset[Half] = frozenset({"gateway"})
_PLUGIN: frozenset[Half] = frozenset({"plugin"})


def _of_gateway(what: str, inject: Inject, *failures: FailureKind, events: str = _REPLACED) -> Fault:
    return Fault(what=what, inject=inject, events=events, replaces=_GATEWAY, failures=frozenset(failures))


def _of_plugin(what: str, signum: signal.Signals) -> Fault:
    return Fault(what=what, inject=partial(_signal_half, "plugin", signum), events=_NEW_APP, replaces=_PLUGIN)


def _of_run(what: str, inject: Inject, exit_code: int = 0) -> Fault:
    return Fault(what=what, inject=inject, events=_ANYTHING, exit_code=exit_code)


FAULTS: Mapping[str, Fault] = {
    "gateway-kill": _of_gateway("SIGKILL of the gateway", partial(_signal_half, "gateway", signal.SIGKILL), "signal"),
    "gateway-hang": _of_gateway("SIGSTOP of the gateway", partial(_signal_half, "gateway", signal.SIGSTOP), "hang"),
    "gateway-term": _of_gateway("SIGTERM of the gateway", partial(_signal_half, "gateway", signal.SIGTERM), "exit"),
    "gateway-kill-starting": Fault(
        what="SIGKILL of the gateway, and of those after it while they start",
        inject=_kill_starting_gateways,
        events=f"{_CONNECTED}(Down )+({_TRIED}(Down )+)*{_AGAIN}",
        replaces=_GATEWAY,
        failures=frozenset({"signal"}),
        ranges={"times": (1, 3), "age": (0.0, 0.5)},
        # Files of a node that was killed while it was made, which iceoryx2 does not clean up; at most three times.
        files_left=3 * 4,
    ),
    "zygote-kill": Fault(
        what="SIGKILL of what gateways are forked from, and of the gateway (only with --warm)",
        inject=partial(_signal_zygote, signal.SIGKILL),
        events=_REPLACED,
        replaces=_GATEWAY,
        failures=frozenset({"signal"}),
        of_warm=True,
    ),
    "zygote-hang": Fault(
        what="SIGSTOP of what gateways are forked from, and SIGKILL of the gateway (only with --warm)",
        inject=partial(_signal_zygote, signal.SIGSTOP),
        events=_REPLACED,
        replaces=_GATEWAY,
        failures=frozenset({"signal"}),
        of_warm=True,
    ),
    "plugin-kill": _of_plugin("SIGKILL of the plugin", signal.SIGKILL),
    "plugin-hang": _of_plugin("SIGSTOP of the plugin", signal.SIGSTOP),
    "plugin-term": _of_run("SIGTERM of the plugin, which ends the run", partial(_end_run, signal.SIGTERM, "plugin")),
    "supervisor-kill": _of_run(
        "SIGKILL of the supervisor", partial(_end_run, signal.SIGKILL, "supervisor"), -signal.SIGKILL
    ),
    "supervisor-pause": Fault(
        what="SIGSTOP of the supervisor, and SIGCONT",
        inject=_pause_supervisor,
        events=_CONNECTED,
        ranges={"seconds": (1.2, 2.5)},
    ),
    "supervisor-term": _of_run("SIGTERM of the supervisor", partial(_end_run, signal.SIGTERM, "supervisor")),
    "broker-restart": Fault(
        what="the broker is killed, or stopped, and starts again",
        inject=_restart_broker,
        events=f"({_LOST})+",
        ranges={"politely": (0, 1), "seconds": (0.0, 1.0)},
    ),
    "broker-refuses": _of_gateway(
        "the broker refuses the login; healed, and the gateway killed",
        _refuse_login,
        "signal",
        events=f"{_CONNECTED}{_TRIED}(Down )+{_AGAIN}",
    ),
    "connection-cut": Fault(what="the connection to the broker is reset", inject=_cut, events=f"({_LOST})+"),
    "connection-slow": Fault(
        what="the connection gets slow, in small pieces",
        inject=_slow_down,
        events=f"{_CONNECTED}({_AGAIN})*",
        ranges={"bytes": (100, 1500), "delay": (0.005, 0.1), "seconds": (1.0, 2.0)},
    ),
    "connection-half-open": Fault(
        what="the connection stays open and carries nothing", inject=_go_half_open, events=f"({_LOST})+"
    ),
    "queue-full": Fault(
        what="the app sends faster than the broker takes it",
        inject=_fill_queue,
        events=f"Degraded {_CONNECTED}({_AGAIN})*",
        ranges={"seconds": (0.1, 0.6)},
    ),
    "shm-full": Fault(
        what="shared memory is full to the last byte while the gateway is killed",
        inject=_fill_shm,
        events=f"{_CONNECTED}(Down )+({_TRIED}(Down )+)*{_AGAIN}",
        replaces=_GATEWAY,
        failures=frozenset({"signal"}),
        ranges={"seconds": (0.8, 1.2)},
        # Of each gateway that could not start, a folder with one file, which iceoryx2 takes for no node.
        files_left=16,
        fills_shm=True,
    ),
    "crash-at-start": _of_gateway(
        "the next gateway crashes at once", partial(_tell_next_gateway, "crash-at-start"), "signal", "exit"
    ),
    "crash-at-connect": _of_gateway(
        "the next gateway crashes when it has connected",
        partial(_tell_next_gateway, "crash-at-connect"),
        "signal",
        "exit",
        events=f"{_CONNECTED}(Down )+{_TRIED}(Down )+{_AGAIN}",
    ),
    "crash-in-publish": _of_gateway(
        "the gateway crashes with a message in hand", partial(_tell_gateway, "crash-in-publish"), "exit"
    ),
    "crash-in-cleanup": _of_gateway("SIGTERM of the gateway, and its cleanup crashes", _crash_in_cleanup, "exit"),
    "crash-with-group": _of_gateway(
        "an exception group leaves the gateway", partial(_tell_gateway, "crash-with-group"), "exit"
    ),
    "hang-at-start": _of_gateway(
        "the next gateway is never ready", partial(_tell_next_gateway, "hang-at-start"), "signal", "start-deadline"
    ),
    "hang-in-loop": _of_gateway("the gateway loops without end", partial(_tell_gateway, "hang-in-loop"), "hang"),
    "hang-in-call": _of_gateway("the gateway blocks in a call", partial(_tell_gateway, "hang-in-call"), "hang"),
    "stall-in-pump": _of_gateway(
        "the gateway runs on and publishes nothing", partial(_tell_gateway, "stall-in-pump"), "hang"
    ),
    "exit-early": _of_gateway("the gateway ends with exit code 0", partial(_tell_gateway, "exit-early"), "exit"),
    "ignore-sigterm": _of_run("the gateway ignores SIGTERM, and the run is stopped", _ignore_sigterm),
    "leak-grandchild": _of_gateway("the gateway crashes and leaves a process behind", _leak_grandchild, "exit"),
    "flood-stderr": Fault(
        what="the gateway writes 9 MB to its standard error", inject=_flood_stderr, events=_CONNECTED
    ),
    "out-of-memory": _of_gateway(
        "the gateway runs out of memory", partial(_tell_gateway, "out-of-memory"), "out-of-memory"
    ),
    "greedy": Fault(
        what="the gateway takes every core, and memory up to its fence",
        inject=partial(_tell_gateway, "greedy"),
        events=_REPLACED,
        replaces=_GATEWAY,
        # It may starve itself so that it gives no sign of life.
        failures=frozenset({"out-of-memory", "hang"}),
        one_is_enough=True,
    ),
}
