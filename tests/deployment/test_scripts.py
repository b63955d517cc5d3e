"""The runner scripts are the shapes: what the command runs, and what a user changes a copy of."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

import taktora_trio
from taktora_trio import Domain
from tests.client import Client, open_client
from tests.command import MODES, ROOT, Command, open_command
from tests.mosquitto import Mosquitto

NAMES = {"in-process": "in_process", "split": "split"}
GIVES_UP_AT_ONCE = 'RestartPolicy(restart="always", intensity=0)'


@pytest.mark.parametrize("name", NAMES.values())
def test_a_script_is_the_module_that_the_command_runs(name: str) -> None:
    module = Path(taktora_trio.__file__).parent / "runners" / "scripts" / f"{name}.py"
    assert (ROOT / "supervisors" / f"{name}.py").samefile(module)
    text = module.read_text()
    assert len(text.splitlines()) < 130, "it is to be read in a minute"
    own = [line for line in text.splitlines() if line.startswith(("from taktora_trio", "import taktora_trio"))]
    assert own == ["from taktora_trio import ("], "public names alone"


def changed(mode: str, folder: Path, *changes: tuple[str, str]) -> str:
    """A user's copy."""
    text = (ROOT / "supervisors" / f"{NAMES[mode]}.py").read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = folder / "my_runner.py"
    path.write_text(text)
    return str(path)


async def stop(run: Command) -> None:
    run.signal(signal.SIGTERM)
    assert await run.wait(10) == 0


@pytest.mark.parametrize("mode", MODES)
async def test_a_copy_with_another_policy(mode: str, tmp_path: Path, broker: Mosquitto, domain: Domain) -> None:
    script = changed(
        mode,
        tmp_path,
        ("deployment.gateway_policy", GIVES_UP_AT_ONCE),
        ("from taktora_trio import (", "from taktora_trio import (\n    RestartPolicy,"),
    )
    arguments = ("tests.deployment.apps:crashing", "--broker", broker.url, "--domain", domain.name)
    async with open_command(*arguments, program=[script]) as run:
        # This gateway crashes on purpose; the deployment's own policy would start it again.
        await run.until_event("given-up", "it ended once", half="gateway")
        await stop(run)


APPS = """
from taktora_trio import Deployment, MqttConnector, MqttRouting, Outbound, Up
import itertools, trio

NORTH = Outbound("north", int, MqttRouting("test/north", qos=1))
SOUTH = Outbound("south", int, MqttRouting("test/south", qos=1))


async def count(host, channel):
    async with host.open_writer(channel) as writer:
        for number in itertools.count():
            await writer.send(number)
            await trio.sleep(0.01)


async def show(host):
    async for event in host.health_events():
        print(event.component, type(event.after).__name__, flush=True)


async def app(host):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(show, host)
        nursery.start_soon(count, host, NORTH)
        nursery.start_soon(count, host, SOUTH)


deployment = Deployment("two", app, [MqttConnector([NORTH], name="n"), MqttConnector([SOUTH], name="s")])
"""
ONE_GATEWAY = {
    "split": """
        about_gateway = relay.gateway(lambda: gateway.revive(), ended=lambda exit_: gateway.ended(exit_))
        gateway = Supervisor(
            "gateway",
            halves.gateway(deployment.gateway_policy, about_gateway),
            deployment.gateway_policy,
            on_failure=about_gateway.failed,
            on_revived=about_gateway.revived,
        )
        if reload is not None:
            again = partial(halves.gateway, deployment.gateway_policy, about_gateway, "gateway")
            nursery.start_soon(reload.serve, gateway, again, about_gateway.watch)
""",
    "in-process": """
        task = GatewayTask(deployment, opened, on_hang=gateways.hangs)
        gateway = Supervisor(
            "gateway",
            as_task(task.run),
            policy,
            stop=task.stop,
            on_failure=lambda failure, exit_: gateways.failed(failure, exit_.exception),
            on_revived=task.revived,
            ask_to_leave=task.leave,
        )
        # The app ends first, while its gateway still works; then the gateway publishes what is queued.
        async with open_outlasting(gateway.run, lambda scope: task.stop.set(), policy.stop_grace) as nursery:
            if revive is not None:
                nursery.start_soon(gateway.revive_at, revive)
            if reload is not None:
                nursery.start_soon(reload.serve, gateway, task.runner, task.watch)
            if control is not None:
                nursery.start_soon(control.serve, gateway, task.watch)
            async with open_flight_recorder(deployment, domain, "plugin", host):
                yield host
""",
}
# It is for one gateway.
CONTROL = """
        if control is not None:
            nursery.start_soon(control.serve, gateway, about_gateway.watch, plugin, relay.set_level)
"""
TWO_GATEWAYS = {
    "split": """
        for connector in deployment.connectors:
            about = relay.gateway(lambda: None, connector.name)
            name = f"gateway-{connector.name}"
            gateway = Supervisor(
                name,
                halves.gateway(deployment.gateway_policy, about, name),
                deployment.gateway_policy,
                on_failure=about.failed,
                on_revived=about.revived,
            )
            nursery.start_soon(gateway.run)
""",
    "in-process": """
        async with contextlib.AsyncExitStack() as stack:
            for connector in connectors:
                task = GatewayTask(deployment, opened, gateways.hangs, connector)
                gateway = Supervisor(
                    f"gateway-{connector.name}",
                    as_task(task.run),
                    policy,
                    stop=task.stop,
                    on_failure=lambda failure, exit_, name=connector.name: gateways.failed(
                        failure, exit_.exception, [name]
                    ),
                    on_revived=task.revived,
                )
                await stack.enter_async_context(
                    open_outlasting(gateway.run, lambda scope, task=task: task.stop.set(), policy.stop_grace)
                )
            yield host
""",
}


@pytest.mark.parametrize("mode", MODES)
async def test_a_copy_with_a_gateway_for_each_connector(
    mode: str, tmp_path: Path, broker: Mosquitto, domain: Domain
) -> None:
    """In the split shape each is a process: one that is killed costs its own connector an outage, and not the other."""
    script = changed(
        mode,
        tmp_path,
        (ONE_GATEWAY[mode], TWO_GATEWAYS[mode]),
        *(
            [(CONTROL, "\n"), ("        nursery.start_soon(gateway.run)\n        if", "        if")]
            if mode == "split"
            else []
        ),
    )
    (tmp_path / "two.py").write_text(APPS)
    arguments = ("two:deployment", "--broker", broker.url, "--domain", domain.name)
    async with (
        open_client(broker.port, "test/#") as client,
        open_command(*arguments, program=[script]) as run,
    ):
        await until_counted(client, "test/north", "test/south")
        await run.until_printed("n Up")
        await run.until_printed("s Up")
        if mode == "split":
            run.signal(signal.SIGKILL, run.half("gateway-n"))
            await run.until_printed("n Down")
            await run.until(lambda: printed(run).count("n Up") == 2 or None, "n Up again", 20)
            await until_counted(client, "test/north", "test/south")
            assert [event for event in printed(run) if event.startswith("s ")] == ["s Up"]
        await stop(run)
    assert "Traceback" not in "".join(run.stderr)


def printed(run: Command) -> list[str]:
    """What it has printed, without the name of a half."""
    return [json.loads(line)["message"] if line.startswith("{") else line for line in run.output]


async def until_counted(client: Client, *topics: str) -> None:
    """Wait for five messages on each topic."""
    left = dict.fromkeys(topics, 5)
    while any(count > 0 for count in left.values()):
        left[(await client.receive()).topic] -= 1
