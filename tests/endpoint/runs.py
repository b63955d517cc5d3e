"""Runs that are none: pages and signs of life in a domain that this process holds."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from taktora_trio.operate.endpoint.access import Access
from taktora_trio.operate.endpoint.answers import Answers
from taktora_trio.operate.endpoint.http import Request, Response
from taktora_trio.operate.endpoint.sampling import Sampler
from taktora_trio.transport.domain import Domain
from taktora_trio.transport.pulse import open_pulse
from taktora_trio.vitals.model import Page
from tests.vitals.pages import open_run

__all__ = ["get", "open_living_run", "opened"]


@contextlib.contextmanager
def open_living_run(domain: Domain, *pages: Page) -> Iterator[Callable[[], None]]:
    """Hold a domain, with these pages, as a run that lives. Yields what gives another sign of life."""
    with open_run(domain, *pages), open_pulse(domain, "owner", "plugin", "gateway") as beat:
        yield beat


def opened(
    domain: Domain, token: str | None = None, *, checks_host: bool = True, sampler: Sampler | None = None
) -> Answers:
    """Return what answers for a domain."""
    return Answers(domain, Access(token, checks_host=checks_host), sampler)


async def get(answers: Answers, path: str, method: str = "GET", body: bytes = b"", **headers: str) -> Response:
    """Ask for a path on this machine."""
    given = {"host": "localhost:1", **{name.replace("_", "-"): text for name, text in headers.items()}}
    return await answers(Request(method, path, "", given, body))
