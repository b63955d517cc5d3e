"""Triggers on a real `ChannelReader`: shared memory, and the real clock."""

from __future__ import annotations

import pytest
import trio

from taktora_trio import CodecError, ConfigError, JsonCodec, Received
from taktora_trio.executor import Context, Executor, Late, Tick, any_of, every, on_deadline, on_message
from taktora_trio.transport.domain import Domain
from tests.host.rig import open_channel, reader_of
from tests.transport.rig import declare, open_domain, open_sending


async def test_messages_in_order_and_what_is_not_taken_stays(domain: Domain) -> None:
    async with open_channel(domain, int, window=64) as (writer, reader):
        executor, seen = Executor(), list[int]()

        @executor.item(any_of(on_message(reader), every(60)))  # waiting for both
        async def follow(ctx: Context[Received[int]]) -> None:
            if isinstance(ctx.wake, Tick):
                return
            seen.append(ctx.message.value)
            if ctx.message.value == 30:
                ctx.stop()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(executor.run)
            for number in range(50):
                await writer.send(number)
                if number % 10 == 0:
                    await trio.sleep(0.01)
        assert seen == list(range(31))
        assert (await reader.receive()).value == 31  # not acknowledged, so not lost


async def test_one_that_cannot_be_decoded(domain: Domain) -> None:
    connector, spec = declare(int, JsonCodec())
    async with (
        open_domain(domain, connector) as node,
        open_sending(node, spec) as writer,
        reader_of(node, connector) as reader,
    ):
        executor, seen = Executor(), list[object]()

        @executor.item(on_message(reader))
        async def follow(ctx: Context[Received[int]]) -> None:
            try:
                seen.append(ctx.message.value)
            except CodecError as exc:
                seen.append(exc.topic)
            if len(seen) == 3:
                ctx.stop()

        for value in (b"1", b"bad", b"3"):
            writer.send_nowait(value)
        with trio.fail_after(10):
            await executor.run()
        assert seen == [1, "t", 3]


async def test_late_data(domain: Domain) -> None:
    async with open_channel(domain, int) as (writer, reader):
        executor, why = Executor(), list[str]()

        @executor.item(any_of(on_message(reader), on_deadline(reader, 0.05)))
        async def follow(ctx: Context[Received[int]]) -> None:
            why.append("late" if isinstance(ctx.wake, Late) else "message")
            if why == ["late"]:
                await writer.send(1)
            if why == ["late", "message", "late"]:
                ctx.stop()

        with trio.fail_after(10):
            await executor.run()


async def test_a_closed_one_is_refused(domain: Domain) -> None:
    async with open_channel(domain, int) as (_, reader):
        assert not reader.is_closed
        trigger = on_message(reader)
        reader.close()
        assert reader.is_closed
        for refused in (lambda: on_message(reader), lambda: on_deadline(reader, 1)):
            with pytest.raises(ConfigError, match=r"ChannelReader\(.*, closed\) is closed"):
                refused()

        async def follow(ctx: Context[Received[int]]) -> None:
            pass

        with pytest.raises(ConfigError, match="is closed"):
            Executor().add(follow, trigger)
