"""What the web page shows: the vitals of a run, once a second, and how its rates went lately.

It is read once for all who look, and kept for as long as the endpoint lives: whoever opens the page sees at once how it
went before. A reader that is slow gets the newest, and not each.
"""

from __future__ import annotations

import operator
import time
from collections.abc import AsyncGenerator
from functools import partial

import msgspec
import trio
from trio_util import AsyncValue

from taktora_trio.errors import ConnectorError
from taktora_trio.operate.endpoint.verdict import Verdict, verdict_of
from taktora_trio.operate.monitoring.tracking import Tracker
from taktora_trio.transport.domain import Domain
from taktora_trio.vitals import ChannelVitals, DomainVitals, read

__all__ = ["Sample", "Sampler"]

_EVERY = 1.0  # seconds
_encode = msgspec.json.Encoder().encode


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """A run at one moment."""

    time: float
    """Unix time in seconds."""
    vitals: DomainVitals | None = None
    verdict: Verdict | None = None
    problem: str = ""
    """Why there are no vitals."""
    messages: dict[str, float] = {}
    """Messages a second of each channel, by `connector/name/direction`."""
    bytes: dict[str, float] = {}
    """Bytes of payload a second."""
    cpu: dict[str, float] = {}
    """The part of a processor that each half takes."""


class Sampler:
    """Reads the vitals again and again."""

    def __init__(self, domain: Domain) -> None:
        self._domain = domain
        self._newest: AsyncValue[Sample] = AsyncValue(Sample(time=time.time(), problem="nothing was read yet"))
        self._tracker = Tracker()

    async def serve(self) -> None:
        """Serve: read once a second. Runs until cancelled."""
        due = trio.current_time()
        while True:
            self._newest.value = self.sample()
            due = max(due + _EVERY, trio.current_time())
            await trio.sleep_until(due)

    async def events(self) -> AsyncGenerator[bytes, None]:
        """Yield server-sent events: first `past`, how the rates went; then `now`, again and again."""
        sample = self._newest.value
        channels = [] if sample.vitals is None else sample.vitals.channels
        yield _event("past", {"messages": {_name(one): list(self._tracker.history(one)) for one in channels}})
        while True:
            yield _event("now", sample)
            sample = await self._newest.wait_value(partial(operator.is_not, sample))

    def sample(self) -> Sample:
        """Return how the run is now, and what went on since the last time."""
        try:
            vitals = read(self._domain)
        except ConnectorError as exc:
            return Sample(time=time.time(), problem=str(exc))
        self._tracker.add(vitals)
        rates = {_name(one): now for one in vitals.channels if (now := self._tracker.now(one)) is not None}
        return Sample(
            time=time.time(),
            vitals=vitals,
            verdict=verdict_of(vitals),
            messages={name: round(one.messages, 2) for name, one in rates.items()},
            bytes={name: round(one.payload_bytes, 1) for name, one in rates.items()},
            cpu={name: round(share, 4) for name, share in self._tracker.cpu.items()},
        )


def _name(channel: ChannelVitals) -> str:
    return f"{channel.connector}/{channel.name}/{channel.direction}"


def _event(name: str, data: object) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), _encode(data))
