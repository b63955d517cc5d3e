from __future__ import annotations

import os

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import memory_stream_pair, wait_all_tasks_blocked

from taktora_trio.processes.lines import read_lines
from tests.processes.children import LONG


async def lines_of(chunks: list[bytes], *, unfinished: bool = True) -> list[bytes]:
    """Return the lines that are read when these chunks are written one after the other."""
    reading, writing = os.pipe()
    lines = []

    async def write() -> None:
        for chunk in chunks:
            os.write(writing, chunk)
            await wait_all_tasks_blocked()
        os.close(writing)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        async with trio.lowlevel.FdStream(reading) as stream:
            async for line in read_lines(stream, unfinished=unfinished):
                lines.append(line)  # noqa: PERF401 - to be seen as they come
    return lines


@settings(deadline=None)
@given(st.lists(st.binary(max_size=12) | st.sampled_from([b"\n", b"a\nb", b"\n\n", b"\r\n", b"\0"]), max_size=8))
def test_however_it_is_cut_the_lines_are_the_same(chunks: list[bytes]) -> None:
    expected = b"".join(chunks).split(b"\n")
    if expected[-1] == b"":
        expected.pop()
    assert trio.run(lines_of, [chunk for chunk in chunks if chunk]) == expected


async def test_a_line_without_an_end_is_cut_and_nothing_is_lost() -> None:
    data = bytes(range(256)).replace(b"\n", b"") * 2000
    with trio.fail_after(LONG):
        lines = await lines_of([data[at : at + 32768] for at in range(0, len(data), 32768)])
    assert len(lines) > 1
    assert b"".join(lines) == data
    assert max(map(len, lines)) <= 2 * 65536


@pytest.mark.parametrize("unfinished", [True, False])
async def test_a_last_line_without_an_end_is_one_if_wanted(unfinished: bool) -> None:
    assert await lines_of([b"a\nb", b"c"], unfinished=unfinished) == [b"a", *([b"bc"] if unfinished else [])]


async def test_a_writer_that_is_gone_ends_the_lines() -> None:
    ours, theirs = memory_stream_pair()
    await theirs.send_all(b"a\nb\n")
    lines = []
    async for line in read_lines(Breaking(ours)):
        lines.append(line)  # noqa: PERF401 - as long as it goes
    assert lines == [b"a", b"b"]


class Breaking(trio.abc.ReceiveStream):
    """A stream that breaks after its first chunk, as a socket does whose peer was killed."""

    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self._stream = stream
        self._broken = False

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        if self._broken:
            raise trio.BrokenResourceError
        self._broken = True
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._stream.aclose()
