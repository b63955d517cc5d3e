"""What is logged of MQTT alone: the codes of its events, each with its level, what it means, and what to do.

Nothing that runs imports it; docs/events.md is made from it, as from the others (`operate/events/`).
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["EVENTS"]

EVENTS: Mapping[str, tuple[str, str, str]] = {
    "broker-changed": ("info", "The gateway is at another node of the cluster now.", "Nothing."),
    "session-elsewhere": (
        "warning",
        "The gateway is at another broker of its list now. What waits in the session at the last one comes later.",
        "See whether the first broker comes back.",
    ),
    "broker-not-back": ("info", "The first broker of the list was tried, and is not back.", "Nothing."),
    "session-shortened": (
        "warning",
        "The broker keeps the session for a shorter time than was asked for. A longer outage loses what waits there.",
        "Raise the broker's limit, or lower `session_expiry`.",
    ),
    "presence-refused": (
        "warning",
        "The broker does not take the gateway's presence, so others can't see whether it is there.",
        "Allow the topic in the broker, or set `presence=None`.",
    ),
    "qos-lowered": (
        "warning",
        "The broker grants a subscription a lower QoS than was asked for.",
        "Declare the QoS that it has, or change the broker.",
    ),
    "qos2-as-qos1": (
        "warning",
        "The broker treats QoS 2 as QoS 1: messages may come twice.",
        "Use another broker where that matters.",
    ),
    "qos2-many-channels": (
        "warning",
        "There are more channels of QoS 2 than the broker may take messages in flight.",
        "Set `protocol='5'`, or raise the broker's limit.",
    ),
    "unsubscribed": ("info", "Subscriptions of an earlier version of the deployment were removed.", "Nothing."),
    "unsubscribe-refused": (
        "warning",
        "The broker goes on with a subscription that no channel needs.",
        "`taktora-trio forget` with the deployment stopped removes the session.",
    ),
    "subscriptions-not-kept": (
        "warning",
        "What is subscribed can't be written down, so a later version could not unsubscribe it.",
        "Set `XDG_STATE_HOME` (or `StateDirectory=`) to a folder that lasts and may be written.",
    ),
}
