"""Runs the app itself, and makes an exit code of its end."""

from __future__ import annotations

from taktora_trio.host.host import ConnectorHost
from taktora_trio.runners.deployment import App
from taktora_trio.runners.this_process.outcome import exit_code

__all__ = ["run_app"]


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
