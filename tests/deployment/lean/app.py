"""An app that takes long to import, and needs a package that is not installed."""

from __future__ import annotations

import time

from taktora_trio import ConnectorHost

time.sleep(5)

import a_package_that_is_not_there  # type: ignore[import-not-found]  # noqa: E402


async def main(host: ConnectorHost) -> None:
    a_package_that_is_not_there.use(host)
