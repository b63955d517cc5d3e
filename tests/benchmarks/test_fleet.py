"""The simulated fleet: the same for the same seed, and it tells a storm that ends from one that does not."""

from __future__ import annotations

import math

import pytest

from benchmarks.fleet import OURS, POLICIES, Cluster, Outcome, simulate

BEFORE = POLICIES[1]


def fleet(cluster: Cluster, policy: object = OURS, seed: int = 1) -> Outcome:
    """A hundred thousand, by two hundred."""
    assert policy in POLICIES
    return simulate(200, cluster, policy, seed, each=500)


def test_the_same_seed_gives_the_same() -> None:
    cluster = Cluster(3, 1000, math.inf, 5)
    assert fleet(cluster) == fleet(cluster)
    assert fleet(cluster) != fleet(cluster, seed=2)


def test_where_nodes_are_fast_all_are_back_after_their_first_delay() -> None:
    outcome = fleet(Cluster(3, 1e6, math.inf, 0))
    assert len(outcome.attempts) == len(outcome.connected) == 200
    assert 0.125 <= outcome.connected[0] <= outcome.until(1.0) <= 0.375 + 2 * outcome.ideal


def test_nobody_is_connected_during_the_outage() -> None:
    outcome = fleet(Cluster(3, 1e6, math.inf, 60))
    assert min(outcome.attempts) < 0 <= outcome.connected[0]
    assert outcome.until(1.0) <= 45 + 1, "the longest delay, spread"


@pytest.mark.parametrize("outage", [0, 5, 60, 600])
def test_a_storm_at_slow_nodes_ends_since_we_wait_for_our_turn(outage: float) -> None:
    cluster = Cluster(3, 300, math.inf, outage)
    assert fleet(cluster).until(1.0) < 1500
    assert fleet(cluster, BEFORE).until(0.5) == math.inf


def test_a_queue_with_a_limit_does_less_in_vain() -> None:
    assert fleet(Cluster(3, 300, 2000, 0)).until(1.0) < fleet(Cluster(3, 300, math.inf, 0)).until(1.0) / 2
