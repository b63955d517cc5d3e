"""KIT: Zenoh's, by a router of its own."""

from __future__ import annotations

from functools import partial

from taktora_trio.chaos.kit import Kit
from taktora_trio.chaos.zenoh.app import LEASE
from taktora_trio.chaos.zenoh.subscriber import open_subscriber
from taktora_trio.testing.zenoh.router import check_installed, open_router

__all__ = ["KIT"]

KIT = Kit(
    target="taktora_trio.chaos.zenoh.app:deployment",
    reach=lambda address: ["--connect", f"tcp/{address}"],
    check=check_installed,
    open_broker=partial(open_router, lease=LEASE),
    open_subscriber=open_subscriber,
)
