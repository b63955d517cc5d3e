"""Memories that outlive a gateway: what one has written the next one reads, whoever was killed in between."""

from __future__ import annotations

import pytest

from taktora_trio import JsonCodec
from taktora_trio.transport.domain import Domain
from taktora_trio.transport.lasting import LastingMemory
from tests.transport.rig import declare, open_domain


async def test_the_next_one_finds_what_was_written(domain: Domain) -> None:
    connector, _ = declare(int, JsonCodec())
    async with open_domain(domain, connector) as node:
        first = LastingMemory(node, connector.name)  # never closed: it was killed
        memory, other = first.open("a", 100), first.open("b", 100)
        assert bytes(memory) == bytes(other) == bytes(100)
        memory[99] = 7
        second = LastingMemory(node, connector.name)
        assert [second.open(name, 100)[99] for name in ("a", "b")] == [7, 0]
        assert LastingMemory(node, "another").open("a", 100)[99] == 0
        left = second.open("a", 100)
        second.close()
        with pytest.raises(ValueError, match="released"):
            left[0]
        assert memory[99] == 7, "another's views are another's"
