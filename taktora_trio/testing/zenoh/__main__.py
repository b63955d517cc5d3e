"""The router's process: `python -m taktora_trio.testing.zenoh CONFIG` runs one until it is killed."""

from __future__ import annotations

import signal
import sys

import zenoh


def main() -> None:
    """Be a router. What zenoh logs goes to the standard output, from warnings on, or as `RUST_LOG` says."""
    zenoh.init_log_from_env_or("warn")
    try:
        session = zenoh.open(zenoh.Config.from_file(sys.argv[1]))
    except zenoh.ZError as exc:
        sys.exit(f"zenoh can't be a router with {sys.argv[1]}: {exc}")
    with session:
        signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    # Before zenoh starts its threads, which inherit it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    main()
