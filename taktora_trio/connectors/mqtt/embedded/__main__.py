"""The broker's process, `python -m taktora_trio.connectors.mqtt.embedded PORT`. Ends at SIGTERM, or with its parent."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys

from amqtt.broker import Broker

from taktora_trio.processes.child.supervisor_link import inherited_link


async def main(port: int) -> None:
    end = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, end.set)
    if link := inherited_link():
        loop.add_reader(link.fileno(), end.set)  # nothing but its end ever comes
    broker = Broker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}},
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        }
    )
    await broker.start()
    os.write(sys.stdout.fileno(), b"ready\n")
    await end.wait()


if __name__ == "__main__":
    logging.basicConfig(level=logging.CRITICAL)
    asyncio.run(main(int(sys.argv[1])))
    os._exit(0)  # its sessions are of no use to anybody, and amqtt takes seconds to close them one by one
