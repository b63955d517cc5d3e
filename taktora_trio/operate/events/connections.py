"""Events of connections to brokers, and of a connector's health."""

from __future__ import annotations

from collections.abc import Mapping

from taktora_trio.operate.events.event import Event

__all__ = ["CONNECTIONS"]

CONNECTIONS: Mapping[str, Event] = {
    "health-up": Event("info", "The connector works."),
    "health-connecting": Event("info", "The connector has no connection, and tries to get one."),
    "health-degraded": Event(
        "info", "The connector works, but not as it should: the line says why.", "See the reason."
    ),
    "health-down": Event(
        "info",
        "The connector does not work: the gateway is gone, hangs, was stopped, or the broker has refused it.",
        "See the reason, and what the gateway logged before.",
    ),
    "health-flood": Event(
        "warning",
        "The gateway reports its health more often than the app can take, so only the newest report counts.",
        "Look for a connection that comes and goes many times a second.",
    ),
    "health-illegal": Event("error", "A change of health that can't be.", "Report it: this is a bug of the package."),
    "health-unreadable": Event(
        "error",
        "A report of the gateway's health can't be read.",
        "Let both halves be of the same version.",
    ),
    "connected": Event("info", "The gateway has logged in."),
    "connects-now": Event("info", "The gateway was asked to connect at once (`taktora-trio revive`)."),
    "connection-failed": Event(
        "warning",
        "No connection came about. It is tried again; the line says when, and why it failed.",
        "If it lasts, look whether the broker runs, its address is right, and the network is there.",
    ),
    "connection-lost": Event(
        "warning",
        "A connection has ended. Another one is tried.",
        "If it comes often: look at the network, and at the broker's log.",
    ),
    "connection-left": Event("info", "The gateway has left a broker for another one of its list."),
    "connection-error": Event(
        "error",
        "A connection has ended by an error that nobody expected; the traceback is there. It is tried again.",
        "Report it, unless the connector is your own.",
    ),
    "login-refused": Event(
        "error",
        "The broker has refused the login, the client id or the protocol version. It is tried again, ever more rarely.",
        "Mend the password, the user, the broker's rules; then `taktora-trio revive`, or `reload` for a new password.",
    ),
    "channel-refused": Event(
        "error",
        "The broker refuses what a channel needs, such as a subscription. The other channels work.",
        "Let the broker's rules allow the topic. It is asked for again by itself.",
    ),
    "broker-changed": Event("info", "The gateway is at another node of the cluster now."),
    "session-elsewhere": Event(
        "warning",
        "The gateway is at another broker of its list now. What waits in the session at the last one comes later.",
        "See whether the first broker comes back.",
    ),
    "broker-not-back": Event("info", "The first broker of the list was tried, and is not back."),
    "session-shortened": Event(
        "warning",
        "The broker keeps the session for a shorter time than was asked for. A longer outage loses what waits there.",
        "Raise the broker's limit, or lower `session_expiry`.",
    ),
    "presence-refused": Event(
        "warning",
        "The broker does not take the gateway's presence, so others can't see whether it is there.",
        "Allow the topic in the broker, or set `presence=None`.",
    ),
    "qos-lowered": Event(
        "warning",
        "The broker grants a subscription a lower QoS than was asked for.",
        "Declare the QoS that it has, or change the broker.",
    ),
    "qos2-as-qos1": Event(
        "warning",
        "The broker treats QoS 2 as QoS 1: messages may come twice.",
        "Use another broker where that matters.",
    ),
    "qos2-many-channels": Event(
        "warning",
        "There are more channels of QoS 2 than the broker may take messages in flight.",
        "Set `protocol='5'`, or raise the broker's limit.",
    ),
    "unsubscribed": Event("info", "Subscriptions of an earlier version of the deployment were removed."),
    "unsubscribe-refused": Event(
        "warning",
        "The broker goes on with a subscription that no channel needs.",
        "`taktora-trio forget` with the deployment stopped removes the session.",
    ),
    "subscriptions-not-kept": Event(
        "warning",
        "What is subscribed can't be written down, so a later version could not unsubscribe it.",
        "Set `XDG_STATE_HOME` (or `StateDirectory=`) to a folder that lasts and may be written.",
    ),
    "name-temporary": Event(
        "warning",
        "The broker knows this gateway by a name that the next container or machine won't have.",
        "Give `--client-id`.",
    ),
}
