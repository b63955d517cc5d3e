"""Whether the broker will know the gateway again."""

from __future__ import annotations

import logging

from taktora_trio.runners.deployment import Deployment
from taktora_trio.transport.machine import what_passes

__all__ = ["warn_of_names_that_pass"]

log = logging.getLogger(__name__)


def warn_of_names_that_pass(deployment: Deployment) -> None:
    """Log a warning for each session that is to last by a name that may not."""
    passes = what_passes()
    for connector in deployment.named_by_the_machine() if passes else ():
        log.warning(
            "%s: its client id is made of %s, which may be another one at the next start: the broker then takes it for"
            " another client, and keeps from it the messages that wait for this one; give a client id that stays, by"
            " --client-id ID or MqttOptions(client_id=...)",
            connector,
            passes,
        )
