"""Running the app itself: what it returns, and what it asks for with `sys.exit()`."""

from __future__ import annotations

import sys

from taktora_trio.errors import leaves
from taktora_trio.host.host import ConnectorHost
from taktora_trio.runners.deployment import App

__all__ = ["exit_code", "run_app"]


async def run_app(app: App, host: ConnectorHost) -> int:
    """Await the app, and return the exit code of the run: 0 when it returns, or the one that it gives to `sys.exit()`.

    An exit that the app asks for, in whichever of its tasks, is an end like a return: what it sent last is still
    published. Other exceptions pass through; where some of its tasks fail and another one exits, the failures count.
    """
    code = 0
    try:
        await app(host)
    except* SystemExit as group:
        code = exit_code(group)
    return code


def exit_code(exits: BaseExceptionGroup[SystemExit]) -> int:
    """Return the exit code of a program that ends by these: of the first that is not 0. Prints what is a text.

    As Python does it for one of them: `sys.exit()` means 0, and `sys.exit("text")` prints that and means 1.
    """
    code = 0
    for leaf in leaves(exits):
        asked = leaf.code if isinstance(leaf, SystemExit) else 1
        if asked is not None and not isinstance(asked, int):
            print(asked, file=sys.stderr)  # noqa: T201 - as sys.exit() does
            asked = 1
        code = code or int(asked or 0)
    return code
