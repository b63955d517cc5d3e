"""The router's process, `python -m taktora_trio.connectors.zenoh.embedded [PORT or ENDPOINT]`: by default on port 7447
of loopback. Ends at SIGTERM and SIGINT, or with its parent."""

from __future__ import annotations

import json
import os
import select
import signal
import sys

from taktora_trio.connectors.supply import READY
from taktora_trio.processes.child.supervisor_link import inherited_link

_PORT = "7447"


def main(where: str) -> None:
    """Be a router there, until the end."""
    try:
        import zenoh
    except ModuleNotFoundError:
        sys.exit("no router: it needs eclipse-zenoh: pip install 'taktora-trio[zenoh]'")

    endpoint = where if "/" in where else f"tcp/127.0.0.1:{where}"
    told, tell = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(tell)
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda *_: None)
    link = inherited_link()
    config = zenoh.Config()
    for place, value in {
        "mode": "router",
        "listen/endpoints": [endpoint],
        "scouting/multicast/enabled": False,
        "transport/shared_memory/enabled": False,
    }.items():
        config.insert_json5(place, json.dumps(value))
    try:
        session = zenoh.open(config)
    except zenoh.ZError as exc:
        sys.exit(f"no router at {endpoint}: {str(exc).splitlines()[0].split(' at /')[0]}")
    with session:
        line = f"a Zenoh router listens at {endpoint}: --connect {endpoint}\n".encode() if link is None else READY
        os.write(sys.stdout.fileno(), line)
        # Nothing but its end ever comes by the link.
        select.select([told, *([link.fileno()] if link is not None else [])], [], [])


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else _PORT)
