"""A warning about names that the other side may not know again."""

from __future__ import annotations

import logging

from taktora_trio.runners.deployment import Deployment
from taktora_trio.transport.machine import what_passes

__all__ = ["warn_of_names_that_pass"]

log = logging.getLogger(__name__)


def warn_of_names_that_pass(deployment: Deployment) -> None:
    """Log a warning for each connector that is known on the other side by a name which the next start may not have."""
    origin = what_passes()
    for connector in deployment.connectors if origin else ():
        if warning := connector.warning_of_passing_name(origin or ""):
            log.warning("%s: %s", connector.name, warning)
