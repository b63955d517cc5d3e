"""Commands that look at a run from outside, and at what it needs."""

from __future__ import annotations

__all__ = ["COMMANDS"]

COMMANDS = {
    "status": (
        "taktora_trio.operate.monitoring.status_command:status",
        """Show a run as it is now: both halves, connectors, channels, the last changes of health.

    Exit code 0 if all is well; 1 if a half is gone, hangs or is stopped, or a connector is Down; 3 if there is no such
    run. It reads what the halves write into shared memory once a second, and asks them nothing. For example:

    taktora-trio status --domain greenhouse
    """,
    ),
    "ps": (
        "taktora_trio.operate.monitoring.status_command:ps",
        """List all runs of this user, and what killed ones have left, a line each.

    For example, the domains whose runs are not well:

    taktora-trio ps --json | jq -r '.[] | select(.is_well | not) | .domain'
    """,
    ),
    "top": (
        "taktora_trio.operate.monitoring.live_commands:top",
        """Show a run live: both halves, connectors, the rates of all channels, the last changes of health.

    q quits, the arrows scroll. It reads what the halves write into shared memory once a second, and asks them nothing,
    so it shows one that hangs, too. Without a terminal it prints one frame after the other.

    Say which run by MODULE:DEPLOYMENT or --domain NAME, if there are several. For example:

    taktora-trio top greenhouse:deployment
    """,
    ),
    "hz": (
        "taktora_trio.operate.monitoring.live_commands:hz",
        """Show how often messages come: the rate of each channel, and the times from one message to the next.

    Jitter is the standard deviation of these times. Exit code 1 if no message came at all. For example, for ten
    seconds:

    taktora-trio hz readings --for 10
    """,
    ),
    "echo": (
        "taktora_trio.operate.monitoring.live_commands:echo",
        """Show the messages of channels as they pass by, decoded, in both directions.

    It reads the memory that the halves use anyway, so it disturbs nobody and takes no message from anyone. What comes
    faster than it is read here is counted. For example:

    taktora-trio echo readings --count 3
    """,
    ),
    "logs": (
        "taktora_trio.operate.logs_command:logs",
        """Show the latest log lines of a run, wherever its output goes; also of one that was killed.

    Each process keeps its last few hundred lines in shared memory, and nobody is asked for them. For example:

    taktora-trio logs greenhouse:deployment --half gateway --since 10m --follow

    taktora-trio logs --event restarting --event given-up --json
    """,
    ),
    "healthcheck": (
        "taktora_trio.operate.healthcheck_command:healthcheck",
        """Say whether a run lives, or with --ready whether it works: for the probes of a container.

    Exit code 1 if a half is gone, hangs or is stopped, or with --ready if messages can't pass; 3 if there is no run.
    For example, as a liveness and as a readiness probe:

    taktora-trio healthcheck --domain greenhouse

    taktora-trio healthcheck --domain greenhouse --ready
    """,
    ),
    "endpoint": (
        "taktora_trio.operate.endpoint.command:serve_endpoint",
        """Serve probes, metrics and, with --endpoint-page, a web page, for a run that is there already.

    `run --endpoint ADDRESS` does that by itself; this is for halves that something else supervises. It goes on when the
    run ends, and says so to whoever asks. For example:

    taktora-trio endpoint --domain greenhouse --endpoint 127.0.0.1:9464 --endpoint-page
    """,
    ),
    "doctor": (
        "taktora_trio.operate.doctor.command:doctor",
        """Find out why a run does not work, or would not: look at all that it needs, and say what to do.

    Python, libraries, shared memory, limits, clock; with a deployment also its peers (name, TCP, TLS, login, what
    they announce) and its disk. It changes nothing, and a run may go on meanwhile. Give the options that the run has.
    Exit code 1 if something fails. For example:

    taktora-trio doctor greenhouse:deployment
    """,
    ),
}
