"""Which of several brokers is next."""

from __future__ import annotations

from collections import Counter

import pytest

from taktora_trio import BrokerAddress
from taktora_trio.connectors.mqtt.choice import BrokerChoice, order_for
from taktora_trio.connectors.retry import Retry

BROKERS = [BrokerAddress(f"host-{number}", 1883) for number in range(3)]


def fail(choice: BrokerChoice, delay: float, now: float, *, refused: bool = False) -> tuple[int, float, bool]:
    """Which is next, after how many seconds, and whether the connector is refused."""
    retry = choice.failed(Retry(delay, "gone", refused), now)
    return choice.current, retry.delay, retry.refused


def test_one_broker_is_tried_again_after_its_delay() -> None:
    choice = BrokerChoice(1)
    assert fail(choice, 2, 0) == (0, 2, False)
    assert fail(choice, 30, 5, refused=True) == (0, 30, True)


def test_each_is_tried_at_once_in_its_order_and_after_the_round_the_one_that_is_due_first() -> None:
    choice = BrokerChoice(3)
    assert fail(choice, 1, 0) == (1, 0, False)
    assert fail(choice, 5, 0) == (2, 0, False)
    assert fail(choice, 1, 0.5) == (0, 0.5, False)
    assert fail(choice, 4, 1) == (2, 0.5, False)  # the second is not due, so the third has its turn before it


def test_one_that_hangs_keeps_nobody_from_the_third() -> None:
    choice = BrokerChoice(3)
    assert fail(choice, 1, 0) == (1, 0, False)
    # The second took ten seconds to fail, and the first is long due; but it had its turn in this round.
    assert fail(choice, 1, 10) == (2, 0, False)
    assert fail(choice, 1, 11) == (0, 0, False)


def test_a_refused_login_is_not_asked_for_more_often_because_there_are_others() -> None:
    choice, asked = BrokerChoice(2), list[float]()
    now = 0.0
    while now < 100:
        if choice.current == 0:
            asked.append(now)
            _, delay, refused = fail(choice, 30, now, refused=True)
        else:
            _, delay, refused = fail(choice, 1, now)
        assert not refused
        now += delay
    assert asked == [0, 30, 60, 90]


def test_it_is_refused_if_all_refuse() -> None:
    choice = BrokerChoice(2)
    assert fail(choice, 30, 0, refused=True) == (1, 0, False)
    assert fail(choice, 40, 0, refused=True) == (0, 30, True)
    choice.connected()
    assert fail(choice, 1, 0) == (0, 1, False)


def test_one_that_worked_until_now_is_followed_by_all_others() -> None:
    choice = BrokerChoice(3)
    fail(choice, 1, 0)
    choice.connected()
    assert fail(choice, 1, 100) == (0, 0, False)
    assert fail(choice, 2, 100) == (2, 0, False)


def test_a_client_has_always_the_same_order_and_a_fleet_divides_itself_also_when_one_is_gone() -> None:
    fleet = [order_for(f"client-{number}", BROKERS) for number in range(600)]
    assert fleet == [order_for(f"client-{number}", BROKERS[::-1]) for number in range(600)]
    for first in Counter(order[0].host for order in fleet), Counter(order[1].host for order in fleet):
        assert min(first.values()) > 150
    heirs = Counter(order[1].host for order in fleet if order[0] == BROKERS[0])
    assert min(heirs.values()) > 50
    assert len(heirs) == 2


@pytest.mark.parametrize("brokers", [BROKERS, BROKERS[:1]])
def test_without_a_client_id_the_order_is_by_chance(brokers: list[BrokerAddress]) -> None:
    orders = {tuple(order_for(None, brokers)) for _ in range(200)}
    assert all(sorted(order, key=str) == brokers for order in orders)
    assert len(orders) > 1 or len(brokers) == 1
