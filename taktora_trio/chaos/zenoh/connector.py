"""FaultyZenohConnector: Zenoh's connector, made to fail on demand."""

from __future__ import annotations

from taktora_trio.chaos.faulty import Faulty
from taktora_trio.connectors.zenoh.connector import ZenohConnector

__all__ = ["FaultyZenohConnector"]


class FaultyZenohConnector(Faulty, ZenohConnector):
    """A `ZenohConnector` whose gateway half fails on demand."""
