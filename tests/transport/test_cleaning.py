"""Places of killed processes come free, also if who frees them is killed at it."""

from __future__ import annotations

import signal
import subprocess
import sys

import trio

from taktora_trio import RawCodec
from taktora_trio.transport.cleaning import clean_up_dead_nodes
from taktora_trio.transport.domain import Domain
from tests.transport.rig import declare, open_domain, open_publisher, open_subscriber, take_all

_KILLED = """
import os, signal, sys
from pathlib import Path
import trio
from taktora_trio import RawCodec
from taktora_trio.transport import cleaning
from taktora_trio.transport.domain import Domain
from taktora_trio.transport.node import open_node
from tests.transport.rig import declare, open_publisher, open_subscriber

domain = Domain(sys.argv[2])
clean_up = cleaning._clean_up

class Cleaner:
    '''Is killed where it has removed tags, and has not yet freed the places.'''

    def __init__(self, node):
        self.config = node.config

    def try_cleanup_dead_nodes(self):
        for tag in (domain.root / "nodes").glob("*/*.port_tag"):
            tag.unlink()
        os.kill(os.getpid(), signal.SIGKILL)

async def hold():
    connector, spec = declare(bytes, RawCodec())
    async with open_node(domain, "killed") as node:
        async with open_publisher(node, spec), open_subscriber(node, spec):
            os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[1] == "cleaner":
    cleaning._clean_up = lambda node: clean_up(Cleaner(node))
with domain.hold("gateway"):
    trio.run(hold)
"""


async def _killed(what: str, domain: Domain) -> None:
    command = [sys.executable, "-c", _KILLED, what, domain.name]
    done = await trio.run_process(command, check=False, capture_stderr=True, stdin=subprocess.DEVNULL)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


async def test_the_places_of_a_killed_process_come_free_though_its_cleaners_are_killed(domain: Domain) -> None:
    connector, spec = declare(bytes, RawCodec())
    async with open_domain(domain, connector) as node:
        await _killed("holder", domain)
        for _ in range(2):
            await _killed("cleaner", domain)
        async with open_publisher(node, spec) as port, open_subscriber(node, spec) as reader:
            assert port.send(b"through")
            assert list(take_all(reader)) == [(1, b"through")]
        await clean_up_dead_nodes(node.iox)
        assert list((domain.root / "kept").iterdir()) == []
