"""A source that lends: large payloads are read where they lie, and nobody ever sees memory that is another's."""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from taktora_trio import Envelope, RawCodec
from taktora_trio.connectors.plan import trunk_spec
from taktora_trio.transport.cursor import SENT
from taktora_trio.transport.domain import Domain
from taktora_trio.transport.publisher import EnvelopePublisher
from taktora_trio.transport.source import LENT_FROM, PayloadSource, open_source
from taktora_trio.transport.trunk import announce
from tests.transport.rig import declare, open_domain, open_half, open_publisher, open_taking

LARGE = b"large" * LENT_FROM


def mapped(domain: Domain) -> int:
    """The number of writers' memories that this process has."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return sum(f"/{domain.prefix}" in line and ".data" in line for line in lines)


@contextlib.asynccontextmanager
async def open_ends(
    domain: Domain, *, lends: bool = True, max_payload: int = len(LARGE), window: int = 4
) -> AsyncIterator[tuple[PayloadSource, EnvelopePublisher]]:
    """Open a channel of bytes, with the gateway's source and the port that writes."""
    connector, spec = declare(bytes, RawCodec(), max_payload=max_payload, window=window)
    async with (
        open_domain(domain, connector) as node,
        open_half(node, spec, "gateway") as trunk,
        open_publisher(node, spec) as port,
    ):
        with open_source(trunk, spec.name, "t", lends=lends) as source:
            yield source, port


def is_lent(envelope: Envelope) -> bool:
    payload: object = envelope.payload
    return isinstance(payload, memoryview)


async def test_a_large_payload_is_lent_for_reading_and_a_small_one_is_bytes(domain: Domain) -> None:
    async with open_ends(domain) as (source, port):
        for payload in (LARGE, b"s" * (LENT_FROM - 1), b"l" * LENT_FROM):
            assert port.send(payload)
        large, small, least = (source.receive_nowait() for _ in range(3))
        assert (large.payload, small.payload, least.payload) == (
            LARGE,
            b"s" * (LENT_FROM - 1),
            b"l" * LENT_FROM,
        )
        assert [is_lent(envelope) for envelope in (large, small, least)] == [True, False, True]
        with pytest.raises(TypeError, match="read-only"):
            large.payload[0] = 1  # type: ignore[index]
        with pytest.raises(trio.WouldBlock):
            source.receive_nowait()


@pytest.mark.parametrize("lends", [True, False])
async def test_a_count_that_says_too_much_loses_no_message(lends: bool, domain: Domain) -> None:
    async with open_ends(domain, lends=lends) as (source, port):
        assert port.send(LARGE)
        assert source.receive_nowait().payload == LARGE
        port._counters[SENT] = 2  # as a broken half may write
        with pytest.raises(trio.WouldBlock):
            source.receive_nowait()
        assert port.send(b"second")
        assert source.receive_nowait().payload == b"second"


@pytest.mark.parametrize(("max_payload", "lends"), [(len(LARGE), False), (LENT_FROM - 1, True)])
async def test_a_source_that_has_nobody_to_lend_to_or_nothing_large_copies(
    max_payload: int, lends: bool, domain: Domain
) -> None:
    async with open_ends(domain, max_payload=max_payload, lends=lends) as (source, port):
        assert type(source) is PayloadSource
        assert port.send(LARGE[:max_payload])
        assert source.receive_nowait().payload == LARGE[:max_payload]


async def test_a_writer_uses_the_slot_again_when_the_message_is_acknowledged_and_not_before(domain: Domain) -> None:
    async with open_ends(domain, window=1) as (source, port):
        assert port.send(LARGE)
        envelope = source.receive_nowait()
        loan = port.loan(len(LARGE))
        loan.payload[:] = other = b"other" * LENT_FROM
        assert not port.send(other)
        assert not port.send_loan(loan)
        assert envelope.payload == LARGE
        source.acknowledge(envelope.header)
        assert port.send_loan(loan)
        assert source.receive_nowait().payload == other
        port.loan(len(LARGE)).payload[:] = other
        assert envelope.payload == other, "what is read too late shows another message of the same app"


async def test_what_is_lent_of_a_writer_that_is_gone_is_copied_and_its_memory_let_go_of(domain: Domain) -> None:
    connector, spec = declare(bytes, RawCodec(), max_payload=len(LARGE))
    async with open_domain(domain, connector) as node, open_half(node, spec, "gateway") as trunk:
        with open_source(trunk, spec.name, "t", lends=True) as source:
            async with open_publisher(node, spec) as port:
                for _ in range(3):
                    assert port.send(LARGE)
                first, second, third = (source.receive_nowait() for _ in range(3))
                source.acknowledge(first.header)
            kept: memoryview = second.payload  # type: ignore[assignment] # as a connection that is writing it
            announce(node, trunk_spec(connector), "app")
            trunk.update_connections()
            assert (second.payload, third.payload) == (LARGE, LARGE)
            assert [is_lent(envelope) for envelope in (second, third)] == [False, False]
            assert mapped(domain) == 1, "it is still being written"
            async with open_publisher(node, spec) as port:
                assert port.send(b"next" * LENT_FROM)
                source.acknowledge(third.header)
                last = source.receive_nowait()
                assert kept == LARGE
                assert mapped(domain) == 3, "the present writer has its own, and we have it too"
                del first  # what is acknowledged is not copied: nobody is to refer to it
                kept.release()
                assert mapped(domain) == 2
                assert last.payload == b"next" * LENT_FROM


async def test_a_source_that_is_closed_takes_back_what_it_lent(domain: Domain) -> None:
    """Garbage that still refers to it must not keep the memory, nor the reader's place."""
    connector, spec = declare(bytes, RawCodec(), max_payload=len(LARGE))
    async with open_domain(domain, connector) as node, open_publisher(node, spec) as port:
        for _ in range(2):
            async with open_half(node, spec, "gateway") as trunk:
                with open_source(trunk, spec.name, "t", lends=True) as source:
                    if not port.last_sent:
                        assert port.send(LARGE)
                    envelope = source.receive_nowait()
                    assert envelope.payload == LARGE
                with pytest.raises(ValueError, match="released"):
                    bytes(envelope.payload)
                source.acknowledge(envelope.header)  # it comes too late
            assert mapped(domain) == 1, "the writer's own"


async def test_a_view_that_was_forgotten_shows_what_it_showed(domain: Domain) -> None:
    """Nothing that anybody can still refer to was unmapped: else reading it would kill the process."""
    connector, spec = declare(bytes, RawCodec(), max_payload=len(LARGE))
    async with open_domain(domain, connector) as node:
        async with open_half(node, spec, "gateway") as trunk, open_publisher(node, spec) as port:
            with open_source(trunk, spec.name, "t", lends=True) as source:
                assert port.send(LARGE)
                rest = memoryview(source.receive_nowait().payload)[5:]
        assert rest == LARGE[5:]
        assert mapped(domain) == 1
        rest.release()
        assert mapped(domain) == 0


async def test_a_writer_that_changes_what_it_has_sent_changes_no_length(domain: Domain) -> None:
    async with open_ends(domain) as (source, port):
        assert port.send(LARGE)
        envelope = source.receive_nowait()
        at, size = port._at[1], port.spec.envelope_size
        port._memory[at : at + size] = b"\xff" * size
        assert len(envelope.payload) == len(LARGE)
        assert envelope.payload == b"\xff" * len(LARGE)


@pytest.mark.parametrize("seed", range(3))
async def test_what_is_not_acknowledged_is_never_garbled_whoever_is_replaced(seed: int, domain: Domain) -> None:
    """Each payload that was taken, and is not acknowledged, is read again after each step, as for a new connection."""
    rng = random.Random(seed)
    size = LENT_FROM + 16
    connector, spec = declare(bytes, RawCodec(), max_payload=size, window=rng.choice([1, 2, 5]))
    sent = dict[int, bytes]()
    async with open_domain(domain, connector) as node, contextlib.AsyncExitStack() as stack:
        ends = {name: await stack.enter_async_context(contextlib.AsyncExitStack()) for name in ("writer", "reader")}
        port = await ends["writer"].enter_async_context(open_publisher(node, spec))
        source = await ends["reader"].enter_async_context(open_taking(node, spec, "t", lends=True))
        held = list[Envelope]()
        lent = 0
        for _ in range(250):
            payload = rng.randbytes(8) * (rng.choice([size, size - 16, 8]) // 8)
            match rng.choices(["send", "loan", "take", "done", "writer", "reader"], [20, 20, 30, 20, 3, 2])[0]:
                case "send":
                    if number := port.send(payload):
                        sent[number] = payload
                case "loan":
                    loan = port.loan(len(payload))
                    loan.payload[:] = payload
                    if number := port.send_loan(loan):
                        sent[number] = payload
                    else:
                        loan.give_back()
                case "take":
                    with contextlib.suppress(trio.WouldBlock):
                        held.append(source.receive_nowait())
                        lent += is_lent(held[-1])
                case "done" if held:
                    done = rng.randint(1, len(held))
                    source.acknowledge(held[done - 1].header)
                    del held[:done]
                case "writer":
                    await ends["writer"].aclose()
                    port = await ends["writer"].enter_async_context(open_publisher(node, spec))
                case "reader":
                    held.clear()
                    await ends["reader"].aclose()
                    source = await ends["reader"].enter_async_context(open_taking(node, spec, "t", lends=True))
            for envelope in held:
                assert envelope.payload == sent[envelope.header.sequence_number]
    assert lent > 10
