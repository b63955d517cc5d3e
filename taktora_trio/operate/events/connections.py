"""Events of connections to the other side (a broker, a router, other hosts), and of a connector's health."""

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
        "The connector does not work: the gateway is gone, hangs, was stopped, or the other side has refused it.",
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
        "If it lasts, look whether the other side runs, its address is right, and the network is there.",
    ),
    "connection-lost": Event(
        "warning",
        "A connection has ended. Another one is tried.",
        "If it comes often: look at the network, and at the log of the other side.",
    ),
    "connection-left": Event("info", "The gateway has left an address for another one of its list."),
    "connection-error": Event(
        "error",
        "A connection has ended by an error that nobody expected; the traceback is there. It is tried again.",
        "Report it, unless the connector is your own.",
    ),
    "login-refused": Event(
        "error",
        "The other side refuses the login, the gateway's name or the protocol. It is tried again, ever more rarely.",
        "Mend the password, the user, its rules; then `taktora-trio revive`, or `reload` for a new password.",
    ),
    "channel-refused": Event(
        "error",
        "The other side refuses what a channel needs, such as a subscription. The other channels work.",
        "Let its rules allow the topic. It is asked for again by itself.",
    ),
    "name-temporary": Event(
        "warning",
        "The other side knows this gateway by a name that the next container or machine won't have.",
        "Give a name that stays: the line says by which option.",
    ),
}
