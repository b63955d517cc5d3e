"""The `taktora-trio` command: parsing and help. `runners/command`, `operate` and others do the work.

parsing       from a command line to its command
command       the command itself, with what runs a deployment: `run`, `plugin`, `gateway`; `forget`, `completion`
controlling   help of the commands that ask a run for something
monitoring    help of those that look at a run, or at what it needs
describing    help of those that show what a deployment is
developing    help of those for a project: its start, its recordings, what it withstands
dead_letters  help of `dead-letters ...`

A command imports its own part when it is called: a gateway that starts again needs none of the others'.
"""

from taktora_trio.cli.command import app as app
from taktora_trio.cli.parsing import main as main
from taktora_trio.cli.parsing import parse as parse

__all__ = ["app", "main", "parse"]
