"""The supervisor's own program, without the command-line parser.

A supervisor lives as long as its halves, so it should be small: `taktora-trio run --mode split` replaces itself by
`python -m taktora_trio.runners.command.supervisor OPTIONS`.
"""

from __future__ import annotations

import json
import sys

from taktora_trio import lean as lean  # before any other library is imported

# isort: split
import msgspec

from taktora_trio.processes.interpreter import become_interruptible
from taktora_trio.runners.command.both import run_both
from taktora_trio.runners.options import RunOptions
from taktora_trio.runners.this_process.outcome import call
from taktora_trio.runners.this_process.surroundings import settle


def _run() -> int:
    become_interruptible()
    settle()
    options = msgspec.convert(json.loads(sys.argv[1]), RunOptions, dec_hook=lambda kind, text: kind(text))
    return run_both(options)


if __name__ == "__main__":
    sys.exit(call(_run))
