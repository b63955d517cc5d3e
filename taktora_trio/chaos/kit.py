"""Kit: all that chaos needs of a protocol. Each package in this folder is a protocol's, and has one in its `kit.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from importlib import import_module
from pathlib import Path

import attrs

from taktora_trio.chaos.subscriber import Subscriber
from taktora_trio.testing.server import Broker

__all__ = ["Kit", "load_kit"]


@attrs.frozen(kw_only=True)
class Kit:
    """The parts that one protocol brings."""

    target: str
    """MODULE:DEPLOYMENT of the deployment under test."""
    reach: Callable[[str], Sequence[str]]
    """Returns the options of `taktora-trio run` by which it reaches the broker at this host and port."""
    check: Callable[[], object]
    """Raises `ConfigError` that says what has to be installed first."""
    open_broker: Callable[[Path], AbstractAsyncContextManager[Broker]]
    """Starts a broker, which may use this folder."""
    open_subscriber: Callable[[int], AbstractAsyncContextManager[Subscriber]]
    """Subscribes to the numbers, at a broker on this port of loopback."""


def load_kit(protocol: str) -> Kit:
    """Import the kit of this protocol, one of `PROTOCOLS`."""
    kit: Kit = import_module(f"{__package__}.{protocol}.kit").KIT
    return kit
