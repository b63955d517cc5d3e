"""What becomes of the message of a cycle: done with, given up, or given again, as its item's policy says."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import trio

from taktora_trio import Backoff, Down, RestartPolicy
from taktora_trio.executor import (
    Context,
    Executor,
    any_of,
    chain,
    every,
    in_process,
    in_thread,
    on_health,
    on_message,
    only_if,
)
from taktora_trio.executor.item import OnFailure
from taktora_trio.host.reader import ChannelReader
from taktora_trio.transport.domain import Domain
from tests.host.inbound import Failed, open_both, open_run, send


class Work:
    """Notes what it gets, fails for some values, and stops its executor after the last."""

    def __init__(self, *failing: int, last: int = 3) -> None:
        self.failing, self.last = failing, last
        self.got: list[tuple[int, int]] = []

    async def __call__(self, ctx: Context[Any]) -> None:
        received = ctx.message
        self.got.append((received.value, received.delivery_count))
        if received.value in self.failing:
            raise Failed("no good")
        if received.value == self.last:
            ctx.stop()


async def run(reader: ChannelReader[Any], item: Any, on_failure: OnFailure = "stop", trigger: Any = None) -> None:
    executor = Executor()
    executor.add(item, trigger or on_message(reader), name="work", on_failure=on_failure)
    with trio.fail_after(10):
        await executor.run()


async def test_a_message_is_done_with_when_its_cycle_has_ended(domain: Domain) -> None:
    async with open_both(domain) as (gateway, reader):
        send(gateway, 1, 2, 3)
        done: list[int] = []

        async def look(ctx: Context[Any]) -> None:
            done.append(gateway.done)
            if ctx.message.value == 3:
                ctx.stop()

        await run(reader, look)
        assert done == [0, 1, 2]
        assert gateway.done == 3


async def test_what_an_item_skips_goes_to_the_dead_letters(domain: Domain) -> None:
    async with open_both(domain) as (gateway, reader):
        send(gateway, 1, 2, 3)
        work = Work(2)
        await run(reader, work, "skip")
        assert work.got == [(1, 1), (2, 1), (3, 1)]
        assert [gateway.given_up(number) for number in (1, 2, 3)] == [None, ("item work: Failed: no good", 1), None]
        assert gateway.done == 3


async def test_an_item_that_is_started_again_gets_it_again_and_then_it_is_given_up(domain: Domain) -> None:
    async with open_both(domain, max_deliveries=3) as (gateway, reader):
        send(gateway, 1, 2, 3)
        work = Work(2)
        await run(reader, work, RestartPolicy(backoff=Backoff(initial=0.001, maximum=0.001)))
        assert work.got == [(1, 1), (2, 1), (2, 2), (2, 3), (3, 1)]
        assert gateway.given_up(2) == ("item work: Failed: no good", 3)
        assert gateway.done == 3


async def test_one_that_stops_the_executor_comes_to_the_next_run_of_the_app(domain: Domain) -> None:
    async with open_run(domain) as rig, rig.gateway() as gateway:
        send(gateway, 1, 2, 3)
        work = Work(2)
        with pytest.raises(Failed):
            async with rig.reader() as reader:
                await run(reader, work)
        assert gateway.done == 1
        work.failing = ()
        async with rig.reader() as reader:
            await run(reader, work)
        assert work.got == [(1, 1), (2, 1), (2, 2), (3, 1)]
        assert gateway.done == 3


async def test_that_of_an_item_that_was_given_up_waits_until_it_is_revived_or_for_the_next_run(domain: Domain) -> None:
    async with open_run(domain) as rig, rig.gateway() as gateway:
        send(gateway, 1, 2, 3)
        work = Work(2)
        given_up = RestartPolicy(backoff=Backoff(initial=0.001, maximum=0.001), intensity=1, period=60)
        async with rig.reader() as reader:
            executor = Executor()
            executor.add(work, on_message(reader), name="work", on_failure=given_up)

            async def revive(ctx: Context[Any]) -> None:
                health = executor.health("work")
                if not isinstance(health, Down) or health.failure is None or health.failure.delay is not None:
                    return  # it is not given up
                if len(work.got) > 3:
                    ctx.stop()
                else:
                    executor.revive("work")

            executor.add(revive, on_health(executor, Down), name="revive", on_failure="stop")
            with trio.fail_after(10):
                await executor.run()
        assert gateway.done == 1
        assert gateway.given_up(2) is None
        assert work.got == [(1, 1), (2, 1), (2, 2), (2, 3), (2, 4)]
        work.failing = ()
        async with rig.reader() as reader:
            await run(reader, work)
        assert work.got[-2:] == [(2, 5), (3, 1)]
        assert gateway.done == 3


async def test_one_whose_cycle_was_cancelled_by_a_stop_is_not_held_against_it(domain: Domain) -> None:
    async with open_run(domain, max_deliveries=1) as rig, rig.gateway() as gateway:
        send(gateway, 1)
        counts: list[int] = []

        async def hang(ctx: Context[Any]) -> None:
            counts.append(ctx.message.delivery_count)
            ctx.stop()
            await trio.sleep_forever()

        for _ in range(3):
            async with rig.reader() as reader:
                executor = Executor(stop_grace=0)
                executor.add(hang, on_message(reader))
                await executor.run()
        assert counts == [1, 2, 3]
        assert (gateway.done, gateway.given_up(1)) == (0, None)


async def test_what_cant_be_decoded_is_as_a_failed_cycle(domain: Domain) -> None:
    async with open_both(domain) as (gateway, reader):
        gateway.send_nowait(b"no number")
        send(gateway, 2, 3)
        await run(reader, Work(), "skip")
        given_up = gateway.given_up(1)
        assert given_up is not None
        assert "can't be decoded" in given_up[0]
        assert gateway.done == 3


async def test_of_several_triggers_the_one_that_woke_it_counts(domain: Domain) -> None:
    async with open_both(domain) as (gateway, reader):
        send(gateway, 1, 2)
        cycles: list[Any] = []

        async def either(ctx: Context[Any]) -> None:
            cycles.append(gateway.done)
            with contextlib.suppress(LookupError):
                cycles[-1] = (ctx.message.value, gateway.done)
            if len(cycles) == 4:
                ctx.stop()

        await run(reader, either, trigger=any_of(every(0.001), on_message(reader)))
        assert [cycle for cycle in cycles if isinstance(cycle, tuple)] == [(1, 0), (2, 1)]
        assert gateway.done == 2


def double(value: int) -> int:
    return 2 * value


def refuse(value: int) -> int:
    raise ValueError(value)


@pytest.mark.parametrize("where", [in_thread, in_process])
async def test_work_that_is_done_elsewhere(where: Any, domain: Domain) -> None:
    async with open_both(domain) as (gateway, reader):
        send(gateway, 1, 2, 3)
        results: list[tuple[int, int]] = []

        async def then(ctx: Context[Any], result: int) -> None:
            results.append((result, gateway.done))

        async def stop(ctx: Context[Any]) -> None:
            if ctx.message.value == 3:
                ctx.stop()

        def is_good(ctx: Context[Any]) -> bool:
            return bool(ctx.message.value != 2)

        def arguments(ctx: Context[Any]) -> tuple[int]:
            return (ctx.message.value,)

        bad = only_if(where(refuse, arguments=arguments), lambda ctx: not is_good(ctx))
        good = only_if(where(double, arguments=arguments, then=then), is_good)
        await run(reader, chain(bad, good, stop), "skip")
        assert results == [(2, 0), (6, 2)]
        assert gateway.given_up(2) == ("item work: ValueError: 2", 1)
        assert gateway.done == 3
