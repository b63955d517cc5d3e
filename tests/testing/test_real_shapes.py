"""The shapes with a real broker: nothing outlives the block, and what can't be tested so is said in one line."""

from __future__ import annotations

import contextlib
import importlib
import os
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import attrs
import psutil
import pytest
import trio
from trio.testing import MockClock

from taktora_trio import ConfigError, Deployment, MqttConnector, MqttOptions, Store, Up
from taktora_trio.testing import AppUnderTest, NothingCame, Shape, open_app
from taktora_trio.transport.domain import Domain
from tests.mosquitto import Mosquitto
from tests.testing.contract_app import STATE, TIME, Job, answering
from tests.testing.greenhouse import HEATER, READINGS, Heater, Reading, deployment

REAL: tuple[Shape, ...] = ("in-process", "split")
hosted = Deployment("hosted", None, [MqttConnector([TIME, STATE])], store=Store())


def traces() -> tuple[set[str], set[int], int, set[str]]:
    """Return what a run could leave: files, processes, threads, and folders of this user's."""
    files = set(shared("test-"))
    children = {process.pid for process in psutil.Process().children(recursive=True)}
    threads = sum(not thread.name.startswith("Trio") for thread in threading.enumerate())
    state = {str(path) for path in Path(os.environ["XDG_STATE_HOME"]).rglob("*") if path.is_file()}
    return files, children, threads, state


class StoppedHere(Exception):
    """The test's own failure."""


@pytest.mark.parametrize("shape", REAL)
async def test_nothing_outlives_the_block_however_it_ends(
    shape: Shape, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    _, children, threads, state = traces()
    domains: list[Domain] = []

    async def fail() -> None:
        async with open_app(deployment, shape=shape) as app:
            domains.append(app._backend._reality.domain)  # type: ignore[attr-defined]
            await app.publish("greenhouse/east/reading", Reading(3.0))
            assert (await app.expect("heater")).value == Heater(on=True)
            assert os.listdir(tmp_path) != []
            raise StoppedHere

    with pytest.raises(StoppedHere):
        await fail()
    files, children_now, threads_now, state_now = traces()
    assert domains[0].files() == []
    assert not [path for path in files if domains[0].label in path]
    assert (children_now, threads_now, state_now) == (children, threads, state)
    assert os.listdir(tmp_path) == []


async def test_where_the_test_is_the_app_only_the_gateway_is_a_process_in_split() -> None:
    async with open_app(hosted, shape="split") as app:
        assert isinstance(app, AppUnderTest)
        await app.wait_for_health(Up)
        async with app.host.open_writer(STATE) as state, app.host.open_reader(TIME) as times:
            await state.wait_stored(await state.send(Job(3)))
            assert (await app.expect(STATE)).value == Job(3)
            await app.publish(TIME, Job(4))
            assert (await times.receive()).value == Job(4)
            app.kill_gateway()
            await app.publish(TIME, Job(5))
            assert (await times.receive()).value == Job(5)


async def test_a_broker_of_the_authors_is_left_as_it_was(broker: Mosquitto) -> None:
    wanted = attrs.evolve(answering, name="answering")
    async with open_app(wanted, shape="in-process", broker=broker.url) as app:
        await app.publish("asked/1", Job(1), retain=True)
        assert (await app.expect("told1")).value == Job(2)
    async with open_app(wanted, shape="in-process", broker={"mqtt": broker.url}) as app:
        await app.publish("asked/2", Job(5))
        assert (await app.expect("told/+")).value == Job(6)
        assert [sent.value for sent in app.sent()] == [Job(6)]  # nothing of the one before


async def test_without_mosquitto_it_is_said_how_to_install_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *arguments, **named: None)
    with pytest.raises(ConfigError, match="mosquitto is not installed, and this needs it: apt-get install mosquitto"):
        await opened(deployment, "in-process")


async def test_a_virtual_clock_is_refused(autojump_clock: MockClock) -> None:
    with pytest.raises(ConfigError, match="a virtual clock does not go with a real broker"):
        await opened(deployment, "split")


async def test_a_deployment_that_no_other_process_can_import_is_refused() -> None:
    nowhere = attrs.evolve(deployment, name="nowhere")
    with pytest.raises(ConfigError, match=r"write `deployment = Deployment\(...\)` at the top of a module"):
        await opened(nowhere, "split")


async def test_a_broker_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match=r"the broker at mqtt://127\.0\.0\.1:1 can't be used for a test: .*refused"):
        await opened(deployment, "in-process", broker="mqtt://127.0.0.1:1")


async def test_a_connector_that_is_not_there_is_named() -> None:
    with pytest.raises(
        ConfigError, match=r"broker names connector 'plant', which is not in this deployment: it has mqtt"
    ):
        await opened(deployment, "in-process", broker={"plant": "mqtt://127.0.0.1:1"})


async def test_a_connector_whose_broker_is_in_memory_is_refused() -> None:
    connector = MqttConnector([READINGS, HEATER], options=MqttOptions(session="memory"))
    with pytest.raises(ConfigError, match=r"connector 'mqtt' has its broker in memory"):
        await opened(Deployment("here", None, [connector]), "in-process")


async def test_a_declaration_that_the_run_refuses_fails_the_test_at_once() -> None:
    # The children would find another one by this name.
    with pytest.raises(ConfigError, match="there is no module 'nowhere'"):
        await opened("nowhere:deployment", "split")


async def test_a_module_that_only_the_test_can_import_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = f"importable_{uuid.uuid4().hex[:8]}"
    await trio.Path(tmp_path, f"{module}.py").write_text(
        "import sys\n"
        "if 'pytest' not in sys.modules: raise RuntimeError('pytest alone imports this')\n"
        "from tests.testing.greenhouse import app, deployment\n"
        "import attrs\n"
        "own = attrs.evolve(deployment, name='own')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    own: Deployment = importlib.import_module(module).own
    with pytest.raises(ConfigError, match="can't be imported: RuntimeError: pytest alone imports this"):
        await opened(own, "split")


async def test_options_of_another_protocol_are_named() -> None:
    async with open_app(deployment, shape="in-process") as app:
        with pytest.raises(ConfigError, match=r"MQTT has no priority: it has qos="):
            await app.publish("greenhouse/east/reading", Reading(1.0), priority=3)
        with pytest.raises(ConfigError, match="qos is 3; it must be 0, 1 or 2"):
            await app.publish("greenhouse/east/reading", Reading(1.0), qos=3)
        with pytest.raises(NothingCame, match="nothing came on 'heater'"):
            await app.expect("heater", timeout=0.05)


async def opened(wanted: Deployment | str, shape: Shape, **more: object) -> None:
    async with open_app(wanted, shape=shape, **more):  # type: ignore[arg-type]
        await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("shape", REAL)
async def test_what_a_killed_test_leaves_is_cleared_away(
    shape: Shape, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    test = (
        "import trio, taktora_trio, tests.testing.greenhouse as own\n"
        "from taktora_trio.testing import open_app\n"
        "async def main():\n"
        f"    async with open_app(own.deployment, shape={shape!r}) as app:\n"
        "        await app.wait_for_health(taktora_trio.Up)\n"
        "        print(app._backend._reality.domain.name, flush=True)\n"
        "        await trio.sleep_forever()\n"
        "trio.run(main)\n"
    )
    process = await trio.lowlevel.open_process([sys.executable, "-c", test], stdout=subprocess.PIPE)
    assert process.stdout is not None
    domain = Domain((await process.stdout.receive_some()).decode().strip())
    assert os.listdir(tmp_path) != []
    process.kill()
    await process.wait()
    with trio.fail_after(30):
        while os.listdir(tmp_path) or await trio.to_thread.run_sync(left_of, domain):  # noqa: ASYNC110
            await trio.sleep(0.05)


def left_of(domain: Domain) -> list[str]:
    """Return the processes that name the domain, and the files in shared memory that have its label."""
    found = shared(domain.label)
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if domain.name in (command := path.read_text(errors="replace")):
                found.append(command)
    return found


def shared(prefix: str) -> list[str]:
    """Return the files and folders in shared memory whose names begin so. Others may come and go meanwhile."""
    return [
        str(Path(folder, name))
        for folder, folders, files in os.walk("/dev/shm")
        for name in (*folders, *files)
        if name.startswith(prefix)
    ]
