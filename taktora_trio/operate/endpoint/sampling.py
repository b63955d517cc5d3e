"""What the web page shows: the vitals of a run, once a second, and how its rates went lately.

It is read once for all who look, and kept for as long as the endpoint lives: whoever opens the page sees at once how it
went before. A reader that is slow gets the newest, and not each.
"""

from __future__ import annotations

import operator
import time
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from functools import partial

import msgspec
import trio
from trio_util import AsyncValue

from taktora_trio.errors import ConnectorError
from taktora_trio.operate.endpoint.verdict import Verdict, verdict_of
from taktora_trio.transport.domain import Domain
from taktora_trio.vitals import DomainVitals, rates, read

__all__ = ["Sample", "Sampler"]

_EVERY = 1.0  # seconds
_KEPT = 120  # samples
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
        self._past: deque[Sample] = deque(maxlen=_KEPT)

    async def serve(self) -> None:
        """Serve: read once a second. Runs until cancelled."""
        due = trio.current_time()
        before: DomainVitals | None = None
        while True:
            sample = self.sample_now(before)
            before = sample.vitals
            self._past.append(sample)
            self._newest.value = sample
            due = max(due + _EVERY, trio.current_time())
            await trio.sleep_until(due)

    async def events(self) -> AsyncGenerator[bytes, None]:
        """Yield server-sent events: first `past`, how the rates went; then `now`, again and again."""
        yield _event("past", {"messages": _series(sample.messages for sample in self._past)})
        sample = self._newest.value
        while True:
            yield _event("now", sample)
            sample = await self._newest.wait_value(partial(operator.is_not, sample))

    def sample_now(self, before: DomainVitals | None = None) -> Sample:
        """Return how the run is now; with what was read before, its rates, too."""
        try:
            vitals = read(self._domain)
        except ConnectorError as exc:
            return Sample(time=time.time(), problem=str(exc))
        if before is None:
            return Sample(time=time.time(), vitals=vitals, verdict=verdict_of(vitals))
        between = rates(before, vitals)
        return Sample(
            time=time.time(),
            vitals=vitals,
            verdict=verdict_of(vitals),
            messages={"/".join(key): round(one.messages, 2) for key, one in between.channels.items()},
            bytes={"/".join(key): round(one.bytes, 1) for key, one in between.channels.items()},
            cpu={name: round(one.cpu, 4) for name, one in between.halves.items()},
        )


def _series(samples: Iterable[dict[str, float]]) -> dict[str, list[float | None]]:
    """Return the values of each key, one for each sample; `None` where a sample has none."""
    listed = list(samples)
    names = sorted({name for one in listed for name in one})
    return {name: [one.get(name) for one in listed] for name in names}


def _event(name: str, data: object) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), _encode(data))
