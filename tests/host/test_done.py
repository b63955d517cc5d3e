"""What an app is done with, and what comes again: a reader with a gateway's end, in real shared memory."""

from __future__ import annotations

import contextlib
import sys

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from taktora_trio import CodecError, ConfigError, Inbound, MessageError, MqttConnector, MqttRouting
from taktora_trio.connectors.plan import specs_of
from taktora_trio.transport.domain import Domain
from taktora_trio.transport.node import open_node
from taktora_trio.transport.services import open_services
from tests.host.inbound import Failed, Rig, fails, open_both, open_run, receive, send, what


async def test_asking_for_the_next_is_being_done(domain: Domain) -> None:
    async with open_both(domain) as (gateway, reader):
        send(gateway, 1, 2, 3)
        assert (await reader.receive()).value == 1
        assert gateway.done == 0
        assert reader.receive_nowait().value == 2
        assert gateway.done == 1
        async for received in reader:
            assert (received.value, gateway.done) == (3, 2)
            break
        with pytest.raises(trio.WouldBlock):
            reader.receive_nowait()
        assert gateway.done == 3
        send(gateway, 4)
        assert (await reader.receive()).value == 4
        with trio.move_on_after(0) as scope:
            await reader.receive()
        assert scope.cancelled_caught
        assert gateway.done == 4, "it has asked"


async def test_leaving_the_reader_in_order_is_being_done(domain: Domain) -> None:
    async with open_run(domain) as rig, rig.gateway() as gateway:
        send(gateway, 1, 2)
        async with rig.reader() as reader:
            await reader.receive()
        assert gateway.done == 1
        with fails():
            async with rig.reader() as reader:
                assert await receive(reader, 1) == [(2, 1)]
                raise Failed
        assert gateway.done == 1
        with trio.CancelScope() as scope:
            async with rig.reader() as reader:
                assert await receive(reader, 1) == [(2, 2)]
                scope.cancel()
                await trio.lowlevel.checkpoint()
        assert gateway.done == 1
        async with rig.reader() as reader:
            assert await receive(reader, 1) == [(2, 3)]
            reader.close()
            assert gateway.done == 1
            with pytest.raises(trio.ClosedResourceError):
                await reader.receive()
        assert gateway.done == 2


async def test_the_gateway_is_woken_when_the_reader_goes_idle_and_when_it_ends(domain: Domain) -> None:
    async with open_run(domain) as rig, rig.gateway() as gateway, trio.open_nursery() as nursery:
        done: list[int] = []

        async def follow() -> None:
            while not done or done[-1] < 3:
                await gateway._port.space.wait()
                gateway._port.space.clear()
                done.append(gateway.done)

        async with rig.reader() as reader:
            await wait_all_tasks_blocked()
            gateway._port.space.clear()  # a reader has come
            nursery.start_soon(follow)
            send(gateway, 1, 2)
            nursery.start_soon(receive, reader, 3)
            with trio.fail_after(5):
                while not done or done[-1] < 2:
                    await wait_all_tasks_blocked()
            send(gateway, 3)
            await wait_all_tasks_blocked()
            assert done[-1] == 2
        # The reader was left in order, so it is done with the last one too.


async def test_a_slow_app_wakes_the_gateway_at_each_message(domain: Domain) -> None:
    async with open_both(domain) as (gateway, reader):
        send(gateway, 1, 2, 3)
        await reader.receive()
        await reader.receive()  # wakes it, for it was not woken for a millisecond
        gateway._port.space.clear()
        await trio.sleep(0.002)
        await reader.receive()
        with trio.fail_after(5):
            await gateway._port.space.wait()
        assert gateway.done == 2


async def test_on_arrival_it_is_done_at_once(domain: Domain) -> None:
    async with open_both(domain, acknowledge="on-arrival") as (gateway, reader):
        send(gateway, 1, 2)
        received = await reader.receive()
        assert gateway.done == 1
        with pytest.raises(ConfigError, match="reject needs acknowledge='when-done'"):
            reader.reject(received, "why")
        with fails():
            async with reader.take() as received:
                raise Failed
        assert await receive(reader, 1) == [(2, 2)], "it is given back to the same reader, for the process lives"
        assert gateway.done == 2


# Pieces of work


async def test_pieces_end_in_any_order(domain: Domain) -> None:
    async with open_both(domain) as (gateway, reader), trio.open_nursery() as nursery:
        ends = {value: trio.Event() for value in (1, 2, 3)}

        async def work() -> None:
            async with reader.take() as received:
                await ends[received.value].wait()

        for _ in ends:
            nursery.start_soon(work)
        await wait_all_tasks_blocked()
        send(gateway, 1, 2, 3)
        await wait_all_tasks_blocked()
        for value, done in ((2, 0), (1, 2), (3, 3)):
            ends[value].set()
            await wait_all_tasks_blocked()
            assert gateway.done == done


async def test_a_piece_that_fails_comes_again_next_and_then_goes_to_the_dead_letters(domain: Domain) -> None:
    async with open_both(domain, max_deliveries=3) as (gateway, reader):
        send(gateway, 1, 2)
        for count in (1, 2, 3):
            with fails():
                async with reader.take() as received:
                    assert what(received) == (1, count)
                    raise Failed("no good")
            assert (gateway.given_up(1) is not None) == (count == 3)
        assert await receive(reader, 1) == [(2, 1)]
        assert gateway.done == 1
        assert gateway.given_up(1) == ("Failed: no good", 3)
        assert gateway.given_up(2) is None
        statistics = reader.statistics()
        assert (statistics.received, statistics.redelivered, statistics.dead) == (4, 2, 1)


async def test_a_task_that_waits_gets_what_another_gives_back(domain: Domain) -> None:
    async with open_both(domain) as (gateway, reader), trio.open_nursery() as nursery:
        send(gateway, 1)
        fail, counts = trio.Event(), list[int]()

        async def gives_back() -> None:
            with fails():
                async with reader.take():
                    await fail.wait()
                    raise Failed

        async def waits() -> None:
            async with reader.take() as received:
                counts.append(received.delivery_count)

        nursery.start_soon(gives_back)
        await wait_all_tasks_blocked()
        nursery.start_soon(waits)
        await wait_all_tasks_blocked()
        fail.set()
        with trio.fail_after(5):
            while not counts:
                await wait_all_tasks_blocked()
        assert counts == [2]


async def test_a_value_that_a_failed_block_has_changed_is_decoded_anew(domain: Domain) -> None:
    connector = MqttConnector([Inbound("in", list[int], MqttRouting("t"))])
    with domain.hold("owner"):
        async with open_node(domain, "test") as node, open_services(node, specs_of([connector])):
            rig = Rig(node, connector)
            async with rig.gateway() as gateway, rig.reader() as reader:
                gateway.send_nowait(b"[1]")
                with contextlib.suppress(Failed):
                    async with reader.take() as received:
                        received.value.append(2)
                        raise Failed
                async with reader.take() as received:
                    assert received.value == [1]


async def test_a_borrowed_one_comes_again_too(domain: Domain) -> None:
    async with open_both(domain) as (gateway, reader):
        send(gateway, 1)
        for _ in range(2):
            with fails():
                async with reader.borrow() as received:
                    assert bytes(received.value) == b"1"
                    raise Failed
        async with reader.borrow() as received:
            assert (bytes(received.value), received.delivery_count) == (b"1", 3)
        assert gateway.done == 1


async def test_a_cancelled_piece_does_not_count_against_the_message_at_a_stop(domain: Domain) -> None:
    async with open_run(domain, max_deliveries=2) as rig, rig.gateway() as gateway:
        send(gateway, 1)
        for count in (1, 2, 3, 4):
            with trio.CancelScope() as scope:
                async with rig.reader() as reader, reader.take() as received:
                    assert what(received) == (1, count)
                    scope.cancel()
                    await trio.lowlevel.checkpoint()
        assert gateway.given_up(1) is None
        async with rig.reader() as reader:
            for count in (5, 6):  # while the reader goes on, who gives up on it again and again has failed
                with trio.CancelScope() as scope:
                    async with reader.take() as received:
                        assert what(received) == (1, count)
                        scope.cancel()
                        await trio.lowlevel.checkpoint()
            with pytest.raises(trio.WouldBlock):
                reader.receive_nowait()
            assert gateway.given_up(1) is not None


async def test_an_app_gives_a_message_up(domain: Domain) -> None:
    async with open_both(domain) as (gateway, reader):
        send(gateway, 1, 2, 3)
        received = await reader.receive()
        reader.reject(received, "out of range")
        assert gateway.done == 1
        assert gateway.given_up(1) == ("out of range", 1)
        with pytest.raises(MessageError, match="message 1 is not in hand"):
            reader.reject(received, "again")
        async with reader.take() as received:
            reader.reject(received, "x" * 500)
        assert gateway.given_up(2) == ("x" * 160, 1)
        assert await receive(reader, 1) == [(3, 1)]
        assert reader.statistics().dead == 2


async def test_what_cant_be_decoded_goes_to_the_dead_letters(domain: Domain) -> None:
    async with open_both(domain, on_error="dead-letter") as (gateway, reader):
        gateway.send_nowait(b"no number")
        send(gateway, 2)
        assert await receive(reader, 1) == [(2, 1)]
        assert "a message on 't' can't be decoded" in str(gateway.given_up(1))
        assert (reader.statistics().rejected, reader.statistics().dead) == (1, 1)


async def test_a_block_for_what_cant_be_decoded_is_not_entered_and_it_comes_again(domain: Domain) -> None:
    async with open_both(domain, max_deliveries=2) as (gateway, reader):
        gateway.send_nowait(b"no number")
        send(gateway, 2)
        for _ in range(2):
            with pytest.raises(CodecError, match="can't be decoded"):
                async with reader.take():
                    raise AssertionError
        async with reader.take() as received:
            assert what(received) == (2, 1)
        given_up = gateway.given_up(1)
        assert given_up is not None
        assert "can't be decoded" in given_up[0]


async def test_there_are_no_dead_letters_for_what_is_acknowledged_on_arrival(domain: Domain) -> None:
    async with open_run(domain, acknowledge="on-arrival") as rig:
        with pytest.raises(ConfigError, match="on_error='dead-letter' needs acknowledge='when-done'"):
            async with rig.reader("dead-letter"):
                pass


# After a kill. The reader's block is left by an exception, which tells the channel no more than a kill does.


async def test_a_successor_gets_what_was_not_done_and_nothing_else(domain: Domain) -> None:
    async with open_run(domain) as rig, rig.gateway() as gateway:
        send(gateway, 1, 2, 3, 4)
        with fails():
            async with rig.reader() as reader:
                pieces = [reader.take_nowait() for _ in range(3)]
                pieces[1].done()
                raise Failed
        async with rig.reader() as reader:
            assert await receive(reader, 3) == [(1, 2), (3, 2), (4, 1)]
        assert gateway.done == 4


async def test_a_successor_is_not_given_again_what_nobody_keeps(domain: Domain) -> None:
    async with open_run(domain) as rig, rig.gateway() as gateway:
        for value in (b"1", b"1", b"3", b"4"):  # of the same content, too
            gateway.send_nowait(value, reliable=value == b"3")
        for got, in_hand in ([(1, 1)], 0), ([(1, 1), (3, 1)], 2), ([(3, 2), (4, 1)], 3):
            with fails():
                async with rig.reader() as reader:
                    assert await receive(reader, len(got)) == got
                    assert gateway.done == in_hand
                    assert gateway.was_given(in_hand + 1) == (in_hand + 1 != 3), "and so it is not lost"
                    raise Failed
        async with rig.reader() as reader:
            for value in (b"5", b"6", b"7"):  # and there is room for others
                gateway.send_nowait(value, reliable=False)
            assert await receive(reader, 3) == [(5, 1), (6, 1), (7, 1)]


async def test_a_piece_of_work_that_nobody_keeps_may_come_again_here_or_be_given_up(domain: Domain) -> None:
    async with open_both(domain, max_deliveries=2) as (gateway, reader):
        gateway.send_nowait(b"1", reliable=False)
        for count in (1, 2):
            with fails():
                async with reader.take() as received:
                    assert what(received) == (1, count)
                    raise Failed
        assert gateway.done == 1
        assert gateway.given_up(1) == ("Failed", 2)


async def test_a_message_that_kills_each_app_is_given_up(domain: Domain) -> None:
    async with open_run(domain, max_deliveries=2) as rig, rig.gateway() as gateway:
        send(gateway, 1, 2)
        for count in (1, 2):
            with fails():
                async with rig.reader() as reader:
                    assert await receive(reader, 1) == [(1, count)]
                    raise Failed
        async with rig.reader() as reader:
            assert await receive(reader, 1) == [(2, 1)]
            assert gateway.given_up(1) == ("the app was given it 2 times, and was never done with it", 2)


@pytest.mark.parametrize(("code", "counts"), [(0, False), (None, False), (1, True), ("it is broken", True)])
async def test_an_exit_counts_against_the_message_unless_its_code_is_0(
    code: int | str | None, counts: bool, domain: Domain
) -> None:
    """systemd starts an app again that has exited with 1, so else the message would come to it for ever."""
    async with open_run(domain, max_deliveries=2) as rig, rig.gateway() as gateway:
        send(gateway, 1)
        for count in (1, 2):
            with contextlib.suppress(SystemExit):
                async with rig.reader() as reader:
                    assert await receive(reader, 1) == [(1, count)]
                    sys.exit(code)
        async with rig.reader() as reader:
            with pytest.raises(trio.WouldBlock) if counts else contextlib.nullcontext():
                assert reader.receive_nowait().delivery_count == 3
            assert (gateway.given_up(1) is not None) == counts


async def test_a_message_that_kills_whole_runs_is_given_up(domain: Domain) -> None:
    for count in (1, 2, 3):
        async with open_run(domain, max_deliveries=2) as rig, rig.gateway() as gateway:
            with contextlib.suppress(Failed):
                async with rig.reader() as reader:
                    send(gateway, *((7,) if count == 1 else (8, 7, 9)))  # other numbers, and perhaps another order
                    got = await receive(reader, 1 if count == 1 else 2)
                    assert got == {1: [(7, 1)], 2: [(8, 1), (7, 2)], 3: [(8, 1), (9, 1)]}[count]
                    if count < 3:
                        raise Failed
            assert (gateway.given_up(2) is not None) == (count == 3)


async def test_repeats_of_a_successor_of_the_gateway_are_not_given_to_the_app(domain: Domain) -> None:
    async with open_run(domain) as rig, rig.reader() as reader:
        async with rig.gateway() as first:
            send(first, 1, 2, 3, 4)
            assert await receive(reader, 3) == [(1, 1), (2, 1), (3, 1)]  # done with 1 and 2, and has 3 in hand
            assert first.done == 2
            first.note_acknowledged(1)  # its acknowledgement may have left, or not
        async with rig.gateway() as second:
            send(second, 1, 2, 3, 4, again=True)
            send(second, 5)
            again: list[tuple[int, bool]] = []
            while not again or again[-1][0] != 5:
                with trio.fail_after(5):
                    received = await reader.receive()
                again.append((received.value, received.redelivered))
        # The 4th may still have lain in the memory of the first.
        assert again in ([(4, False), (1, True), (5, False)], [(1, True), (4, True), (5, False)])
        assert (reader.statistics().received, reader.statistics().redelivered) == (6, 0)


async def test_another_session_uses_the_same_ids_for_other_messages(domain: Domain) -> None:
    async with open_run(domain) as rig, rig.reader() as reader:
        async with rig.gateway() as first:
            send(first, 1)
            await receive(reader, 1)
        async with rig.gateway() as second:
            second.note_forgotten()
            send(second, 1, again=True)
            with trio.fail_after(5):
                assert (await reader.receive()).value == 1
