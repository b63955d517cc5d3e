"""Items on triggers: composed, observed, and with figures about their timing.

executor        Executor: items are added to it, and it runs them
item            one item's loop: wait, run a cycle, count it, obey its policy when it fails
chains, graphs  items made of items
offload         in_thread, in_process: blocking or heavy work as an item
context         Context: given to an item for each cycle
runtime         all that the items of one executor share
pool, worker    the worker processes of an executor, and what runs in each beside the work
observer        Observer, and all observers of one executor
observers/      ready ones, for structlog, Prometheus and OpenTelemetry
triggers        every, on_message, on_health, on_deadline, when, any_of
sources         all sources of one item, in turn
wake            Trigger, its Source, and the reasons to wake an item: Tick, Message, Transition, Late, Ready
feed            a reader as triggers see it, shared by those that have the same one
grid            the slots of `every`: pure
stats           figures over a sliding window of fixed memory

Each imports only from those below it.
"""

from taktora_trio.executor.chains import chain, only_if
from taktora_trio.executor.context import Context
from taktora_trio.executor.executor import Executor
from taktora_trio.executor.graphs import graph
from taktora_trio.executor.item import OnFailure
from taktora_trio.executor.observer import Cycle, Observer
from taktora_trio.executor.offload import in_process, in_thread
from taktora_trio.executor.stats import ItemStats, Summary
from taktora_trio.executor.triggers import any_of, every, on_deadline, on_health, on_message, when
from taktora_trio.executor.wake import Late, Message, Ready, Tick, Transition, Trigger, Wake

__all__ = [
    "Context",
    "Cycle",
    "Executor",
    "ItemStats",
    "Late",
    "Message",
    "Observer",
    "OnFailure",
    "Ready",
    "Summary",
    "Tick",
    "Transition",
    "Trigger",
    "Wake",
    "any_of",
    "chain",
    "every",
    "graph",
    "in_process",
    "in_thread",
    "on_deadline",
    "on_health",
    "on_message",
    "only_if",
    "when",
]
