"""A warning about temporary names: after the next start the other side does not know the gateway by them."""

from __future__ import annotations

import logging

from taktora_trio.runners.deployment import Deployment
from taktora_trio.transport.machine import temporary_origin

__all__ = ["warn_of_temporary_names"]

log = logging.getLogger(__name__)


def warn_of_temporary_names(deployment: Deployment) -> None:
    """Log a warning for each connector that is known on the other side by a name that the next start may not have."""
    origin = temporary_origin()
    for connector in deployment.connectors if origin else ():
        if warning := connector.warning_of_temporary_name(origin or ""):
            log.warning(
                "%s: %s", connector.name, warning, extra={"event": "name-temporary", "connector": connector.name}
            )
