"""A check before a run starts: something listens at the broker's address."""

from __future__ import annotations

from collections.abc import Sequence

import trio

from taktora_trio.connectors.mqtt.options import BrokerAddress
from taktora_trio.connectors.mqtt.sessions.endpoints import open_socket
from taktora_trio.connectors.sockets import why
from taktora_trio.errors import TemporaryFailure

__all__ = ["check_any_reachable", "check_reachable"]


async def check_any_reachable(brokers: Sequence[BrokerAddress], seconds: float = 3.0) -> None:
    """Raise `TemporaryFailure` unless a connection to one of them can be made. All are tried at once."""
    complaints: list[TemporaryFailure] = []

    async def check(broker: BrokerAddress) -> None:
        try:
            await check_reachable(broker, seconds)
        except TemporaryFailure as exc:
            complaints.append(exc)
        else:
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for broker in brokers:
            nursery.start_soon(check, broker)
    if len(complaints) == len(brokers):
        raise complaints[0] if len(brokers) == 1 else TemporaryFailure("; ".join(map(str, complaints)))


async def check_reachable(broker: BrokerAddress, seconds: float = 3.0) -> None:
    """Raise `TemporaryFailure` unless a connection can be made. It does not log in: health tells how that goes."""
    advice = "check --broker, start the broker, or use --await-broker to start without it"
    try:
        with trio.fail_after(seconds):
            stream = await open_socket(broker)
    except trio.TooSlowError:
        raise TemporaryFailure(f"the broker {broker} does not answer within {seconds:g} s: {advice}") from None
    except (OSError, ValueError) as exc:
        raise TemporaryFailure(f"the broker {broker} can't be reached ({why(exc)}): {advice}") from None
    await stream.aclose()
