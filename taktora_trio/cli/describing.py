"""Commands that show what a deployment is, without a run of it."""

from __future__ import annotations

__all__ = ["COMMANDS"]

COMMANDS = {
    "plan": (
        "taktora_trio.operate.planning_command:plan",
        "Show the shared memory that each channel will take, what is free, and where the store is.",
    ),
    "explain-policy": (
        "taktora_trio.operate.planning_command:explain_policy",
        "Show what a restart policy comes to: its delays, when it gives up, the worst hour."
        " Refuse one that can't work.",
    ),
    "config": (
        "taktora_trio.operate.config_command:show_config",
        """Show what a run is configured to be, and where each value came from: the default, file and line, a variable,
    or an option. Secrets are masked. It checks what a run would check before it starts anything.

    Give the options that the run has. To begin with a file of your own:

    taktora-trio config greenhouse:deployment --example > taktora.toml
    """,
    ),
    "channels": (
        "taktora_trio.declare.command:list_channels",
        """Show the channels of a deployment: topics, message types, and how much each carries.

    For example:

    taktora-trio channels greenhouse:deployment
    """,
    ),
    "asyncapi": (
        "taktora_trio.declare.command:write_asyncapi",
        """Describe the channels of a deployment for others, as an AsyncAPI 3 document; or say what has changed in it.

    Topics, message schemas, how messages are sent, and limits. For example, to write it, and to have a change that
    breaks others fail later on:

    taktora-trio asyncapi greenhouse:deployment --output asyncapi.yaml

    taktora-trio asyncapi greenhouse:deployment --against asyncapi.yaml

    With both options the file is written anew if nothing that has changed breaks others.
    """,
    ),
}
