"""What latched channels, recovery and acknowledgement cost, beside messages at most once.

python -m benchmarks.zenoh.kinds [--quick]

Two gateways' halves of the connector in this process, without shared memory, and a router. Messages go
from the one to the other. The CPU time of this process is that of both, with the library's. All in turn, several times:
the best counts.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import trio

from benchmarks.report import grid, machine
from taktora_trio import Inbound, Outbound, RawCodec, ZenohConnector, ZenohOptions, ZenohRouting
from taktora_trio.testing.driver import Driver
from taktora_trio.testing.zenoh.router import open_router

__all__ = ["main"]

KINDS = {
    "at most once": ZenohRouting("plant/7/state"),
    "latched": ZenohRouting("plant/7/state", latched=True),
    "recover=1000": ZenohRouting("plant/7/state", recover=1000),
    "acknowledged": ZenohRouting("plant/7/state", acknowledged=True),
}
_WINDOW = 256  # messages that are on their way
_MESSAGE = 100 * b"x"
_SETTLED = 0.3  # seconds until the one has asked what the other keeps


async def flood(endpoint: str, routing: ZenohRouting, count: int) -> tuple[float, float]:
    """Return the CPU time in microseconds of a message, and how many came in a second."""
    options = ZenohOptions(connect=endpoint)
    sends = Driver(ZenohConnector([Outbound("out", bytes, routing)], options=options, codec=RawCodec()), "sends")
    receives = Driver(ZenohConnector([Inbound("in", bytes, routing)], options=options, codec=RawCodec()), "receives")
    async with receives.connected() as receiving, sends.connected() as sending:
        await trio.sleep(_SETTLED)
        done = 0
        for amount in (_WINDOW, count):
            began, cpu = time.perf_counter(), time.process_time()
            for _ in range(amount // _WINDOW):
                sends.publish(sending, "out", sends.envelopes("out", *[_MESSAGE] * _WINDOW))
                for message in await receives.take(_WINDOW):
                    if message.reliable:
                        receiving.acknowledge(message)
                done += _WINDOW
                await sends.until_done(done)
        return 1e6 * (time.process_time() - cpu) / count, count / (time.perf_counter() - began)


async def measure(rounds: int, count: int) -> dict[str, tuple[float, float]]:
    best = dict.fromkeys(KINDS, (float("inf"), 0.0))
    with tempfile.TemporaryDirectory() as folder:
        async with open_router(Path(folder)) as router:
            for _ in range(rounds):
                for kind, routing in KINDS.items():
                    cpu, speed = await flood(router.endpoint, routing, count)
                    best[kind] = min(cpu, best[kind][0]), max(speed, best[kind][1])
    return best


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few messages: to see whether it works")
    quick = parser.parse_args().quick
    best = trio.run(measure, 1 if quick else 5, _WINDOW * (8 if quick else 100))
    plain = best["at most once"][0]
    rows = [("100 B", "CPU us a message, both ends", "messages a second", "CPU, at most once = 1")]
    rows += [(kind, f"{cpu:.1f}", f"{speed:,.0f}", f"{cpu / plain:.2f}") for kind, (cpu, speed) in best.items()]
    sys.stdout.write(f"{machine('eclipse-zenoh')}\n\n{grid(rows)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
