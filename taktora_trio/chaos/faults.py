"""Each fault: how it is brought about, what the app must see of it, and whom it may replace."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from functools import partial

from taktora_trio.chaos.fault import Fault, Inject
from taktora_trio.chaos.injecting import (
    crash_in_cleanup,
    cut,
    end_run,
    fill_queue,
    fill_shm,
    flood_stderr,
    go_half_open,
    ignore_sigterm,
    kill_starting_gateways,
    leak_grandchild,
    pause_broker,
    pause_supervisor,
    refuse_login,
    restart_broker,
    signal_half,
    signal_zygote,
    slow_down,
    tell_gateway,
    tell_next_gateway,
)
from taktora_trio.chaos.subject import Half
from taktora_trio.health import FailureKind

__all__ = ["FAULTS", "why_not"]

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
    return Fault(what=what, inject=partial(signal_half, "plugin", signum), events=_NEW_APP, replaces=_PLUGIN)


def _of_run(what: str, inject: Inject, exit_code: int = 0, *, in_process: bool = False) -> Fault:
    return Fault(what=what, inject=inject, events=_ANYTHING, exit_code=exit_code, in_process=in_process)


FAULTS: Mapping[str, Fault] = {
    "gateway-kill": _of_gateway("SIGKILL of the gateway", partial(signal_half, "gateway", signal.SIGKILL), "signal"),
    "gateway-hang": _of_gateway("SIGSTOP of the gateway", partial(signal_half, "gateway", signal.SIGSTOP), "hang"),
    "gateway-term": _of_gateway("SIGTERM of the gateway", partial(signal_half, "gateway", signal.SIGTERM), "exit"),
    "gateway-kill-starting": Fault(
        what="SIGKILL of the gateway, and of those after it while they start",
        inject=kill_starting_gateways,
        events=f"{_CONNECTED}(Down )+({_TRIED}(Down )+)*{_AGAIN}",
        replaces=_GATEWAY,
        failures=frozenset({"signal"}),
        ranges={"times": (1, 3), "age": (0.0, 0.5)},
        # Files of a node that was killed while it was made, which iceoryx2 does not clean up; at most three times.
        files_left=3 * 4,
    ),
    "zygote-kill": Fault(
        what="SIGKILL of what gateways are forked from, and of the gateway (only with --warm)",
        inject=partial(signal_zygote, signal.SIGKILL),
        events=_REPLACED,
        replaces=_GATEWAY,
        failures=frozenset({"signal"}),
        of_warm=True,
    ),
    "zygote-hang": Fault(
        what="SIGSTOP of what gateways are forked from, and SIGKILL of the gateway (only with --warm)",
        inject=partial(signal_zygote, signal.SIGSTOP),
        events=_REPLACED,
        replaces=_GATEWAY,
        failures=frozenset({"signal"}),
        of_warm=True,
    ),
    "plugin-kill": _of_plugin("SIGKILL of the plugin", signal.SIGKILL),
    "plugin-hang": _of_plugin("SIGSTOP of the plugin", signal.SIGSTOP),
    "plugin-term": _of_run("SIGTERM of the plugin, which ends the run", partial(end_run, signal.SIGTERM, "plugin")),
    "supervisor-kill": _of_run(
        "SIGKILL of the supervisor", partial(end_run, signal.SIGKILL, "supervisor"), -signal.SIGKILL
    ),
    "supervisor-pause": Fault(
        what="SIGSTOP of the supervisor, and SIGCONT",
        inject=pause_supervisor,
        events=_CONNECTED,
        ranges={"seconds": (1.2, 2.5)},
    ),
    "supervisor-term": _of_run(
        "SIGTERM of the supervisor", partial(end_run, signal.SIGTERM, "supervisor"), in_process=True
    ),
    "broker-restart": Fault(
        what="the broker is killed, or stopped, and starts again",
        inject=restart_broker,
        events=f"({_LOST})+",
        ranges={"politely": (0, 1), "seconds": (0.0, 1.0)},
        in_process=True,
    ),
    "broker-pause": Fault(
        what="SIGSTOP of the broker, until it counts as gone, and SIGCONT",
        inject=pause_broker,
        events=f"({_LOST})+",
        ranges={"seconds": (0.0, 1.0)},
        in_process=True,
    ),
    "broker-refuses": _of_gateway(
        "the broker refuses the login; healed, and the gateway killed",
        refuse_login,
        "signal",
        events=f"{_CONNECTED}{_TRIED}(Down )+{_AGAIN}",
    ),
    "connection-cut": Fault(
        what="the connection to the broker is reset", inject=cut, events=f"({_LOST})+", in_process=True
    ),
    "connection-slow": Fault(
        what="the connection gets slow, in small pieces",
        inject=slow_down,
        events=f"{_CONNECTED}({_AGAIN})*",
        ranges={"bytes": (100, 1500), "delay": (0.005, 0.1), "seconds": (1.0, 2.0)},
        in_process=True,
    ),
    "connection-half-open": Fault(
        what="the connection stays open and carries nothing",
        inject=go_half_open,
        events=f"({_LOST})+",
        in_process=True,
    ),
    "queue-full": Fault(
        what="the app sends faster than the broker takes it",
        inject=fill_queue,
        events=f"Degraded {_CONNECTED}({_AGAIN})*",
        ranges={"seconds": (0.1, 0.6)},
        in_process=True,
    ),
    "shm-full": Fault(
        what="shared memory is full to the last byte while the gateway is killed",
        inject=fill_shm,
        events=f"{_CONNECTED}(Down )+({_TRIED}(Down )+)*{_AGAIN}",
        replaces=_GATEWAY,
        failures=frozenset({"signal"}),
        ranges={"seconds": (0.8, 1.2)},
        # Of each gateway that could not start, a folder with one file, which iceoryx2 takes for no node.
        files_left=16,
        fills_shm=True,
    ),
    "crash-at-start": _of_gateway(
        "the next gateway crashes at once", partial(tell_next_gateway, "crash-at-start"), "signal", "exit"
    ),
    "crash-at-connect": _of_gateway(
        "the next gateway crashes when it has connected",
        partial(tell_next_gateway, "crash-at-connect"),
        "signal",
        "exit",
        events=f"{_CONNECTED}(Down )+{_TRIED}(Down )+{_AGAIN}",
    ),
    "crash-in-publish": _of_gateway(
        "the gateway crashes with a message in hand", partial(tell_gateway, "crash-in-publish"), "exit"
    ),
    "crash-in-cleanup": _of_gateway("SIGTERM of the gateway, and its cleanup crashes", crash_in_cleanup, "exit"),
    "crash-with-group": _of_gateway(
        "an exception group leaves the gateway", partial(tell_gateway, "crash-with-group"), "exit"
    ),
    "hang-at-start": _of_gateway(
        "the next gateway is never ready", partial(tell_next_gateway, "hang-at-start"), "signal", "start-deadline"
    ),
    "hang-in-loop": _of_gateway("the gateway loops without end", partial(tell_gateway, "hang-in-loop"), "hang"),
    "hang-in-call": _of_gateway("the gateway blocks in a call", partial(tell_gateway, "hang-in-call"), "hang"),
    "stall-in-pump": _of_gateway(
        "the gateway runs on and publishes nothing", partial(tell_gateway, "stall-in-pump"), "hang"
    ),
    "exit-early": _of_gateway("the gateway ends with exit code 0", partial(tell_gateway, "exit-early"), "exit"),
    "ignore-sigterm": _of_run("the gateway ignores SIGTERM, and the run is stopped", ignore_sigterm),
    "leak-grandchild": _of_gateway("the gateway crashes and leaves a process behind", leak_grandchild, "exit"),
    "flood-stderr": Fault(what="the gateway writes 9 MB to its standard error", inject=flood_stderr, events=_CONNECTED),
    "out-of-memory": _of_gateway(
        "the gateway runs out of memory", partial(tell_gateway, "out-of-memory"), "out-of-memory"
    ),
    "greedy": Fault(
        what="the gateway takes every core, and memory up to its fence",
        inject=partial(tell_gateway, "greedy"),
        events=_REPLACED,
        replaces=_GATEWAY,
        # It may starve itself so that it gives no sign of life.
        failures=frozenset({"out-of-memory", "hang"}),
        one_is_enough=True,
    ),
}


def why_not(kind: str, mode: str, *, warm: bool) -> str:
    """Return why a run in this shape can't have this kind of fault; nothing if it can."""
    fault = FAULTS[kind]
    if fault.of_warm and not warm:
        return "this is a fault of --warm: give that, too"
    if mode == "in-process" and not fault.in_process:
        return "this is a fault of --mode split"
    return ""
