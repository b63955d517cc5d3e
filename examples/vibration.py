"""A vibration monitor: 64 KiB of samples twice a second, written by `loan` and read by `borrow` where they lie.

    taktora-trio run examples.vibration:deployment --mode split --broker embedded --for 10

The sensor is simulated, and the bearing of its motor wears out within a few seconds. A worn bearing knocks: the peaks
of the vibration grow, and its effective value hardly does. Their ratio, the crest factor, tells. With numpy the app
takes less time for it.
"""

import itertools
import math
import random
from array import array

import trio

from taktora_trio import ConnectorHost, Deployment, Inbound, MqttConnector, MqttRouting, Outbound, RawCodec
from taktora_trio.executor import Context, Executor, every

try:
    import numpy as np
except ModuleNotFoundError:
    np = None

SAMPLES = 16_384  # 32-bit floats, in units of g
SIZE = 4 * SAMPLES
PERIOD = 0.5
WORN = 4.0  # crest factor

MEASURED = Outbound("measured", bytes, MqttRouting("plant/motor/vibration", qos=1), max_payload=SIZE, window=8)
ANALYSED = Inbound("analysed", bytes, MqttRouting("plant/motor/vibration", qos=1), max_payload=SIZE, window=8)


class Sensor:
    """Simulates one that writes a block of samples into memory that it is given, as a driver does by DMA."""

    def __init__(self) -> None:
        chance = random.Random(1)  # noqa: S311 - of noise
        self._healthy = [math.sin(0.05 * at) + chance.gauss(0, 0.1) for at in range(SAMPLES)]
        self._blocks = [self._block(wear) for wear in (0.0, 0.5, 1.5, 4.0)]
        self._next = itertools.chain([0, 0, 1, 1, 2, 2], itertools.repeat(3))

    def _block(self, wear: float) -> bytes:
        samples = array("f", self._healthy)
        for at in range(0, SAMPLES, 1500):
            samples[at] += wear
        return samples.tobytes()

    def read_into(self, memory: memoryview) -> None:
        memory[:] = self._blocks[next(self._next)]


def levels_of(block: memoryview) -> tuple[float, float]:
    """Return the effective value and the peak. Nothing here outlives the call, so no view of the block does."""
    if np is not None:
        samples = np.frombuffer(block, dtype=np.float32)
        return float(np.sqrt(np.mean(samples * samples))), float(np.max(np.abs(samples)))
    with block.cast("f") as values:
        return math.sqrt(sum(value * value for value in values) / len(values)), max(max(values), -min(values))


async def monitor(host: ConnectorHost) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(measure, host)
        nursery.start_soon(analyse, host)


async def measure(host: ConnectorHost) -> None:
    executor, sensor = Executor(), Sensor()
    async with host.open_writer(MEASURED) as measured:

        @executor.item(every(PERIOD))
        async def sample(ctx: Context) -> None:
            async with measured.loan(
                SIZE
            ) as memory:  # in shared memory, from where the gateway writes it to its socket
                sensor.read_into(memory)

        await executor.run()


async def analyse(host: ConnectorHost) -> None:
    async with host.open_reader(ANALYSED) as analysed:
        while True:
            async with analysed.borrow() as received:
                if len(received.value) % 4 or not received.value:
                    print("a block that is none", flush=True)
                    continue
                effective, peak = levels_of(received.value)
            crest = peak / effective if effective else 0.0
            state = "worn: replace the bearing" if crest > WORN else "good"
            print(f"effective {effective:.2f} g, peak {peak:.2f} g, crest factor {crest:.1f}: {state}", flush=True)


deployment = Deployment("vibration", monitor, [MqttConnector([MEASURED, ANALYSED], codec=RawCodec())])
