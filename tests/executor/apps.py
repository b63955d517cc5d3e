"""An app whose observer tells on standard output what both halves do."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from taktora_trio import ConnectorHost, Deployment, Inbound, MqttConnector, MqttRouting, Outbound, Received, Up
from taktora_trio.executor import Context, Cycle, Executor, Observer, every, on_health, on_message

OUT = Outbound("out", int, MqttRouting("test/numbers", qos=1))
BACK = Inbound("back", int, MqttRouting("test/numbers", qos=1))


STACK = {"aiomqtt", "amqtt", "asyncio", "paho", "trio_asyncio", "wsproto"}


class Tell(Observer):
    def started(self, item: str) -> None:
        _say(f"started {item}")
        _say(f"imported beside {item}: {sorted(STACK & set(sys.modules))}")

    def cycle(self, item: str, cycle: Cycle) -> None:
        _say(f"cycle {item} {type(cycle.wake).__name__}")

    def event(self, item: str, name: str, fields: Mapping[str, Any]) -> None:
        _say(f"event {item} {name} {dict(fields)}")


def _say(line: str) -> None:
    """Whole, though the gateway's thread may speak at the same time: `print` writes the end of a line by itself."""
    os.write(1, f"{line}\n".encode())


async def app(host: ConnectorHost) -> None:
    executor = Executor(observers=host.observers)
    slack = Path("/proc/self/timerslack_ns").read_text().strip()  # noqa: ASYNC240 - it is no disk
    _say(f"timer slack {slack} ns, garbage collection leaves out {gc.get_freeze_count() > 1000}")

    @executor.item(on_health(host, Up))  # added before anything is awaited, so that it is not missed
    async def notice(ctx: Context) -> None:
        ctx.observe("connected")

    async with host.open_writer(OUT) as out, host.open_reader(BACK) as back:

        @executor.item(every(0.2))
        async def send(ctx: Context) -> None:
            await out.send(7)

        @executor.item(on_message(back))
        async def receive(ctx: Context[Received[int]]) -> None:
            ctx.observe("received", value=ctx.message.value)

        await executor.run()


observed = Deployment("observed", app, [MqttConnector([OUT, BACK])], observers=[Tell()])
observed_in_thread = Deployment("observed", app, [MqttConnector([OUT, BACK])], observers=[Tell()], gateway_thread=True)
