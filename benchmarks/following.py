"""What a follower costs the halves: `python -m benchmarks.following`.

A writer and a reader, as two halves have them, pass messages of 100 bytes through one channel, as fast as they can and
at fixed rates; in turns with nobody who looks on, and with `taktora-trio record` beside them. What counts is the
processor time of a message in the halves. A follower takes a processor of its own, and its share of the caches.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import trio

from taktora_trio import Deployment, MqttConnector, MqttRouting, Outbound, RawCodec
from taktora_trio.connectors.plan import specs_of, trunk_spec
from taktora_trio.recorder.reading import look_into
from taktora_trio.transport.domain import Domain
from taktora_trio.transport.node import open_node
from taktora_trio.transport.services import open_services
from taktora_trio.transport.subscriber import EnvelopeSubscriber
from taktora_trio.transport.trunk import open_trunk

PAYLOAD = bytes(100)
WINDOW = 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(f"{options.messages} messages of {len(PAYLOAD)} bytes, window {WINDOW}, {options.rounds} rounds by turns")
    for rate in (None, 50_000, 5_000):
        messages = options.messages if rate is None else min(options.messages, 2 * rate)
        alone, followed, lost = [], [], []
        for _ in range(options.rounds):
            alone.append(trio.run(measure, messages, rate, False)[0])
            cost, share = trio.run(measure, messages, rate, True)
            followed.append(cost)
            lost.append(share)
        what = "as fast as it goes" if rate is None else f"{rate} messages a second"
        print(
            f"{what}: {min(alone):.3f} us of processor time a message alone, {min(followed):.3f} with a follower"
            f" ({min(followed) / min(alone) - 1:+.1%}); it has recorded {1 - statistics.median(lost):.1%}"
        )


async def measure(messages: int, rate: int | None, is_followed: bool) -> tuple[float, float]:
    """Return the processor time of a message in us, and the share of messages that the follower has not got."""
    domain = Domain(f"bench-{uuid.uuid4().hex[:8]}")
    channel = Outbound("c", bytes, MqttRouting("t"), max_payload=len(PAYLOAD), window=WINDOW)
    deployment = Deployment("bench", None, [MqttConnector([channel], codec=RawCodec())])
    [connector] = deployment.connectors
    spec = trunk_spec(connector)
    [of_channel] = spec.channels
    with domain.hold("owner"), tempfile.TemporaryDirectory() as folder:
        async with (
            open_node(domain, "bench") as node,
            open_services(node, specs_of([connector])),
            open_trunk(node, spec, "app") as app,
            open_trunk(node, spec, "gateway") as gateway,
        ):
            app.update_connections()
            gateway.update_connections()
            publisher = app.publisher(of_channel.name)
            path = Path(folder, "r.mcap")
            with gateway.open_subscriber(of_channel.name) as port:
                publisher.send(PAYLOAD)  # the memory of this writer is there
                with record(domain, path) if is_followed else contextlib.nullcontext():
                    begin, start = time.process_time(), time.perf_counter()
                    for number in range(messages):
                        while not publisher.send(PAYLOAD):
                            drain(port)
                        if number % 64 == 0:
                            drain(port)
                            if rate is not None and (ahead := number / rate - (time.perf_counter() - start)) > 0:
                                await trio.sleep(ahead)
                    drain(port)
                    cost = (time.process_time() - begin) / messages * 1e6
            got = look_into(path).messages if is_followed else messages
    return cost, 1 - got / messages


def drain(port: EnvelopeSubscriber) -> None:
    while (place := port.take()) is not None:
        port.open(place)
    if port.taken:
        port.acknowledge(port.taken)


@contextlib.contextmanager
def record(domain: Domain, path: Path) -> Iterator[None]:
    command = [sys.executable, "-m", "taktora_trio", "record", "--domain", domain.name, "-o", str(path)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        while not path.exists():
            time.sleep(0.01)
        yield
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
