"""Kit: all that chaos needs of a protocol. Each package in this folder is a protocol's, and has one in its `kit.py`."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
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
    scheme: str
    """The scheme of the URL that it connects to."""
    check: Callable[[], object]
    """Raises `ConfigError` that says what has to be installed first."""
    open_broker: Callable[[Path], AbstractAsyncContextManager[Broker]]
    """Starts a broker, which may use this folder."""
    open_subscriber: Callable[[int], AbstractAsyncContextManager[Subscriber]]
    """Subscribes to the numbers, at a broker on this port of loopback."""


def load_kit() -> Kit:
    """Import the kit of the protocol there is."""
    folder = Path(__file__).parent
    [protocol] = [module.name for module in pkgutil.iter_modules([str(folder)]) if module.ispkg]
    kit: Kit = import_module(f"{__package__}.{protocol}.kit").KIT
    return kit
