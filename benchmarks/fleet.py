"""A fleet of gateways that loses its broker cluster and comes back, simulated: when are all connected again?

    python -m benchmarks.fleet                           the table of docs/scaling-out.md (half a minute)
    python -m benchmarks.fleet --gateways 1000 --each 1 --nodes 1 --logins 400 --outage 0
    python -m benchmarks.fleet --json FILE               for `fleet_plot.py`

When each gateway tries again, `taktora_trio.connectors.reconnect.after` decides, the very function that the gateway
uses, and how long it waits for an answer, the MQTT client's own rule. A node of the cluster is a server that does one
thing after the other: a login (TCP, TLS, CONNECT), then what follows it (SUBSCRIBE, the retained `Up`, messages that
were in flight). Each takes its time, also for a gateway that has stopped waiting, for a broker notices that too late.
Where its queue is full, it answers no further attempt. The same seed gives the same result.

One simulated gateway stands for `--each` of them, at a node that is slower by as much: the times are nearly the same,
in a twentieth of the time.
"""

from __future__ import annotations

import argparse
import bisect
import heapq
import random
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import attrs
import msgspec

from benchmarks.report import grid
from taktora_trio.connectors.connection import ConnectFailed, ConnectionLost
from taktora_trio.connectors.mqtt.client import patience
from taktora_trio.connectors.mqtt.options import MqttOptions
from taktora_trio.connectors.reconnect import History, after
from taktora_trio.supervision.backoff import Backoff

__all__ = ["OURS", "Cluster", "Outcome", "Policy", "main", "simulate"]

_UP_BEFORE = 3600.0  # seconds for which they had been connected
_REFUSED = 0.001  # seconds until a node that is down says so
_SHARE = 0.7  # of a node's work for a session that is the login; the rest is what follows it
_HORIZON = 1800.0  # seconds after which a storm counts as one that never ends
_OUTAGES = (0.0, 5.0, 60.0, 600.0)
_LOGINS = (300.0, 1000.0, 3000.0)


@attrs.frozen
class Cluster:
    """What the gateways come back to."""

    nodes: int
    logins: float
    """Sessions a second that one node can take, with all that belongs to it."""
    queue: float
    """Logins that wait at a node; further ones are not answered at all."""
    outage: float
    """Seconds for which connections are refused."""


@attrs.frozen
class Policy:
    """When a client tries again, and how long it waits."""

    name: str
    reconnect: Backoff = MqttOptions().reconnect
    is_patient: bool = True
    """True if it tells overdue answers from other failures, as ours does since there was this simulation."""


OURS = Policy("ours")
POLICIES = (
    OURS,
    Policy("ours before: 20 % jitter, 3 s, 30 s at most", Backoff(initial=0.25, maximum=30.0, jitter=0.2), False),
    Policy("the same without jitter", Backoff(initial=0.25, maximum=30.0, jitter=0.0), False),
    Policy("1 s to 120 s, doubled, no jitter (paho's)", Backoff(initial=1.0, maximum=120.0, jitter=0.0), False),
    Policy("each second (MQTT.js's)", Backoff(initial=1.0, maximum=1.0, factor=1.0, jitter=0.0), False),
)


@attrs.frozen
class Outcome:
    """What came of it. Seconds since the cluster was back."""

    policy: Policy
    cluster: Cluster
    gateways: int
    each: int
    """What one of them stands for."""
    attempts: Sequence[float]
    connected: Sequence[float]
    """Of those that were within the horizon; in order."""

    def until(self, share: float) -> float:
        """Return when this share of all was connected; infinite if it never was."""
        position = int(share * self.gateways) - 1
        return self.connected[position] if position < len(self.connected) else float("inf")

    @property
    def ideal(self) -> float:
        """Return how long it takes if the nodes are never idle and do nothing in vain."""
        return self.gateways * self.each / self.cluster.nodes / self.cluster.logins

    def peak(self) -> float:
        """Return the most attempts in 100 ms since the cluster was back, as a rate a second."""
        counts: dict[int, int] = {}
        for at in self.attempts:
            if at >= 0:
                counts[int(10 * at)] = counts.get(int(10 * at), 0) + 1
        return 10.0 * self.each * max(counts.values(), default=0)


class _Event(NamedTuple):
    at: float
    gateway: int
    node: int
    """Where it has logged in; -1 for an attempt."""
    patience: float


def simulate(
    gateways: int, cluster: Cluster, policy: Policy, seed: int, each: int = 1, horizon: float = _HORIZON
) -> Outcome:
    """Let all lose their connections at once, and follow them until all are back, for `horizon` seconds at most.

    Each of the `gateways` stands for `each` of them.
    """
    chance = random.Random(seed)
    options = MqttOptions(reconnect=policy.reconnect)
    refused, overdue = ConnectFailed("refused"), ConnectFailed("timed out", overdue=policy.is_patient)
    lost, silent = ConnectionLost("reset"), ConnectionLost("no answer", silent=policy.is_patient)
    unanswered = ConnectFailed("timed out")  # by nobody: not even TCP
    histories = [History()] * gateways
    free = [0.0] * cluster.nodes  # when each node has done all that it was given
    rate = cluster.logins / each
    login, session, queue = _SHARE / rate, (1 - _SHARE) / rate, cluster.queue / each
    attempts, connected = list[float](), list[float]()
    events: list[_Event] = []

    def again(gateway: int, at: float, failure: Exception, uptime: float | None = None) -> None:
        histories[gateway], retry = after(histories[gateway], failure, uptime, options.reconnect, random=chance.random)
        heapq.heappush(events, _Event(at + retry.delay, gateway, -1, 0.0))

    for gateway in range(gateways):
        again(gateway, 0.0, lost, _UP_BEFORE)
    while events and events[0].at < cluster.outage + horizon:
        at, gateway, node, waits = heapq.heappop(events)
        if node < 0:
            attempts.append(at)
            if at < cluster.outage:
                again(gateway, at + _REFUSED, refused)
                continue
            node, waits = chance.randrange(cluster.nodes), patience(options, histories[gateway].overdue)
            begins = max(at, free[node])
            if (begins - at) * rate > queue:
                again(gateway, at + waits, unanswered)
                continue
            free[node] = done = begins + login
            if done > at + waits:
                again(gateway, at + waits, overdue)
            else:
                heapq.heappush(events, _Event(done, gateway, node, waits))
        else:
            free[node] = done = max(at, free[node]) + session
            if done > at + waits:
                again(gateway, at + waits, silent)
            else:
                connected.append(done)
    outage = cluster.outage
    return Outcome(
        policy, cluster, gateways, each, [at - outage for at in attempts], sorted(at - outage for at in connected)
    )


def table(outcomes: Sequence[Outcome]) -> str:
    rows: list[tuple[str, ...]] = [
        ("outage", "logins/s", "queue", "delays", "ideal", "50 %", "99 %", "100 %", "attempts each", "peak/s")
    ]
    rows += [
        (
            f"{it.cluster.outage:g}",
            f"{it.cluster.nodes} x {it.cluster.logins:g}",
            "-" if it.cluster.queue == float("inf") else f"{it.cluster.queue:g}",
            it.policy.name,
            f"{it.ideal:,.0f}",
            *(_seconds(it.until(share)) for share in (0.5, 0.99, 1.0)),
            f"{sum(at >= 0 for at in it.attempts) / it.gateways:.1f}",
            f"{it.peak():,.0f}",
        )
        for it in outcomes
    ]
    return grid(rows)


def _seconds(value: float) -> str:
    return "never" if value == float("inf") else f"{value:,.0f}"


def _document(outcomes: Sequence[Outcome]) -> bytes:
    """Return curves of a thousand points at most, for the plot."""

    def curve(it: Outcome) -> dict[str, object]:
        longest = max([*it.attempts[-1:], *it.connected[-1:], 1.0])
        step = longest / 500
        up = [[k * step, bisect.bisect(it.connected, k * step)] for k in range(501)]
        counts: dict[int, int] = {}
        for at in it.attempts:
            if at >= 0:
                counts[int(at)] = counts.get(int(at), 0) + 1
        return {
            "policy": it.policy.name,
            "outage": it.cluster.outage,
            "logins": it.cluster.logins,
            "nodes": it.cluster.nodes,
            "gateways": it.gateways * it.each,
            "connected": [[at, count * it.each] for at, count in up],
            "attempts": [[at, count * it.each] for at, count in sorted(counts.items())],
        }

    return msgspec.json.encode([curve(it) for it in outcomes])


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gateways", type=int, default=100_000)
    parser.add_argument("--each", type=int, default=20, help="what one that is simulated stands for")
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--logins", type=float, nargs="+", default=_LOGINS, help="of a node a second")
    parser.add_argument("--outage", type=float, nargs="+", default=_OUTAGES, help="seconds")
    parser.add_argument("--queue", type=float, default=float("inf"), help="of a node; by default there is no limit")
    parser.add_argument("--only", metavar="WORD", help="those of the policies that have it in their name")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE")
    told = parser.parse_args()
    policies = [policy for policy in POLICIES if not told.only or told.only in policy.name]
    outcomes = []
    for outage in told.outage:
        for logins in told.logins:
            cluster = Cluster(told.nodes, logins, told.queue, outage)
            # One case shows all of them, the others ours and what it was before.
            shown = policies if (outage, logins) == (told.outage[0], told.logins[-1]) else policies[:2]
            outcomes += [
                simulate(told.gateways // told.each, cluster, policy, told.seed, told.each) for policy in shown
            ]
    print(f"{told.gateways:,} gateways; times in seconds since the cluster is back\n")
    print(table(outcomes))
    if told.json is not None:
        told.json.write_bytes(_document(outcomes))


if __name__ == "__main__":
    main()
