"""Brings faults about, each as `Fault.inject` does, and puts right what one may have left."""

from __future__ import annotations

import os
import signal
from typing import Literal

import trio

from taktora_trio.chaos import private_shm
from taktora_trio.chaos.fault import BrokenPromise, System
from taktora_trio.chaos.looking import look_until
from taktora_trio.chaos.processes import look_at, wait_until_gone
from taktora_trio.chaos.proxy import Mode
from taktora_trio.chaos.schedule import Parameters
from taktora_trio.chaos.subject import Half

__all__ = [
    "crash_in_cleanup",
    "cut",
    "end_run",
    "fill_queue",
    "fill_shm",
    "flood_stderr",
    "go_half_open",
    "heal",
    "ignore_sigterm",
    "kill_starting_gateways",
    "leak_grandchild",
    "pause_broker",
    "pause_supervisor",
    "refuse_login",
    "restart_broker",
    "signal_half",
    "signal_zygote",
    "slow_down",
    "tell_gateway",
    "tell_next_gateway",
]

_SOON = 10.0  # seconds for what should come at once


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


async def signal_half(half: Half, signum: signal.Signals, system: System, parameters: Parameters) -> None:
    if not system.subject.signal(signum, half):
        raise BrokenPromise(f"there was no {half} to send {signum.name} to")
    await trio.lowlevel.checkpoint()


async def kill_starting_gateways(system: System, parameters: Parameters) -> None:
    """Kill it, and then some of its successors while they start."""
    await signal_half("gateway", signal.SIGKILL, system, parameters)
    killed = [system.subject.pid("gateway")]
    for _ in range(round(parameters["times"])):
        with trio.fail_after(_SOON):
            await look_until(lambda: system.subject.newest_gateway() not in (None, *killed))
        await trio.sleep(parameters["age"])
        if (pid := system.subject.newest_gateway()) is not None:
            killed.append(pid)
            os.kill(pid, signal.SIGKILL)


async def signal_zygote(signum: signal.Signals, system: System, parameters: Parameters) -> None:
    """Break the process that gateways are forked from, and then need a new gateway."""
    zygote = system.subject.zygote()
    if zygote is None:
        raise BrokenPromise("there is no process that gateways are forked from")
    os.kill(zygote, signum)
    await signal_half("gateway", signal.SIGKILL, system, parameters)


async def end_run(signum: signal.Signals, who: Literal["plugin", "supervisor"], system: System, _: Parameters) -> None:
    system.subject.signal(signum, who)
    with trio.fail_after(_SOON):
        await system.subject.process.wait()


async def pause_supervisor(system: System, parameters: Parameters) -> None:
    system.subject.signal(signal.SIGSTOP, "supervisor")
    try:
        await trio.sleep(parameters["seconds"])
    finally:
        system.subject.signal(signal.SIGCONT, "supervisor")
    await trio.sleep(0.5)  # for whatever it might do about the time it has missed


# The broker and the way to it


async def restart_broker(system: System, parameters: Parameters) -> None:
    await _stop_broker(system, signal.SIGTERM if parameters["politely"] > 0.5 else signal.SIGKILL)
    await trio.sleep(parameters["seconds"])
    await _start_broker(system)


async def pause_broker(system: System, parameters: Parameters) -> None:
    """Stop its process until the app has seen that it is gone, and somewhat longer."""
    os.kill(system.broker.pid, signal.SIGSTOP)
    try:
        await _wait_for_state(system, "Connecting")
        await trio.sleep(parameters["seconds"])
    finally:
        os.kill(system.broker.pid, signal.SIGCONT)


async def refuse_login(system: System, parameters: Parameters) -> None:
    """Refuse the login. It is tried again only after half a minute, so in the end there is a new gateway."""
    await _stop_broker(system, signal.SIGTERM)
    system.broker.anonymous = False
    await system.broker.start()
    system.proxy.set_mode(Mode.PASS)
    await _wait_for_state(system, "Down")
    await _stop_broker(system, signal.SIGTERM)
    system.broker.anonymous = True
    await _start_broker(system)
    await signal_half("gateway", signal.SIGKILL, system, parameters)


async def _stop_broker(system: System, signum: signal.Signals) -> None:
    # Nobody may publish before the subscriber is there again: it would take what it has missed for lost.
    system.proxy.set_mode(Mode.REFUSE)
    await system.broker.stop(signum)


async def _start_broker(system: System) -> None:
    subscribed = system.subscriber.connections.value
    await system.broker.start()
    await system.subscriber.wait_until_subscribed(subscribed + 1, _SOON)
    system.proxy.set_mode(Mode.PASS)


async def cut(system: System, parameters: Parameters) -> None:
    system.proxy.cut()
    await trio.lowlevel.checkpoint()


async def slow_down(system: System, parameters: Parameters) -> None:
    system.proxy.set_mode(Mode.SLOW, piece=round(parameters["bytes"]), delay=parameters["delay"])
    try:
        await trio.sleep(parameters["seconds"])
    finally:
        system.proxy.set_mode(Mode.PASS)


async def go_half_open(system: System, parameters: Parameters) -> None:
    system.proxy.go_half_open()
    await trio.lowlevel.checkpoint()


async def fill_queue(system: System, parameters: Parameters) -> None:
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


async def fill_shm(system: System, parameters: Parameters) -> None:
    with private_shm.fill() as ballast:
        await signal_half("gateway", signal.SIGKILL, system, parameters)
        with trio.move_on_after(parameters["seconds"]):
            while True:
                ballast.grow()  # what the dead gateway had is being freed meanwhile
                await trio.sleep(0.01)


# A gateway that is wrong by itself


async def tell_gateway(name: str, system: System, parameters: Parameters) -> None:
    system.instructions.give(name)
    await _until_taken(name, system)


async def tell_next_gateway(name: str, system: System, parameters: Parameters) -> None:
    system.instructions.give(name)
    await signal_half("gateway", signal.SIGKILL, system, parameters)
    await _until_taken(name, system)


async def _until_taken(name: str, system: System) -> None:
    with trio.fail_after(_SOON):
        await look_until(lambda: not system.instructions.is_waiting(name))


async def crash_in_cleanup(system: System, parameters: Parameters) -> None:
    system.instructions.give("crash-in-cleanup")
    await signal_half("gateway", signal.SIGTERM, system, parameters)


async def ignore_sigterm(system: System, parameters: Parameters) -> None:
    await tell_gateway("ignore-sigterm", system, parameters)
    await trio.sleep(0.1)
    await end_run(signal.SIGTERM, "supervisor", system, parameters)


async def leak_grandchild(system: System, parameters: Parameters) -> None:
    system.instructions.clear()  # what was noted an earlier time
    await tell_gateway("leak-grandchild", system, parameters)
    with trio.fail_after(_SOON):
        await look_until(lambda: system.instructions.grandchild() is not None)
    leaked = look_at(system.instructions.grandchild() or 0)
    if leaked is not None and await wait_until_gone([leaked], _SOON):
        raise BrokenPromise(f"what the gateway has started is still there: {leaked}")


async def flood_stderr(system: System, parameters: Parameters) -> None:
    before = system.subject.stderr_bytes
    await tell_gateway("flood-stderr", system, parameters)
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
