"""Commands for a project: its start, its examples, its recordings, and what it withstands."""

from __future__ import annotations

__all__ = ["COMMANDS"]

COMMANDS = {
    "new": (
        "taktora_trio.scaffold.new:new_project",
        """Write a new project: an app, its test, its configuration, a unit for systemd. It runs at once.

    For example:

    taktora-trio new boiler-room && cd boiler-room && taktora-trio run boiler_room:deployment --mode split
    """,
    ),
    "examples": (
        "taktora_trio.scaffold.shipped:show_examples",
        """List the example apps, runner scripts and unit files that come with the package; print one, or copy all.

    For example:

    taktora-trio examples --copy . && taktora-trio run examples.echo:deployment --mode split --broker embedded --for 10
    """,
    ),
    "record": (
        "taktora_trio.recorder.command:record",
        """Record the messages of a deployment that runs, into a file that other tools open too (MCAP, with schemas).

    It looks on: neither half does anything for it, or waits for it. What comes faster than it reads is lost to it, and
    counted. It ends with SIGINT (Ctrl-C), or with the run. Exit code 3 if there is no such run. For example:

    taktora-trio record greenhouse:deployment readings heater -o evening.mcap --for 3600

    Without MODULE:DEPLOYMENT, for which --domain NAME is enough, the file has no schemas of the app's message types.
    """,
    ),
    "replay": (
        "taktora_trio.replay.command:replay",
        """Give an app once more what a recording says that it got, and compare what it sends with what it sent then.

    The app runs in memory, with its gateway, on a clock that jumps over pauses: an hour takes as long as the app
    computes. Exit code 1 if it sends something else, less, or more. For example:

    taktora-trio replay evening.mcap greenhouse:deployment --ignore measured_at
    """,
    ),
    "chaos": (
        "taktora_trio.chaos.command:chaos",
        "Break a deployment in every way, and see what holds.",
    ),
}
