"""Apps whose halves misbehave, for the tests of their supervision."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import trio

from taktora_trio import ConnectorHost, Deployment, Down, MqttRouting, Outbound, RestartPolicy, Up
from taktora_trio.chaos.mqtt.connector import FaultyMqttConnector
from taktora_trio.supervision.backoff import Backoff
from tests.deployment.apps import TICKS, TRANSITIONS, tick

QUICK = Backoff(initial=0.05, maximum=0.2)
GATEWAY = RestartPolicy(restart="always", backoff=QUICK, watchdog=1.0)
PLUGIN = RestartPolicy(backoff=QUICK, watchdog=1.0)
QUIET = Outbound("quiet", str, MqttRouting("test/quiet"))

faulty = Deployment(
    "faulty", tick, [FaultyMqttConnector([TICKS, TRANSITIONS])], gateway_policy=GATEWAY, plugin_policy=PLUGIN
)


async def hang(host: ConnectorHost) -> None:
    """Connect, and then keep the loop for ever."""
    await host.wait_for_health(Up)
    print("hangs from now on", flush=True)  # noqa: T201 - what a test waits for
    time.sleep(60)  # noqa: ASYNC251 - that is the fault


hanging = Deployment("hanging", hang, [FaultyMqttConnector([QUIET])], gateway_policy=GATEWAY, plugin_policy=PLUGIN)


async def talk(host: ConnectorHost) -> None:
    """Write to both streams and die at once, with the last words not ended by a line break."""
    await host.wait_for_health(Up)
    for number in range(1000):
        print(f"line {number}")  # noqa: T201 - the output is what is tested
    sys.stderr.write("not a log entry\nthe last words")
    os.kill(os.getpid(), 9)


talking = Deployment(
    "talking",
    talk,
    [FaultyMqttConnector([QUIET])],
    gateway_policy=GATEWAY,
    plugin_policy=RestartPolicy(restart="never"),
)


async def shout(host: ConnectorHost) -> None:
    """Write more than any pipe holds, and go on."""
    await host.wait_for_health(Up)
    for _ in range(400):
        sys.stderr.write("x" * 999 + "\n")
    async with host.open_writer(QUIET) as writer:
        await writer.send("wrote it all")
        await trio.sleep_forever()


shouting = Deployment("shouting", shout, [FaultyMqttConnector([QUIET])], gateway_policy=GATEWAY, plugin_policy=PLUGIN)


async def have_children(host: ConnectorHost) -> None:
    """Start a process in the group, and one in a session of its own; then end."""
    for new_session in (False, True):
        child = subprocess.Popen(["sleep", "60"], start_new_session=new_session)  # noqa: ASYNC220
        print(f"child {child.pid}", flush=True)  # noqa: T201 - what a test waits for
    await host.wait_for_health(Up)


parental = Deployment(
    "parental", have_children, [FaultyMqttConnector([QUIET])], gateway_policy=GATEWAY, plugin_policy=PLUGIN
)


async def tell_failure(host: ConnectorHost) -> None:
    """Tell what is known of each end of the gateway."""
    events = host.health_events()
    async for event in events:
        if isinstance(event.after, Down) and (failure := event.after.failure):
            told = (failure.kind, failure.incarnation, failure.attempts_left, bool(failure.delay), failure.uptime > 0)
            print(*told, "|".join(failure.stderr_tail), flush=True)  # noqa: T201 - what a test reads


telling = Deployment(
    "telling", tell_failure, [FaultyMqttConnector([QUIET])], gateway_policy=GATEWAY, plugin_policy=PLUGIN
)
