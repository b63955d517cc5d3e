"""An app that works."""

from __future__ import annotations

import sys

from taktora_trio import ConnectorHost, Up
from tests.deployment.lean.deployment import DONE


async def main(host: ConnectorHost) -> None:
    await host.wait_for_health(Up)
    async with host.open_writer(DONE) as done:
        await done.send("done")
    sys.exit(3)
