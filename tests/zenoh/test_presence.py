"""Liveliness tokens: our own says that we are there, and those of others are told when they come and go."""

from __future__ import annotations

import signal
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast

import attrs
import pytest
import trio
import trio.testing

from taktora_trio import (
    Client,
    ConfigError,
    GatewayChannels,
    Inbound,
    Incoming,
    MsgpackCodec,
    RawCodec,
    ZenohConnector,
    ZenohOptions,
    ZenohRouting,
)
from taktora_trio.connectors.zenoh.lasting.kept_pairs import memory_for
from taktora_trio.connectors.zenoh.lasting.presence import WatchedTokens
from taktora_trio.connectors.zenoh.memory.network import MemoryNetwork
from taktora_trio.connectors.zenoh.metadata import Carrier
from taktora_trio.connectors.zenoh.nodes import open_node
from taktora_trio.connectors.zenoh.session import Sample, Session
from taktora_trio.executor import Executor
from taktora_trio.health import HealthBoard
from taktora_trio.testing.driver import Driver
from taktora_trio.testing.zenoh.router import ZenohRouter
from tests.zenoh.hearing import Heard

WATCHER = Inbound("there", bool, ZenohRouting("here/**", liveliness=True))


def driver(network: ZenohOptions, *channels: Any, name: str = "gateway") -> Driver:
    return Driver(ZenohConnector(channels or [WATCHER], options=network), name)


@asynccontextmanager
async def joined(network: ZenohOptions, *tokens: str) -> AsyncIterator[Session]:
    """Somebody else, with tokens."""
    async with open_node(network) as node:
        await node.wait_until_linked()
        async with node.open_session() as session:
            for token in tokens:
                await session.token(token)
            yield session


async def stay(
    network: ZenohOptions, *tokens: str, task_status: trio.TaskStatus[trio.Event] = trio.TASK_STATUS_IGNORED
) -> None:
    """Be somebody else until the event is set."""
    async with joined(network, *tokens):
        leave = trio.Event()
        task_status.started(leave)
        await leave.wait()


async def told(driver: Driver, count: int = 1) -> list[tuple[str, bytes]]:
    return [(message.topic, message.payload) for message in await driver.take(count)]


async def test_tokens_are_told_when_they_come_and_go_also_those_that_were_there(network: ZenohOptions) -> None:
    watches = driver(network)
    async with trio.open_nursery() as nursery:
        leave = await nursery.start(stay, network, "here/a/b", "elsewhere")
        async with watches.connected():
            assert await told(watches) == [("here/a/b", b"true")]
            async with joined(network, "here/c"):
                assert await told(watches) == [("here/c", b"true")]
            assert await told(watches) == [("here/c", b"false")]
            leave.set()
            assert await told(watches) == [("here/a/b", b"false")]


async def test_others_see_our_own_token_while_we_are_connected(network: ZenohOptions) -> None:
    present = attrs.evolve(network, presence="here/{name}")
    ours, tokens = driver(present, name="deployment/zenoh"), Heard[Sample]()
    async with joined(network) as session:
        await session.watch_tokens("here/*", tokens)
        async with ours.connected():
            assert await tokens.next() == Sample("here/deployment_zenoh", b"")
        assert await tokens.next() == Sample("here/deployment_zenoh", b"", is_delete=True)
        for silent in (driver(attrs.evolve(network, presence=None)), driver(present, name="")):
            async with silent.connected():
                pass
        async with ours.connected():
            assert await tokens.next() == Sample("here/deployment_zenoh", b"")
            assert tokens.count == 3


async def test_a_loss_of_our_own_connection_says_nothing_of_others(network: ZenohOptions) -> None:
    watches = driver(attrs.evolve(network, lease=0.3))
    async with joined(network, "here/stays"):
        async with joined(network, "here/goes"), watches.connected():
            assert sorted(await told(watches, 2)) == [("here/goes", b"true"), ("here/stays", b"true")]
        async with watches.connected():
            assert await told(watches) == [("here/goes", b"false")]
            async with joined(network, "here/new"):
                assert await told(watches) == [("here/new", b"true")]


async def test_in_memory_a_cut_line_ends_no_token_of_others(autojump_clock: trio.testing.MockClock) -> None:
    ours, theirs = (ZenohOptions(session="memory", connect=f"tcp/{uuid.uuid4().hex}:7447") for _ in range(2))
    line, watches = MemoryNetwork.line_at(ours.places), driver(ours)
    MemoryNetwork.lay_line(theirs.places, line.network)
    async with joined(theirs, "here/them"):
        async with watches.connected() as connection:
            assert await told(watches) == [("here/them", b"true")]
            line.cut()
            await watches.lost(connection)
            await trio.sleep(100)
        async with watches.connected():
            await trio.sleep(100)
    assert watches.waiting == 0
    MemoryNetwork.forget(ours.places)
    MemoryNetwork.forget(theirs.places)


class Watching:
    """A session that tells of tokens when the test says so."""

    def __init__(self) -> None:
        self.tell: Any = None

    async def watch_tokens(self, key: str, on_token: Any) -> None:
        self.tell = on_token


async def test_tokens_that_end_with_our_own_connection_have_not_gone(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """As by the library: all tokens end, and then the connection is lost."""
    heard, session = Heard[Incoming](), cast(Any, Watching())
    tokens = WatchedTokens(["here/*"], (b"0", b"1"), memoryview(bytearray(memory_for(1000))), 10.0, heard)
    for _ in range(2):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tokens.serve)
            await trio.sleep(1)
            await tokens.start(session)
            session.tell(Sample("here/it", b""))
            await trio.sleep(100)
            session.tell(Sample("here/it", b"", is_delete=True))
            await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
        await trio.sleep(100)
    assert [(message.topic, message.payload) for message in heard.all] == [("here/it", b"1")]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tokens.serve)
        await tokens.start(session)
        await trio.sleep(9)
        assert heard.count == 1
        await trio.sleep(2)
        assert heard.all[-1].payload == b"0"
        nursery.cancel_scope.cancel()


async def test_a_gateway_after_one_that_was_killed_tells_who_went_meanwhile(network: ZenohOptions) -> None:
    """What the app was not done with is told again."""
    memories: dict[str, bytearray] = {}
    watches = driver(attrs.evolve(network, lease=0.3))

    def memory(name: str, size: int) -> memoryview:
        return memoryview(memories.setdefault(name, bytearray(size)))

    def client() -> Client:
        channels = GatewayChannels({}, {}, Executor(), HealthBoard(["zenoh"]), "gateway", memory)
        return watches.connector.client(channels, watches._came)

    async with trio.open_nursery() as nursery, joined(network, "here/stays"):
        leave = await nursery.start(stay, network, "here/done", "here/not done")
        watches.client = client()
        async with watches.connected() as connection:
            for message in await watches.take(3):
                if message.topic != "here/not done":
                    connection.acknowledge(message)
        leave.set()
        watches.client = client()
        async with watches.connected(), joined(network, "here/not done"):
            assert sorted(await told(watches, 2)) == [("here/done", b"false"), ("here/not done", b"true")]


def test_a_watcher_has_true_and_false_alone() -> None:
    with pytest.raises(ConfigError, match="declare it as bool"):
        ZenohConnector([Inbound("there", int, WATCHER.routing)])
    with pytest.raises(ConfigError, match="'there' and 'in': their keys overlap"):
        ZenohConnector([WATCHER, Inbound("in", bool, ZenohRouting("here/*"))])
    for codec in (MsgpackCodec(), RawCodec()):
        kind = bytes if isinstance(codec, RawCodec) else bool
        decode = codec.decoder(kind)
        ZenohConnector([Inbound("there", kind, WATCHER.routing)], codec=codec)
        assert [decode(payload) for payload in Carrier(codec).truths] == (
            [b"false", b"true"] if kind is bytes else [False, True]
        )


@pytest.mark.parametrize("presence", ["", "here/*", "a//b", 3])
def test_a_key_of_presence_that_is_none_is_refused(presence: Any) -> None:
    with pytest.raises(ConfigError, match="presence"):
        ZenohOptions(presence=presence)


_OTHER = """
import sys, signal, zenoh
config = zenoh.Config()
config.insert_json5("mode", '"client"')
config.insert_json5("connect/endpoints", f'["{sys.argv[1]}"]')
config.insert_json5("transport/link/tx/lease", "500")
config.insert_json5("transport/shared_memory/enabled", "false")  # its file in /dev/shm would stay when it is killed
session = zenoh.open(config)
token = session.liveliness().declare_token("here/process")
signal.pause()
"""


@pytest.mark.zenoh
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hangs"])
async def test_a_process_that_is_killed_or_hangs_is_told_to_be_gone(router: ZenohRouter, end: signal.Signals) -> None:
    watches = driver(ZenohOptions(connect=router.endpoint))
    async with watches.connected(), trio.open_nursery() as nursery:
        command = [sys.executable, "-c", _OTHER, router.endpoint]
        process = await nursery.start(partial(trio.run_process, command, check=False))
        assert await told(watches) == [("here/process", b"true")]
        process.send_signal(end)
        assert await told(watches) == [("here/process", b"false")]
        process.kill()


@pytest.mark.zenoh
async def test_while_the_router_is_away_nobody_is_told_to_be_gone(router: ZenohRouter) -> None:
    """All tokens end just before our own connection does. Who comes back with the router has not gone."""
    options = ZenohOptions(connect=router.endpoint, lease=1.0)
    watches = driver(options)
    async with joined(options, "here/comes back", "here/stays away") as session:
        async with watches.connected() as connection:
            await told(watches, 2)
            await router.stop(signal.SIGKILL)
            await watches.lost(connection)
        await session.wait_until_lost()
    assert watches.waiting == 0
    await router.start()
    async with joined(options, "here/comes back"), watches.connected():
        assert await told(watches) == [("here/stays away", b"false")]
    assert watches.waiting == 0
