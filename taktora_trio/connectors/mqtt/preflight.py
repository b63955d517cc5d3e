"""A check before a run starts: something listens at the broker's address."""

from __future__ import annotations

import trio

from taktora_trio.connectors.mqtt.options import BrokerAddress
from taktora_trio.connectors.mqtt.sessions.endpoints import open_socket
from taktora_trio.connectors.mqtt.sessions.streams import why
from taktora_trio.errors import ConfigError

__all__ = ["check_reachable"]


async def check_reachable(broker: BrokerAddress, seconds: float = 3.0) -> None:
    """Raise `ConfigError` unless a connection can be made. It does not log in: health tells how that goes."""
    advice = "check --broker, start the broker, or use --await-broker to start without it"
    try:
        with trio.fail_after(seconds):
            stream = await open_socket(broker)
    except trio.TooSlowError:
        raise ConfigError(f"the broker {broker} does not answer within {seconds:g} s: {advice}") from None
    except (OSError, ValueError) as exc:
        raise ConfigError(f"the broker {broker} can't be reached ({why(exc)}): {advice}") from None
    await stream.aclose()
