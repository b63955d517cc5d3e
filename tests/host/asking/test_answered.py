"""Answered: what is known of requests, for how long, and in how much memory."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from taktora_trio.host.asking.answered import KEPT_AFTER, Answered, Key, Reply


def key(number: int) -> Key:
    return ("r", number.to_bytes(1, "big"))


def test_a_request_is_known_from_its_beginning_until_no_repeat_can_come() -> None:
    answered = Answered(10, 1000)
    assert answered.find(key(1), 0) is None
    answered.begin(key(1))
    begun = answered.find(key(1), 1000)
    assert begun is not None
    assert not begun.is_finished
    answered.add(key(1), Reply(b"accepted"))
    answered.add(key(1), Reply(b"done"))
    assert not begun.is_finished
    answered.finish(key(1), 5, now=4)
    answered.finish(key(1), 6, now=4)
    assert begun.is_finished
    assert [reply.payload for reply in begun.replies] == [b"accepted", b"done"]
    assert answered.find(("s", key(1)[1]), 4.9) is None, "the same id, of another requester"
    assert answered.find(key(1), 4.9 + KEPT_AFTER) is begun
    assert answered.find(key(1), 5 + KEPT_AFTER) is None
    answered.add(key(1), Reply(b"nobody asks for it"))
    answered.finish(key(1), 7, now=6)
    assert (len(answered), answered.size, answered.forgotten) == (0, 0, 0)


def test_one_without_a_deadline_is_known_for_a_while_after_its_end() -> None:
    answered = Answered(10, 1000)
    answered.begin(key(1))
    answered.finish(key(1), math.inf, now=100)
    assert answered.find(key(1), 99 + KEPT_AFTER) is not None
    assert answered.find(key(1), 100 + KEPT_AFTER) is None
    assert answered.forgotten == 0


def test_those_that_expire_first_are_forgotten_where_there_is_no_room_but_none_that_is_running() -> None:
    answered = Answered(3, 1000)
    for number, until in ((1, 30), (2, 10), (3, 20)):
        answered.begin(key(number))
        if number != 2:
            answered.finish(key(number), until, now=0)
    answered.begin(key(4))
    assert answered.forgotten == 1
    assert [number for number in (1, 2, 3, 4) if answered.find(key(number), 0)] == [1, 2, 4]
    answered.begin(key(5))
    assert [number for number in (1, 2, 3, 4, 5) if answered.find(key(number), 0)] == [2, 4, 5]
    answered.begin(key(6))
    assert (len(answered), answered.forgotten) == (4, 2), "all of them are running"
    answered.finish(key(2), 1000, now=0)
    assert (len(answered), answered.forgotten) == (3, 3)
    answered.finish(key(4), 40, now=40)
    answered.begin(key(7))
    assert (len(answered), answered.forgotten) == (3, 3), "its deadline had passed"
    assert answered.find(key(4), 40) is None


def test_replies_take_no_more_memory_than_they_may() -> None:
    answered = Answered(100, 1000)
    for number in range(20):
        answered.begin(key(number))
        answered.add(key(number), Reply(bytes(198)))
        answered.finish(key(number), number + 1, now=0)
        assert answered.size <= 1000
    assert [number for number in range(20) if answered.find(key(number), 0)] == [15, 16, 17, 18, 19]


def test_what_is_forgotten_is_as_if_it_had_never_come() -> None:
    answered = Answered(10, 1000)
    for _ in range(100):
        answered.begin(key(1))
        answered.finish(key(1), 1000, now=0)
        answered.forget(key(1))
        assert answered.find(key(1), 0) is None
    answered.begin(key(1))
    answered.finish(key(1), 2000, now=0)
    assert answered.find(key(1), 1000 + KEPT_AFTER) is not None, "that it was to expire earlier is forgotten, too"
    answered.forget(key(2))
    assert len(answered._expiring) < 20


steps = st.one_of(
    st.tuples(st.just("begin"), st.integers(0, 9), st.just(0)),
    st.tuples(st.just("reply"), st.integers(0, 9), st.integers(0, 300)),
    st.tuples(st.just("finish"), st.integers(0, 9), st.one_of(st.integers(1, 9), st.just(math.inf))),
    st.tuples(st.just("forget"), st.integers(0, 9), st.just(0)),
    st.tuples(st.just("wait"), st.just(0), st.one_of(st.integers(1, 5), st.integers(50, 65))),
)


@given(st.lists(steps, max_size=60))
def test_as_a_model_without_bounds_but_for_what_it_has_forgotten(script: list[tuple[str, int, float]]) -> None:
    answered, now, forgotten = Answered(4, 500), 0.0, 0
    model: dict[Key, float] = {}  # until when each is known: infinite for one that runs
    deadlines: dict[Key, float] = {}
    for step, number, much in script:
        which = key(number)
        if step == "wait":
            now += much
        elif step == "begin" and answered.find(which, now) is None:
            answered.begin(which)
            model[which] = math.inf
        elif step == "reply":
            answered.add(which, Reply(bytes(int(much))))
        elif step == "finish":
            if model.get(which) == math.inf:
                model[which] = (now if much == math.inf else now + much) + KEPT_AFTER
                deadlines[which] = now + much
            answered.finish(which, now + much, now)
        elif step == "forget":
            answered.forget(which)
            model.pop(which, None)
        for each, until in list(model.items()):
            found = answered.find(each, now)
            if until <= now:
                assert found is None
                del model[each]
            elif found is None:
                assert until < math.inf, "one that runs was forgotten"
                forgotten += deadlines[each] > now
                del model[each]
        assert answered.forgotten == forgotten
        assert len(answered) == len(model)
        running = sum(until == math.inf for until in model.values())
        assert len(answered) <= max(4, running)
        assert answered.size == sum(begun.size for begun in answered._begun.values())
        assert answered.size <= 500 or running == len(model)
