"""What a reload keeps and lets go of, and what comes out of a gateway alone; by fakes of what it replaces."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import trio
from trio.testing import wait_all_tasks_blocked
from trio_util import AsyncValue, move_on_when

from taktora_trio import (
    ConfigError,
    Connector,
    Control,
    Deployment,
    Domain,
    MqttConnector,
    MqttRouting,
    Outbound,
    Reload,
    RestartPolicy,
    Supervisor,
    as_task,
    open_domain,
)
from taktora_trio.processes.link import ConnectorState
from taktora_trio.runners.chosen import Chosen, choose
from taktora_trio.runners.command.reloading import carry_reloading
from taktora_trio.runners.configuration.reading import Sources, read_configuration
from taktora_trio.runners.parts.arrival import Arrival
from taktora_trio.runners.parts.requests import Answer, open_request, take_requests
from taktora_trio.supervision.supervisor import Runner
from taktora_trio.transport.segments import SharedMemoryFull

DEPLOYMENT = Deployment("reloaded", None, [MqttConnector([Outbound("one", int, MqttRouting("one"))])])


class Replaced:
    """A supervisor that has each trial end as `stays` says, and counts them."""

    is_given_up = is_held = False
    last_failure = None

    def __init__(self) -> None:
        self.stays = True
        self.trials = AsyncValue(0)

    async def replace_on_trial(
        self, runner: Runner, works: Callable[[], Awaitable[bool]], seconds: float, back: Runner
    ) -> bool:
        await trio.lowlevel.checkpoint()
        self.trials.value += 1
        return self.stays


def chosen_by(file: Path) -> Chosen:
    configuration = read_configuration(DEPLOYMENT, Sources(config=str(file)), "in-process")
    return choose(configuration, configuration.settings)


def memory_files() -> int:
    """Return how many files in memory this process has open that are of the setting."""
    found = 0
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the one by which this folder is read
            found += str(entry.readlink()).startswith("/memfd:ca-file")
    return found


async def test_of_a_configuration_that_none_goes_back_to_no_file_is_kept(tmp_path: Path, domain: Domain) -> None:
    ca, file = tmp_path / "ca.pem", tmp_path / "taktora.toml"
    file.write_text(f"await-broker = true\n[connector]\nbroker = 'mqtts://127.0.0.1'\nca-file = '{ca}'\n")
    read = partial(chosen_by, file)

    ca.write_text("0")
    gateway, reload = Replaced(), Reload(read(), read)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reload.serve, cast(Supervisor, gateway), lambda chosen: cast(Any, chosen), Arrival)
        kept = []
        for number, stays in enumerate((True, True, False, False, True), 1):
            gateway.stays = stays
            ca.write_text(str(number))
            reload.ask()
            await gateway.trials.wait_value(number)
            await wait_all_tasks_blocked()
            kept.append(memory_files())
        assert kept == [0, 0, 1, 1, 0], "the one that it went back to is in memory, until the next one"
        nursery.cancel_scope.cancel()


async def test_without_descriptors_the_gateway_goes_on_as_it_was(
    tmp_path: Path, domain: Domain, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ca, file, failed = tmp_path / "ca.pem", tmp_path / "taktora.toml", trio.Event()
    file.write_text(f"await-broker = true\n[connector]\nbroker = 'mqtts://127.0.0.1'\nca-file = '{ca}'\n")
    read = partial(chosen_by, file)

    def fail(*arguments: object) -> int:
        failed.set()
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    ca.write_text("0")
    gateway, reload = Replaced(), Reload(read(), read)
    ca.write_text("1")
    monkeypatch.setattr(os, "memfd_create", fail)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reload.serve, cast(Supervisor, gateway), lambda chosen: cast(Any, chosen), Arrival)
        reload.ask()
        await failed.wait()
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert gateway.trials.value == 0
    assert "no file in memory (Too many open files); the gateway goes on as it was" in caplog.text


async def test_a_stop_during_a_trial_is_no_failure_and_is_answered(tmp_path: Path, domain: Domain) -> None:
    file, on_trial = tmp_path / "taktora.toml", trio.Event()
    file.write_text("await-broker = true")
    read = partial(chosen_by, file)

    async def run(incarnation: int) -> None:
        if incarnation == 2:
            on_trial.set()
        await trio.sleep_forever()

    gateway, reload = Supervisor("gateway", as_task(run), RestartPolicy()), Reload(read(), read)
    file.write_text("await-broker = true\n[connector]\nkeepalive = 20")
    with trio.fail_after(30):
        async with open_domain(domain, DEPLOYMENT.connectors):
            with open_request(domain) as answers:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(gateway.run)
                    nursery.start_soon(reload.serve, gateway, lambda chosen: as_task(run), Arrival)
                    await wait_all_tasks_blocked()
                    assert Control(domain, trio.Event(), reload).look()
                    await on_trial.wait()
                    await wait_all_tasks_blocked()
                    nursery.cancel_scope.cancel()
                ourselves = os.pidfd_open(os.getpid())
                try:
                    assert answers.wait(ourselves) == Answer(1, ("the run ends",))
                finally:
                    os.close(ourselves)


async def test_a_gateway_alone_that_finds_no_memory_starts_again_with_what_it_has_reloaded(
    tmp_path: Path, domain: Domain
) -> None:
    """Its error comes out as it is, for whoever waits for memory then."""
    file, carried, is_full = tmp_path / "taktora.toml", list[Connector](), trio.Event()
    file.write_text("await-broker = true")
    read = partial(chosen_by, file)

    async def carry(
        deployment: Deployment, leave: trio.Event, incarnation: int, tell: Callable[[ConnectorState], None]
    ) -> None:
        carried.append(deployment.connectors[0])
        tell(ConnectorState("mqtt", is_up=True, description="Up"))
        async with move_on_when(leave.wait):
            await is_full.wait()
            raise SharedMemoryFull("a port")

    async def run() -> None:
        with pytest.raises(SharedMemoryFull):
            await carry_reloading(carry, trio.Event(), reload)

    first = read()
    reload = Reload(first, read)
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await wait_all_tasks_blocked()
            file.write_text("await-broker = true\n[connector]\nkeepalive = 20")
            reload.ask()
            while reload.present is first:  # a thread reads the file
                await wait_all_tasks_blocked(0.01)
            is_full.set()
        await run()
    assert carried[0] != carried[1] == carried[2] == reload.present.deployment.connectors[0]


def test_where_the_run_ends_while_it_is_asked_that_is_said(domain: Domain) -> None:
    with pytest.raises(ConfigError, match="has just ended"), open_request(domain):
        raise AssertionError


def test_a_request_that_is_not_open_yet_is_not_taken_for_one_that_was_left(
    domain: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = os.mkfifo

    def make_and_be_late(path: Path, mode: int) -> None:
        make(path, mode)
        assert take_requests(domain) == []  # for another request, which came before

    monkeypatch.setattr(os, "mkfifo", make_and_be_late)
    domain.root.mkdir(parents=True, exist_ok=True)
    with open_request(domain):
        [request] = take_requests(domain)
        request.answer(Answer(0, ()))
    domain.root.rmdir()  # nothing is left in it
