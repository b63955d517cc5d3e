"""open_deployment: a program with a loop of its own, in both shapes. Nothing outlives the block."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest
import trio

from taktora_trio import (
    ConfigError,
    ConnectorHost,
    Deployment,
    Domain,
    Down,
    Inbound,
    MqttConnector,
    MqttRouting,
    Up,
    open_deployment,
)
from taktora_trio.operate.controlling import ask_who_supervises
from taktora_trio.runners.options import MODES, Mode
from taktora_trio.runners.parts.revival import ask_to_revive
from tests.client import open_client
from tests.command import open_command, run_command
from tests.deployment.opened import BACK, THERE, deployment, fragile
from tests.mosquitto import Mosquitto

each_mode = pytest.mark.parametrize("mode", MODES)


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """No process, no thread, no signal handler. (Shared memory is looked after by `domain`.)"""
    handlers = [signal.getsignal(signum) for signum in signal.valid_signals()]
    children = psutil.Process().children(recursive=True)
    yield
    # trio's own worker threads end when they have been idle for a while
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("gateway")] == []
    assert [one for one in psutil.Process().children(recursive=True) if one not in children] == []
    assert [signal.getsignal(signum) for signum in signal.valid_signals()] == handlers


async def send_and_receive(host: ConnectorHost, text: str) -> None:
    async with host.open_reader(BACK) as back, host.open_writer(THERE) as there:
        await host.wait_for_health(Up)
        await there.send(text)
        async for received in back:
            if received.value == text:
                return


def gateway_pid(domain: Domain) -> int:
    pid = domain.holder("gateway")
    assert pid is not None
    return pid


@each_mode
async def test_a_message_there_and_back(mode: Mode, broker: Mosquitto, domain: Domain) -> None:
    with trio.fail_after(30):
        async with open_deployment(deployment, mode=mode, domain=domain.name, settings={"broker": broker.url}) as host:
            await send_and_receive(host, "hello")
            assert (gateway_pid(domain) == os.getpid()) == (mode == "in-process")
            assert domain.holder("owner") == domain.holder("plugin") == os.getpid()


async def test_a_program_that_runs_its_gateway_by_itself_is_not_signalled(broker: Mosquitto, domain: Domain) -> None:
    async with open_deployment(deployment, domain=domain.name, settings={"broker": broker.url}):
        for ask in (partial(ask_who_supervises, verb="reload"), ask_to_revive):
            with pytest.raises(ConfigError, match="as by open_deployment, and can't be asked"):
                ask(domain)


async def test_a_killed_gateway_process_is_a_health_event(broker: Mosquitto, domain: Domain) -> None:
    with trio.fail_after(30):
        async with open_deployment(
            "tests.deployment.opened:deployment", mode="split", domain=domain.name, settings={"broker": broker.url}
        ) as host:
            # The deployment's objects are this program's own, for it has imported the same module.
            await send_and_receive(host, "before")
            os.kill(gateway_pid(domain), signal.SIGKILL)
            down = await host.wait_for_health(Down)
            assert isinstance(down, Down)
            await send_and_receive(host, "after")


async def test_a_gateway_process_that_was_given_up_is_revived(broker: Mosquitto, domain: Domain) -> None:
    with trio.fail_after(30):
        async with open_deployment(fragile, mode="split", domain=domain.name, settings={"broker": broker.url}) as host:
            await host.wait_for_health(Up)
            events = host.health_events()
            os.kill(gateway_pid(domain), signal.SIGKILL)
            async for event in events:
                if isinstance(event.after, Down) and event.after.failure and event.after.failure.gave_up:
                    break
            host.revive_gateway()
            await host.wait_for_health(Up)


PROGRAM = """
import signal
import sys
import trio
from taktora_trio import Deployment, MqttConnector, MqttRouting, Outbound, Up, open_deployment

deployment = Deployment("program", None, [MqttConnector([Outbound("out", str, MqttRouting("test/out", qos=1))])])


async def main():
    async with open_deployment(deployment, mode="split", domain=sys.argv[1], settings={"broker": sys.argv[2]}) as host:
        await host.wait_for_health(Up)
        print("up", flush=True)
        await trio.sleep_forever()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests in the background ignores it
    trio.run(main)
"""


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGINT], ids=lambda signum: signum.name)
async def test_a_gateway_process_ends_with_its_program(
    signum: signal.Signals, tmp_path: Path, broker: Mosquitto, domain: Domain
) -> None:
    """Also if that is killed; and the files of the domain are gone then."""
    program = tmp_path / "greenhouse.py"
    program.write_text(PROGRAM)
    async with open_command(domain.name, broker.url, program=[str(program)], json_log=False) as command:
        await command.until_printed("up")
        [_, gateway] = command.tree()
        command.signal(signum)
        assert await command.wait(10) != 0
        await trio.to_thread.run_sync(gateway.wait, 10)


@each_mode
@pytest.mark.parametrize("how", ["raises", "is cancelled"])
async def test_what_was_sent_is_published_however_the_block_ends(
    mode: Mode, how: str, broker: Mosquitto, domain: Domain
) -> None:
    async def use() -> None:
        async with open_deployment(deployment, mode=mode, domain=domain.name, settings={"broker": broker.url}) as host:
            await host.wait_for_health(Up)
            async with host.open_writer(THERE) as there:
                for number in range(20):
                    await there.send(str(number))
                if how == "raises":
                    raise LookupError("the program's own fault")
                scope.cancel()
                await trio.sleep_forever()

    with trio.fail_after(30):
        async with open_client(broker.port, "test/opened") as client:
            with trio.CancelScope() as scope:
                if how == "raises":
                    with pytest.RaisesGroup(LookupError, flatten_subgroups=True, allow_unwrapped=True):
                        await use()
                else:
                    await use()
            assert scope.cancelled_caught == (how == "is cancelled")
            assert [(await client.receive()).payload for _ in range(20)] == [b'"%d"' % number for number in range(20)]


async def test_a_deployment_that_another_process_cannot_find(domain: Domain) -> None:
    local = Deployment("local", None, [MqttConnector([Inbound("in", str, MqttRouting("in"))])])
    with pytest.raises(ConfigError, match="is no attribute of a module") as caught:
        async with open_deployment(local, mode="split", domain=domain.name):
            raise AssertionError("it was opened")
    assert "\n" not in str(caught.value)


async def test_a_mode_that_there_is_not() -> None:
    with pytest.raises(ConfigError, match="mode is 'both'; use 'in-process' or 'split'"):
        async with open_deployment(deployment, mode="both"):  # type: ignore[arg-type]
            raise AssertionError("it was opened")


@each_mode
async def test_a_deployment_without_an_app_cannot_be_run(mode: Mode, broker: Mosquitto, domain: Domain) -> None:
    code, _, stderr = await run_command(
        *("run", "tests.deployment.opened:deployment", "--mode", mode),
        *("--broker", broker.url, "--domain", domain.name),
    )
    assert code == 2
    assert "taktora-trio: deployment 'opened' has no app to run: give it one, or use open_deployment()" in stderr
    assert "Traceback" not in stderr
