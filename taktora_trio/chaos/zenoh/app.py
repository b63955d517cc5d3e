"""The deployment under test: the app's numbers go to whoever takes them, by a Zenoh router, and come back."""

from __future__ import annotations

from taktora_trio.channels import Inbound, Outbound
from taktora_trio.chaos.app import RECONNECT, Numbered, deploy
from taktora_trio.chaos.zenoh.connector import FaultyZenohConnector
from taktora_trio.connectors.zenoh.options import ZenohOptions
from taktora_trio.connectors.zenoh.routing import ZenohRouting

__all__ = ["ECHO_KEY", "LEASE", "NUMBERS_KEY", "deployment"]

LEASE = 2.0  # seconds; less would take a machine that is merely busy for a router that is gone
NUMBERS_KEY, ECHO_KEY = "chaos/numbers", "chaos/echo"
NUMBERS = Outbound("numbers", Numbered, ZenohRouting(NUMBERS_KEY, acknowledged=True), max_payload=128)
ECHO = Inbound("echo", Numbered, ZenohRouting(ECHO_KEY, acknowledged=True), max_payload=128, window=256)

deployment = deploy(
    FaultyZenohConnector(
        [NUMBERS, ECHO],
        options=ZenohOptions(connect_timeout=1.0, drain_timeout=0.5, lease=LEASE, reconnect=RECONNECT),
    ),
    NUMBERS,
    ECHO,
)
