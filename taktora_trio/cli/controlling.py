"""Commands by which an operator asks a run for something."""

from __future__ import annotations

__all__ = ["COMMANDS"]

COMMANDS = {
    "stop": (
        "taktora_trio.operate.control_command:stop",
        """Stop a run in order, or one half of it, from another terminal.

    A gateway publishes what the app has sent, then ends; the app goes on, and what it sends waits. A plugin ends, and
    its gateway keeps its connection; what comes for the app waits. `start` starts a half again. For example:

    taktora-trio stop greenhouse:deployment --half gateway
    """,
    ),
    "start": (
        "taktora_trio.operate.control_command:start",
        """Start a half again that was stopped by `stop`, or a gateway that was given up; by default whatever rests.

    For example: taktora-trio start greenhouse:deployment --half gateway
    """,
    ),
    "restart": (
        "taktora_trio.operate.control_command:restart",
        """Restart a half, or both: the app ends first and starts last.

    A plugin that is restarted has the code that is there then, while its gateway stays connected. For example:

    taktora-trio restart greenhouse:deployment --half plugin
    """,
    ),
    "revive": (
        "taktora_trio.operate.control_command:revive",
        "Have a gateway started again that was given up, or have it connect at once instead of after its delay.",
    ),
    "reload": (
        "taktora_trio.operate.control_command:reload",
        """Have a run read its configuration again: it replaces its gateway, and the app goes on.

    If the new gateway is not `Up` within the run's --reload-timeout, it goes back to the configuration before: exit
    code 1. A configuration that can't be read, or is wrong, touches nothing: exit code 2.
    """,
    ),
    "log-level": (
        "taktora_trio.operate.control_command:log_level",
        """Have a run log more or less from now on, until it ends.

    For example: taktora-trio log-level debug greenhouse:deployment --half gateway
    """,
    ),
}
