"""The output of both halves: line by line through the supervisor, with its own log, each line whole and in order."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from functools import partial

from taktora_trio.processes.parent.output import Stream, open_writer
from taktora_trio.processes.parent.tags import TAGS, TAGS_OF_JOURNAL
from taktora_trio.runners.this_process.log_formats import LogFormat, goes_to_journal
from taktora_trio.runners.this_process.logs import logging_to

__all__ = ["open_relayed_output"]


@contextlib.asynccontextmanager
async def open_relayed_output(log_format: LogFormat) -> AsyncIterator[Callable[[str, Stream, bytes], None]]:
    """Yield a function that prints a line of a half: called with its name, the stream, and the line.

    The log of this process goes the same way.
    """
    tag = (TAGS_OF_JOURNAL if goes_to_journal(2) else TAGS)[log_format]
    async with (
        open_writer(1, partial(tag, "supervisor", "stdout")) as stdout,
        open_writer(2, partial(tag, "supervisor", "stderr")) as stderr,
    ):
        streams = {"stdout": stdout, "stderr": stderr}

        def write(name: str, stream: Stream, line: bytes) -> None:
            streams[stream].write(tag(name, stream, line))

        with logging_to(partial(write, "supervisor", "stderr"), log_format, "supervisor"):
            yield write
