"""Who follows has what passes by, loses what it is too late for, and is not seen by the halves."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import msgspec
import pytest
import trio

from taktora_trio import Envelope, Inbound, MqttConnector, MqttOptions, MqttRouting, Outbound, RawCodec
from taktora_trio.connectors.plan import trunk_spec
from taktora_trio.errors import TransportError
from taktora_trio.transport.cursor import SENT
from taktora_trio.transport.domain import Domain
from taktora_trio.transport.envelope import HEADER
from taktora_trio.transport.following import FollowedChannel, FollowedTrunk
from taktora_trio.transport.outside import codec_of, look_at
from tests.transport.rig import declare, open_domain, open_publisher, open_subscriber, take_all

CONNECTOR, SPEC = declare(bytes, RawCodec())  # a window of 4


@contextlib.contextmanager
def follow(domain: Domain) -> Iterator[FollowedChannel]:
    [onlooker] = look_at(domain)
    followed = FollowedTrunk(onlooker, domain.prefix)
    try:
        yield followed.channels[0]
    finally:
        followed.close()


def payloads(found: list[Envelope]) -> list[bytes]:
    return [envelope.payload for envelope in found]


async def test_what_is_sent_from_now_on_is_followed_and_the_halves_notice_nothing(domain: Domain) -> None:
    async with (
        open_domain(domain, CONNECTOR) as node,
        open_publisher(node, SPEC) as publisher,
        open_subscriber(node, SPEC) as port,
    ):
        publisher.send(b"before")
        files = domain.files()
        with follow(domain) as followed:
            assert followed.take() == []
            publisher.send(b"one")
            publisher.send(b"two")
            [one, two] = followed.take()
            assert (one.payload, one.header.sequence_number, two.payload) == (b"one", 2, b"two")
            assert followed.take() == []
            assert domain.files() == files
            assert [payload for _, payload in take_all(port)] == [b"before", b"one", b"two"]
        assert publisher.waiting == 3, "who follows has taken nothing"


async def test_who_is_too_late_loses_what_was_written_over_and_counts_it(domain: Domain) -> None:
    async with (
        open_domain(domain, CONNECTOR) as node,
        open_publisher(node, SPEC) as publisher,
        open_subscriber(node, SPEC) as port,
    ):
        with follow(domain) as followed:
            for number in range(10):
                publisher.send(b"%d" % number)
                for each, _ in take_all(port):
                    port.acknowledge(each)
            # The window is 4. The fourth before the end lies where the writer may be writing just now.
            assert payloads(followed.take()) == [b"7", b"8", b"9"]
            assert followed.lost == 7
            publisher.send(b"next")
            assert payloads(followed.take()) == [b"next"]
            assert followed.lost == 7


async def test_what_its_reader_is_not_done_with_is_certain_to_be_whole(domain: Domain) -> None:
    async with open_domain(domain, CONNECTOR) as node, open_publisher(node, SPEC) as publisher:
        with follow(domain) as followed:
            for number in range(4):
                publisher.send(b"%d" % number)
            assert publisher.send(b"the channel is full") == 0
            assert payloads(followed.take()) == [b"0", b"1", b"2", b"3"]
            assert followed.lost == 0


async def test_a_loan_is_followed_wherever_its_slot_lies(domain: Domain) -> None:
    async with (
        open_domain(domain, CONNECTOR) as node,
        open_publisher(node, SPEC) as publisher,
        open_subscriber(node, SPEC) as port,
    ):
        with follow(domain) as followed:
            for number in range(9):
                loan = publisher.loan(2)
                loan.payload[:] = b"%02d" % number
                assert publisher.send_loan(loan)
                publisher.send(b"plain")
                assert payloads(followed.take()) == [b"%02d" % number, b"plain"]
                for each, _ in take_all(port):
                    port.acknowledge(each)
            assert followed.lost == 0


async def test_a_writer_that_is_replaced_changes_nothing(domain: Domain) -> None:
    async with open_domain(domain, CONNECTOR) as node, open_subscriber(node, SPEC):
        with follow(domain) as followed:
            assert followed.take() == []
            async with open_publisher(node, SPEC) as first:
                first.send(b"a")
                assert await until(followed) == [b"a"]
                first.send(b"b")
            async with open_publisher(node, SPEC) as second:
                second.send(b"c")
                assert await until(followed) == [b"b"]
                assert await until(followed) == [b"c"]
            assert followed.lost == 0


async def until(followed: FollowedChannel) -> list[bytes]:
    """Look until something has come: for a writer's memory it looks 20 times a second."""
    with trio.fail_after(10):
        while not (found := payloads(followed.take())):  # noqa: ASYNC110 - it is what is tested
            await trio.sleep(0.01)
    return found


@pytest.mark.parametrize("broken", [0, 1, 2**62 + 1, 2**64 - 1])
async def test_a_counter_that_a_broken_half_has_written_is_not_followed(domain: Domain, broken: int) -> None:
    async with open_domain(domain, CONNECTOR) as node, open_publisher(node, SPEC) as publisher:
        publisher.send(b"a")
        with follow(domain) as followed:
            publisher._counters[SENT] = broken
            assert followed.take() == []
            publisher._counters[SENT] = 1
            publisher.send(b"b")
            assert payloads(followed.take()) == [b"b"]


async def test_an_envelope_that_cant_be_is_counted_and_the_next_one_is_read(domain: Domain) -> None:
    async with open_domain(domain, CONNECTOR) as node, open_publisher(node, SPEC) as publisher:
        with follow(domain) as followed:
            publisher.send(b"a")
            HEADER.pack_into(publisher._memory, publisher._at[1], 1, 0, 0, 2**32 - 1, 0, 0, 0, 0, b"")
            publisher.send(b"b")
            publisher._table[2] = 2**32 - 1
            publisher.send(b"c")
            assert payloads(followed.take()) == [b"c"]
            assert (followed.unreadable, followed.lost) == (1, 1)


@pytest.mark.parametrize(
    ("at", "content"),
    [(0, b"CURSORS9"), (8, b"\xff" * 8), (64, b"[]"), (64, b"{\xff"), (8, bytes(8))],
)
async def test_a_file_that_is_cut_or_of_another_version_is_told(domain: Domain, at: int, content: bytes) -> None:
    async with open_domain(domain, CONNECTOR) as node, open_publisher(node, SPEC):
        [onlooker] = look_at(domain)
        path = onlooker.path
        onlooker.close()
        with path.open("r+b") as file:
            file.seek(at)
            file.write(content)
        with pytest.raises(TransportError, match=r"cursors|another version|can't be read|another size"):
            look_at(domain)


def test_a_domain_that_nobody_owns_is_told(domain: Domain) -> None:
    with pytest.raises(TransportError, match="has no owner"):
        look_at(domain)


async def test_all_that_is_needed_to_follow_stands_in_the_domain(domain: Domain) -> None:
    """The file of cursors says what the deployment declares, whatever its codec is called."""

    class Odd(RawCodec):
        name = "odd, max_payload 3 bytes\n"

    connector = MqttConnector(
        [
            Outbound("out", bytes, MqttRouting("a"), max_payload=70_000, window=7),
            Inbound("in", bytes, MqttRouting("b/#"), max_metadata=20, max_topic=99),
        ],
        codec=Odd(),
        options=MqttOptions(protocol="5"),
    )
    async with open_domain(domain, connector):
        [onlooker] = look_at(domain)
        told, declared = onlooker.spec, trunk_spec(connector)
        onlooker.close()
    assert [codec_of(channel) for channel in told.channels] == [Odd.name, Odd.name]
    assert told.name == declared.name
    for ours, theirs in zip(told.channels, declared.channels, strict=True):
        assert msgspec.structs.replace(ours, counts_deliveries=theirs.counts_deliveries) == theirs
