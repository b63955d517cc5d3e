"""The host hears its gateway out: what one reported right before it ended is an event too, before its `Down`."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator

import trio
import trio.testing

from taktora_trio import Connecting, Down, HealthEvent, MqttConnector, MqttRouting, Outbound, Up
from taktora_trio.health import Failure, HealthEvents
from taktora_trio.host import ConnectorHost, open_connector_host
from taktora_trio.transport.domain import Domain, Node, open_node
from taktora_trio.transport.health import GatewayIdentity, open_health_reporter
from taktora_trio.transport.services import health_spec, open_services, specs_of

CONNECTOR = MqttConnector([Outbound("out", str, MqttRouting("t"))])
SPEC = health_spec(CONNECTOR)
CRASH = Failure(kind="exception", description="bad", incarnation=1, uptime=1.0, delay=0.1, attempts_left=1)


def _kinds(events: list[HealthEvent]) -> list[type]:
    return [type(event.after) for event in events]


async def _next(events: HealthEvents, count: int) -> list[HealthEvent]:
    with trio.fail_after(20):
        return [await events.receive() for _ in range(count)]


@contextlib.asynccontextmanager
async def _open_host(domain: Domain) -> AsyncIterator[tuple[Node, ConnectorHost]]:
    with domain.hold("owner"):
        async with (
            open_node(domain, "test") as node,
            open_services(node, specs_of([CONNECTOR])),
            open_connector_host(node, [CONNECTOR]) as host,
        ):
            yield node, host


async def test_the_last_report_of_a_gateway_task_comes_before_its_end(domain: Domain) -> None:
    async with (
        _open_host(domain) as (node, host),
        open_health_reporter(node, SPEC, GatewayIdentity.of_this_process(1)) as reporter,
    ):
        await trio.testing.wait_all_tasks_blocked()
        events = host.health_events()
        reporter.report(Up())  # and at once, before the host's own task had a turn:
        host.gateway_failed(CRASH, None)
        reporter.report(Up())  # whatever comes after the end is a stale one's
        await trio.testing.wait_all_tasks_blocked()
        assert _kinds(await _next(events, 2)) == [Up, Down]
        assert isinstance(host.health(), Down)


async def test_the_last_report_of_a_gateway_process_comes_before_its_end(domain: Domain) -> None:
    async with _open_host(domain) as (_, host):
        for incarnation in range(1, 7):  # which of two ready descriptors is served first is left to chance
            command = [sys.executable, "-m", __name__, domain.name, str(incarnation)]
            events = host.health_events()
            with subprocess.Popen(command, stdin=subprocess.PIPE) as gateway:  # noqa: ASYNC220 - it is waited for below
                await host.wait_for_health(Connecting)
                with trio.fail_after(20):
                    while host._watched == set():  # noqa: ASYNC110 - it has said hello then
                        await trio.sleep(0.01)
                assert gateway.stdin is not None
                gateway.stdin.close()  # now it says its last words,
                os.waitid(os.P_PID, gateway.pid, os.WEXITED | os.WNOWAIT)  # noqa: ASYNC222 - ended before we read
                after = _kinds(await _next(events, 2 if incarnation == 1 else 3))
                assert after == [Connecting, Up, Down][-len(after) :]
                events.close()


def _gateway() -> None:
    async def main() -> None:
        async with (
            open_node(Domain(sys.argv[1]), "gateway") as node,
            open_health_reporter(node, SPEC, GatewayIdentity.of_this_process(int(sys.argv[2]))) as reporter,
        ):
            reporter.report(Connecting())
            sys.stdin.read()
            reporter.report(Up())
            os.kill(os.getpid(), signal.SIGKILL)

    trio.run(main)


if __name__ == "__main__":
    _gateway()
