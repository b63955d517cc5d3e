"""Items on triggers: composed, observed, and with figures about their timing.

context        why an item was woken, and what it can do about its executor
grid           the slots of `every`: pure
triggers       every, on_message, on_health, on_deadline, when, any_of
feed           a reader as triggers see it, shared by those that have the same one
executor       Executor: what was added, and running it
item           one item's loop: wait, run a cycle, count it, obey its policy when it fails
chains, graphs items made of items
offload        in_thread, in_process: blocking or heavy work as an item
stats          figures over a sliding window of fixed memory
observers/     who is told: the contract, and a ready observer a module for structlog, Prometheus and OpenTelemetry
"""

from taktora_trio.executor.chains import chain, only_if
from taktora_trio.executor.context import Context, Late, Message, Ready, Tick, Transition, Wake
from taktora_trio.executor.executor import Executor
from taktora_trio.executor.graphs import graph
from taktora_trio.executor.item import OnFailure
from taktora_trio.executor.observers import Cycle, Observer
from taktora_trio.executor.offload import in_process, in_thread
from taktora_trio.executor.stats import ItemStats, Summary
from taktora_trio.executor.triggers import Trigger, any_of, every, on_deadline, on_health, on_message, when

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
