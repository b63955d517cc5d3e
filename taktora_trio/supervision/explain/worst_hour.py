"""The worst that a policy allows: the most restarts in a time, without its being given up.

Between a restart and the `intensity`-th after it, more than `period` seconds of uptime must lie, or it is given up.
Nothing else takes time but the delays, and these are shortest if that uptime is a single run, after which they start
over. So the most restarts are bursts of at most `intensity` failures at once, with a run of just over `period` seconds
between them. (Bursts may be shorter, where the delays of longer ones take more time than another run.)
"""

from __future__ import annotations

from taktora_trio.supervision.explain.delays import sum_of_delays
from taktora_trio.supervision.explain.search import first_where
from taktora_trio.supervision.policy import RestartPolicy

__all__ = ["most_restarts"]


def most_restarts(policy: RestartPolicy, seconds: float) -> tuple[int, int]:
    """Return the most restarts in less than `seconds` without its being given up, and the number of bursts.

    It is exact if starting takes no time and every delay is as short as the jitter can make it.
    """
    if policy.restart == "never" or policy.intensity == 0:
        return 0, 0
    delays_of = sum_of_delays(policy)

    def span(restarts: int, bursts: int) -> float:
        # Delays never get shorter, so bursts of the same length take least; after the last restart comes none.
        each, more = divmod(restarts - 1, bursts)
        delays = (bursts - more) * delays_of(each) + more * delays_of(each + 1)
        return delays * (1 - policy.backoff.jitter) + ((bursts - 1) * policy.period if bursts > 1 else 0.0)

    def best(restarts: int) -> int:
        # `span` is convex in the number of bursts: the first after which it does not fall is the best.
        fewest = -(-restarts // policy.intensity)
        return first_where(fewest, restarts, lambda bursts: span(restarts, bursts) <= span(restarts, bursts + 1))

    def takes_too_long(restarts: int) -> bool:
        return span(restarts, best(restarts)) >= seconds

    too_many = policy.intensity * (int(seconds / policy.period) + 2)
    most = first_where(1, too_many, lambda restarts: takes_too_long(restarts + 1))
    return most, best(most)
