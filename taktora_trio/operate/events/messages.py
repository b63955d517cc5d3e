"""Events of messages and of the channels that carry them."""

from __future__ import annotations

from collections.abc import Mapping

from taktora_trio.operate.events.event import Event

__all__ = ["MESSAGES"]

MESSAGES: Mapping[str, Event] = {
    "inbound-discarded": Event(
        "error",
        "Inbound messages were discarded: the app is too slow for messages that nobody keeps, or one is too large.",
        "Let the app read faster, or enlarge `window`, `inbound_backlog` or `max_payload`.",
    ),
    "inbound-lost": Event(
        "warning",
        "At a stop, inbound messages that nobody keeps had not reached the app.",
        "Use channels that are acknowledged.",
    ),
    "inbound-left": Event("info", "At a stop, the app was not done with some messages: they come again."),
    "inbound-given-up": Event(
        "error",
        "The app has given up a message that was acknowledged on arrival, so it is gone.",
        'See the reason. Without `acknowledge="arrival"` it would be a dead letter.',
    ),
    "reading-paused": Event(
        "warning",
        "The backlog for the app is full, so nothing more is read from the network until there is room.",
        "Let the app read that channel.",
    ),
    "message-stray": Event(
        "warning",
        "Messages come that no channel is for.",
        "Look for a subscription of an earlier version, or another side that changes topics.",
    ),
    "message-set-aside": Event(
        "error",
        "A message was given up, since each connection ended right behind it. The others go on.",
        "See why the other side does not take it: the message's size, its topic, rules.",
    ),
    "trial-begun": Event(
        "warning", "Connections end right behind a message, so messages go one by one to find which it is."
    ),
    "message-refused": Event(
        "error", "The other side has refused messages.", "See its reason: rules, a quota, the size of messages."
    ),
    "message-expired": Event("warning", "Messages have waited longer than their expiry.", "See why they had to wait."),
    "message-unreadable": Event(
        "error",
        "Messages can't be decoded. The reader has them in `rejected`.",
        "Let their sender and this app declare the same type.",
    ),
    "message-given-up": Event(
        "error", "The app could not get done with a message, so it goes to the dead letters.", "See the reason."
    ),
    "outbound-left": Event("info", "At a stop, messages were not acknowledged: they wait for the next gateway."),
    "outbound-lost": Event(
        "warning",
        "At a stop, messages were not acknowledged, and nobody keeps them.",
        "Use a store, or give the stop more time: `drain_timeout`, `stop_grace`.",
    ),
    "outbound-unreadable": Event(
        "error", "An outbound message in shared memory is not as it should be, and was left out.", "Report it."
    ),
    "correlation-dropped": Event(
        "warning", "A correlation id is longer than the channel has room for.", "Raise `max_metadata`."
    ),
    "trace-dropped": Event("warning", "A message has no room for its trace.", "Raise `max_metadata`."),
    "trace-impossible": Event(
        "warning",
        "The protocol carries no metadata, so there is no trace.",
        "Leave `tracing=True` out, or use a protocol that carries it.",
    ),
    "request-failed": Event("error", "A handler has raised; the traceback is there.", "Mend the handler."),
    "request-late": Event(
        "warning", "Requests came too late to be answered.", "See what is slow, or raise the deadline."
    ),
    "request-unanswerable": Event("warning", "A request names no place to reply to.", "Mend whoever asks."),
    "request-unreadable": Event("error", "A request can't be decoded.", "Let both sides declare the same type."),
    "reply-late": Event("info", "Replies have come after their deadline."),
    "reply-unreadable": Event("error", "A reply can't be decoded.", "Let both sides declare the same type."),
    "failure-untold": Event(
        "error", "A requester could not be told that its request has failed.", "Raise `max_payload`."
    ),
    "item-skips": Event(
        "error", "An item of an executor has raised; it goes on with its next cycle.", "Mend the item."
    ),
    "observer-dropped": Event("error", "An observer has raised, and is told nothing more.", "Mend the observer."),
    "offload-abandoned": Event(
        "warning", "A call in a worker thread was cancelled, and its thread goes on until the call returns."
    ),
    "timer-coarse": Event(
        "warning", "There is no timerfd, so ticks are up to a millisecond late.", "Raise the limit of descriptors."
    ),
}
