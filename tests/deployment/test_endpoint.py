"""The endpoint of a run: a process beside it that answers whatever the run does, and ends with it."""

from __future__ import annotations

import os
import signal
import socket
import stat
from pathlib import Path

import psutil
import pytest
import trio

from taktora_trio.transport.domain import Domain
from tests.command import MODES, Command, open_command, open_run, run_command
from tests.endpoint.asking import Reply, ask
from tests.mosquitto import Mosquitto
from tests.patience import PATIENCE

ECHO = "examples.echo:deployment"


async def until(address: tuple[str, int] | str, path: str, part: str) -> Reply:
    """Ask until the answer has this in it."""
    with trio.fail_after(PATIENCE):
        while part not in (reply := await ask(address, path)).text:  # noqa: ASYNC110 - nothing announces it
            await trio.sleep(0.02)
        return reply


async def address_of(run: Command) -> tuple[str, int]:
    entry = await run.until_logged("endpoint: probes, metrics at http://127.0.0.1:")
    return "127.0.0.1", int(entry["message"].rpartition(":")[2].rstrip("/"))


@pytest.mark.parametrize("mode", MODES)
async def test_it_answers_while_the_app_hangs_is_replaced_when_killed_and_ends_with_the_run(
    mode: str, broker: Mosquitto, domain: Domain
) -> None:
    async with open_run(ECHO, mode, broker, domain, "--endpoint", "127.0.0.1:0") as run:
        address = await address_of(run)
        await run.until_logged("-> Up")
        assert (await until(address, "/livez", "livez passed")).status == 200
        assert f'taktora_up{{domain="{domain.name}"}} 1.0' in (await ask(address, "/metrics")).text

        first = run.half("endpoint")
        run.signal(signal.SIGKILL, first)
        asked = await ask(address, "/livez")  # who asks meanwhile waits, and is not refused
        assert asked.status == 200
        await run.until_logged("endpoint: started", count=2)

        app = run.pid if mode == "in-process" else run.half("plugin")
        run.signal(signal.SIGSTOP, app)
        try:
            with trio.fail_after(PATIENCE):
                assert (await ask(address, "/metrics")).status == 200
        finally:
            run.signal(signal.SIGCONT, app)

        run.signal(signal.SIGTERM)
        assert await run.wait() == 0
    with pytest.raises(OSError, match="connect"):
        await ask(address, "/livez")


async def test_it_ends_with_a_run_that_is_killed_and_its_unix_socket_does_not_keep_the_next_one_away(
    broker: Mosquitto, domain: Domain, tmp_path: Path
) -> None:
    path = tmp_path / "endpoint"
    more = ("--endpoint", f"unix:{path}")
    async with open_run(ECHO, "split", broker, domain, *more) as killed:
        await killed.until_logged("-> Up")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        await until(str(path), "/livez", "livez passed")
        endpoint = psutil.Process(killed.half("endpoint"))
        killed.signal(signal.SIGKILL)
        await killed.wait()
        await trio.to_thread.run_sync(endpoint.wait, PATIENCE)
    async with open_run(ECHO, "in-process", broker, domain, *more) as run:
        await run.until_logged("-> Up")
        await until(str(path), "/livez", "livez passed")
        run.signal(signal.SIGTERM)
        assert await run.wait() == 0
    assert not path.exists()


async def test_beside_halves_that_others_supervise(broker: Mosquitto, domain: Domain) -> None:
    serve = ("endpoint", "--domain", domain.name, "--endpoint", "127.0.0.1:0")
    async with open_command("plugin", ECHO, "--domain", domain.name) as plugin:
        await plugin.until_logged("waiting for its gateway")
        async with open_command(*serve) as endpoint:
            entry = await endpoint.until_logged("probes, metrics at http://")
            address = ("127.0.0.1", int(entry["message"].rpartition(":")[2].rstrip("/")))
            assert "has no gateway now\nlivez failed" in (await ask(address, "/livez")).text
            plugin.signal(signal.SIGTERM)
            assert await plugin.wait() == 0
            gone = await until(address, "/readyz", "there is no run in domain")
            assert gone.status == 503
            endpoint.signal(signal.SIGTERM)
            assert await endpoint.wait() == 0


async def test_bad_input_is_one_line_and_nothing_was_started(domain: Domain, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        run = ("run", ECHO, "--mode", "in-process", "--await-broker", "--domain", domain.name)
        for arguments, code, message in (
            ((*run, "--endpoint", f"127.0.0.1:{port}"), 2, "something listens there already"),
            ((*run, "--endpoint", "0.0.0.0:0"), 2, "needs a token: give --endpoint-token-file FILE"),
            ((*run, "--endpoint", "nowhere"), 2, "--endpoint: 'nowhere' is no address"),
            ((*run, "--endpoint-page"), 2, "--endpoint-page: there is no endpoint for that"),
            (
                (*run, "--endpoint", "127.0.0.1:0", "--endpoint-token-file", str(tmp_path / "none")),
                2,
                "can't be read: No such file",
            ),
            (("endpoint", "--domain", domain.name), 2, "say where to listen"),
            (("endpoint", "--endpoint", "127.0.0.1:0"), 2, "say which run"),
            (("endpoint", "--domain", domain.name, "--endpoint", "127.0.0.1:0"), 3, "there is no run in domain"),
        ):
            found, output, errors = await run_command(*arguments)
            assert (found, output) == (code, ""), errors
            assert len(errors.splitlines()) == 1, errors
            assert message in errors
    assert os.listdir(tmp_path) == []
