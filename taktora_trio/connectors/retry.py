"""Retry: the next attempt to connect, as the bridge and a client with several addresses hand it to each other."""

from __future__ import annotations

import attrs

__all__ = ["Retry"]


@attrs.frozen
class Retry:
    """The next attempt."""

    delay: float
    """Seconds until then."""
    reason: str
    """The failure, in words for people."""
    refused: bool
    """True if it will go wrong again until somebody changes something: then the connector is `Down`."""
