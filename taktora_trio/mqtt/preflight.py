"""Before anything is started: is there something at the broker's address?"""

from __future__ import annotations

import os

import trio

from taktora_trio.errors import ConfigError
from taktora_trio.mqtt.options import BrokerAddress

__all__ = ["check_reachable"]


async def check_reachable(broker: BrokerAddress, seconds: float = 3.0) -> None:
    """Raise `ConfigError` unless a TCP connection can be made. Whether MQTT is spoken there, health will tell."""
    advice = "check --broker, start the broker, or use --await-broker to start without it"
    try:
        with trio.fail_after(seconds):
            stream = await trio.open_tcp_stream(broker.host, broker.port)
    except trio.TooSlowError:
        raise ConfigError(f"the broker {broker} does not answer within {seconds:g} s: {advice}") from None
    except OSError as exc:
        cause = exc.__cause__.exceptions[0] if isinstance(exc.__cause__, BaseExceptionGroup) else exc
        number = getattr(cause, "errno", None) or 0
        reason = os.strerror(number) if number > 0 else getattr(cause, "strerror", None) or str(cause)
        raise ConfigError(f"the broker {broker} can't be reached ({reason}): {advice}") from None
    await stream.aclose()
