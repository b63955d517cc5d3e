"""Apps that end their run by an exit of their own, or by an error of the library."""

from __future__ import annotations

import sys

import trio

from taktora_trio import ConnectorHost, Deployment, MqttConnector, MqttOptions, MqttRouting, Outbound, RestartPolicy, Up
from tests.patience import PATIENCE

OUT = Outbound("out", str, MqttRouting("test/exits", qos=1))


def _options() -> MqttOptions:
    return MqttOptions(session="memory")


# What was sent is published however slow the machine is.
_PATIENT = MqttOptions(drain_timeout=PATIENCE)
_GATEWAY = RestartPolicy(stop_grace=PATIENCE)


async def exit_in_a_task(host: ConnectorHost) -> None:
    """Send something, and exit where nobody expects it."""

    async def leave() -> None:
        await host.wait_for_health(Up)
        async with host.open_writer(OUT) as writer:
            await writer.send("the last one")
        sys.exit(7)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(leave)
        await trio.sleep_forever()


async def exit_with_a_text(host: ConnectorHost) -> None:
    sys.exit("that is all")


async def exit_with_nothing(host: ConnectorHost) -> None:
    sys.exit()


async def open_what_is_not_declared(host: ConnectorHost) -> None:
    async def work() -> None:
        async with host.open_writer(Outbound("other", str, MqttRouting("other"))):  # HERE
            pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(work)


seven = Deployment("seven", exit_in_a_task, [MqttConnector([OUT], options=_PATIENT)], gateway_policy=_GATEWAY)
text = Deployment("text", exit_with_a_text, [MqttConnector([OUT], options=_options())])
nothing = Deployment("nothing", exit_with_nothing, [MqttConnector([OUT], options=_options())])
undeclared = Deployment("undeclared", open_what_is_not_declared, [MqttConnector([OUT], options=_options())])
