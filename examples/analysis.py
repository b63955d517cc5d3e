"""Heavy work beside a fast loop: a signal is collected, analysed in a process of its own, and the result published.

Every second a graph runs: what was collected is taken, its spectrum and its level are worked out at the same time, the
spectrum in a worker process so that nothing else waits for it, and then both are published.

    taktora-trio run examples.analysis:deployment --mode split --broker embedded --for 10

It needs the extra `parallel` (trio-parallel).
"""

import cmath
import math
from collections import deque

import attrs

from taktora_trio import ConnectorHost, Deployment, MqttConnector, MqttRouting, Outbound
from taktora_trio.executor import Context, Executor, chain, every, graph, in_process, only_if

PERIOD = 0.01  # seconds
SAMPLES = 256


@attrs.frozen
class Finding:
    hertz: float
    level: float


FINDINGS = Outbound("findings", Finding, MqttRouting("plant/pump/vibration", qos=1))


def strongest(samples: list[float]) -> float:
    """Return the strongest frequency in Hz, by a plain Fourier transform: far too slow for a loop of 10 ms."""
    n = len(samples)

    def power(k: int) -> float:
        return abs(sum(value * cmath.exp(-2j * math.pi * k * i / n) for i, value in enumerate(samples)))

    return max(range(1, n // 2), key=power) / (n * PERIOD)


async def analysis(host: ConnectorHost) -> None:
    executor = Executor()
    collected: deque[float] = deque(maxlen=SAMPLES)
    found = {"hertz": 0.0, "level": 0.0}

    @executor.item(every(PERIOD))
    async def collect(ctx: Context) -> None:
        collected.append(math.sin(2 * math.pi * 12.5 * ctx.due) + 0.2 * math.sin(2 * math.pi * 31.25 * ctx.due))

    async def keep(ctx: Context, hertz: float) -> None:
        found["hertz"] = hertz

    async def level(ctx: Context) -> None:
        found["level"] = math.sqrt(sum(value * value for value in collected) / len(collected))

    async with host.open_writer(FINDINGS) as findings:

        async def publish(ctx: Context) -> None:
            await findings.send(Finding(round(found["hertz"], 1), round(found["level"], 2)))
            ctx.observe("found", **found)

        async def show(ctx: Context) -> None:
            stats = executor.stats()["collect"]
            late = stats.lateness.p99 * 1e3 if stats.lateness else 0
            print(
                f"{found['hertz']:.1f} Hz, level {found['level']:.2f}; 99 % of ticks within {late:.1f} ms", flush=True
            )

        spectrum = in_process(strongest, arguments=lambda ctx: (list(collected),), then=keep, timeout=5)
        analyse = graph(
            {"spectrum": spectrum, "level": level, "tell": chain(publish, show)}, after={"tell": ["spectrum", "level"]}
        )
        # A worker that dies or takes too long costs one cycle.
        enough = only_if(analyse, lambda ctx: len(collected) == SAMPLES)
        executor.add(enough, every(1), name="analyse", on_failure="skip")
        await executor.run()


deployment = Deployment("analysis", analysis, [MqttConnector([FINDINGS])])
