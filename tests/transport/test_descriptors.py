"""The descriptors of a channel are known, and an error says that there are too few, wherever they run out."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
from collections.abc import Iterator

import pytest
import trio.testing

from taktora_trio import Inbound, Outbound, RawCodec
from taktora_trio.connectors.gateway import open_connector_gateway
from taktora_trio.connectors.plan import specs_of
from taktora_trio.host.open import open_connector_host
from taktora_trio.transport.descriptors import TooFewDescriptors, check_descriptors
from taktora_trio.transport.domain import Domain
from taktora_trio.transport.node import open_node
from taktora_trio.transport.services import open_services
from taktora_trio.transport.sizing import for_end, for_services
from tests.transport.rig import declare, open_domain, open_publisher, open_subscriber
from tests.transport.test_sizing import connectors_of


@pytest.fixture(autouse=True)
def _collected() -> None:
    """What earlier tests have left to Python's collection of garbage would be closed while descriptors are counted."""
    gc.collect()


def in_use() -> int:
    return len(os.listdir("/proc/self/fd"))


@contextlib.contextmanager
def left(count: int) -> Iterator[None]:
    """So many may still be opened, and no more."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.open(os.devnull, os.O_RDONLY)  # what is free below it counts too
    os.close(lowest_free)
    highest = max(map(int, os.listdir("/proc/self/fd")))
    filled = [os.open(os.devnull, os.O_RDONLY) for _ in range(highest + 1 - in_use())]
    resource.setrlimit(resource.RLIMIT_NOFILE, (in_use() - 1 + count, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for fd in filled:
            os.close(fd)


@pytest.mark.parametrize("gateway_first", [False, True])
async def test_it_takes_as_many_as_is_said(domain: Domain, gateway_first: bool) -> None:
    connectors = connectors_of((4, 100), (4, 100), pairs=3)
    specs = specs_of(connectors)
    with domain.hold("owner", "plugin", "gateway"):
        async with contextlib.AsyncExitStack() as stack:
            node = await stack.enter_async_context(open_node(domain, "test"))
            before = in_use()
            await stack.enter_async_context(open_services(node, specs))
            assert in_use() - before == for_services(specs)
            before, planned = in_use(), 0
            for is_gateway in (gateway_first, not gateway_first):
                if is_gateway:
                    opening = open_connector_gateway(node, connectors, incarnation=1, name="gateway")
                    await stack.enter_async_context(opening)
                else:
                    host = await stack.enter_async_context(open_connector_host(node, connectors))
                    for channel in (channel for connector in connectors for channel in connector.channels):
                        if isinstance(channel, Outbound):
                            await stack.enter_async_context(host.open_writer(channel))
                        elif isinstance(channel, Inbound):
                            await stack.enter_async_context(host.open_reader(channel))
                    await trio.testing.wait_all_tasks_blocked()  # the host opens its end of health by itself
                planned += sum(for_end(spec, "gateway" if is_gateway else "app") for spec in specs)
                assert planned / 2 < in_use() - before <= planned


async def test_wherever_they_run_out_it_is_said_and_nothing_stays_open(domain: Domain) -> None:
    connector, spec = declare(bytes, RawCodec())
    told: list[str] = []

    async def run_out(count: int) -> bool:
        before = in_use()
        try:
            with left(count):
                async with (
                    open_node(domain, "few"),
                    open_publisher(node, spec),
                    open_subscriber(node, spec),
                ):
                    return True
        except TooFewDescriptors as exc:
            told.append(str(exc).partition(" takes ")[0])
        assert in_use() == before
        return False

    async with open_domain(domain, connector) as node:
        assert await run_out(100)  # what is opened once for the process is
        count = 0
        while not await run_out(count):
            count += 1
    assert 20 < count < 60
    assert len(set(told)) > 4, "each time at the same place"


def test_the_number_that_is_needed_is_said() -> None:
    with left(40):
        check_descriptors(5, "a thing")
        used = in_use() - 1
        with pytest.raises(TooFewDescriptors, match=rf"a thing takes about 42, and {used} of {used + 40} are in use"):
            check_descriptors(10, "a thing")
