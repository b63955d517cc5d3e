"""The `run` command: in the process that it was typed in, or in a smaller one that takes its place."""

from __future__ import annotations

import json
import sys

import msgspec

from taktora_trio.errors import ConfigError
from taktora_trio.processes import interpreter
from taktora_trio.runners.command.both import run_both
from taktora_trio.runners.options import RunOptions, Shape, check_seconds
from taktora_trio.runners.this_process.pid1 import leave_pid_1

__all__ = ["launch"]


def launch(run: RunOptions, shape: Shape | None = None) -> int:
    """Run both halves in the shape that was asked for, and return the exit code.

    The split shape replaces this process by a smaller one, and does not return; unless a `shape` is given, which is run
    here instead of the usual `run_in_process` or `run_split`.
    """
    if run.warm and run.mode != "split":
        raise ConfigError("--warm is for --mode split: in one process the gateway starts at once anyway")
    check_seconds(run.seconds)
    if run.mode == "split" and shape is None:
        # ASCII, whatever the locale: what came from a command line may have surrogates, which have no UTF-8.
        options = json.dumps(msgspec.to_builtins(run, enc_hook=str))
        sys.stdout.flush()
        interpreter.become("taktora_trio.runners.command.supervisor", options)
    leave_pid_1()
    return run_both(run, shape)
