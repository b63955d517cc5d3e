"""What `taktora-trio doctor` finds out about a connector's brokers, as a guest: no session, no last will.

steps         one broker: name, tcp, tls (`connectors/examining/`), login, and so on; each only if the one before worked
login         the login, and why it fails
trial         messages that come back, where the operator has asked for them
capabilities  what the broker announces, beside what the channels need: pure
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import trio

from taktora_trio.channels import ChannelDescriptor
from taktora_trio.connectors.finding import Finding, ok
from taktora_trio.connectors.mqtt.diagnosis.steps import examine
from taktora_trio.connectors.mqtt.options import MqttOptions
from taktora_trio.connectors.mqtt.topics import check_topic

__all__ = ["diagnose"]


async def diagnose(
    options: MqttOptions, channels: Sequence[ChannelDescriptor[Any]], trial: str | None = None
) -> list[Finding]:
    """Examine all brokers of a client at once, and return what was found of each in their order.

    Messages are published only to the topic `trial`. Raises `ConfigError` if it is none.
    """
    if trial is not None:
        check_topic(trial)
    if options.session == "memory":
        return [ok("broker", "it is within the process, for tests")]
    found: dict[int, list[Finding]] = {}

    async def examine_one(position: int, one: MqttOptions) -> None:
        found[position] = await examine(one, channels, trial)

    async with trio.open_nursery() as nursery:
        for position, broker in enumerate(options.brokers):
            nursery.start_soon(examine_one, position, options.at(broker))
    return [
        attrs.evolve(finding, subject=str(broker))
        for position, broker in enumerate(options.brokers)
        for finding in found[position]
    ]
