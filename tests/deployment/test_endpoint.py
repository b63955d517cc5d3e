"""The endpoint of a run: a process beside it that answers whatever the run does, and ends with it."""

from __future__ import annotations

import signal
import socket
import stat
from pathlib import Path

import psutil
import pytest
import trio

from taktora_trio import ConfigError, open_deployment
from taktora_trio.cli import parse
from taktora_trio.runners.configuration.endpoint import Endpoint
from taktora_trio.runners.configuration.reading import Sources, read_configuration
from taktora_trio.runners.loading import load_deployment
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
        await run.until_event("health-up")
        assert (await until(address, "/livez", "livez passed")).status == 200
        assert f'taktora_up{{domain="{domain.name}"}} 1.0' in (await ask(address, "/metrics")).text

        first = run.half("endpoint")
        run.signal(signal.SIGKILL, first)
        asked = await ask(address, "/livez")  # who asks meanwhile waits, and is not refused
        assert asked.status == 200
        await run.until_event("process-started", half="endpoint", count=2)

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


async def test_it_ends_with_a_run_that_is_killed(broker: Mosquitto, domain: Domain, tmp_path: Path) -> None:
    path = tmp_path / "endpoint"
    async with open_run(ECHO, "split", broker, domain, "--endpoint", f"unix:{path}") as killed:
        await killed.until_event("health-up")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        await until(str(path), "/livez", "livez passed")
        endpoint = psutil.Process(killed.half("endpoint"))
        killed.signal(signal.SIGKILL)
        await killed.wait()
        await trio.to_thread.run_sync(endpoint.wait, PATIENCE)


async def test_of_a_program_that_is_the_app(broker: Mosquitto, domain: Domain, tmp_path: Path) -> None:
    path = tmp_path / "endpoint"
    settings = {"broker": broker.url, "endpoint": f"unix:{path}"}
    async with open_deployment(ECHO, domain=domain.name, settings=settings):
        await until(str(path), "/readyz", "readyz passed")
    assert not path.exists()


async def test_beside_halves_that_others_supervise(broker: Mosquitto, domain: Domain) -> None:
    serve = ("endpoint", "--domain", domain.name, "--endpoint", "127.0.0.1:0")
    async with open_command("plugin", ECHO, "--domain", domain.name) as plugin:
        await plugin.until_event("waiting-for-gateway")
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


async def test_an_address_in_use_is_one_line_and_nothing_was_started(domain: Domain) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        run = ("run", ECHO, "--mode", "split", "--await-broker", "--domain", domain.name)
        code, output, errors = await run_command(*run, "--endpoint", address)
    assert (code, output) == (75, "")  # whoever has it may go
    assert errors == (
        f"taktora-trio: endpoint {address}: something listens there already: stop that, or choose another one"
    )


async def test_of_a_run_that_is_not_there(domain: Domain) -> None:
    code, output, errors = await run_command("endpoint", "--domain", domain.name, "--endpoint", "127.0.0.1:0")
    assert (code, output, len(errors.splitlines())) == (3, "", 1)
    assert errors.startswith(f"taktora-trio: there is no run in domain '{domain.name}': ")


def test_what_is_asked_for_has_to_make_sense(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(**typed: str) -> object:
        given = tuple((name.replace("_", "-"), text) for name, text in typed.items())
        return read_configuration(load_deployment(ECHO), Sources(typed=given), "supervisor").endpoint

    assert read() is None
    assert read(endpoint="none", endpoint_page="true") is None
    assert read(endpoint="localhost:1", endpoint_page="true") == Endpoint(address="localhost:1", page=True)
    for typed, message in (
        ({"endpoint": "nowhere"}, "--endpoint: 'nowhere' is no address"),
        ({"endpoint_page": "true"}, "--endpoint-page: there is no endpoint for that"),
        ({"endpoint_token_file": "x"}, "--endpoint-token-file: there is no endpoint for that"),
        ({"endpoint": "localhost:1", "endpoint_page": "maybe"}, "use true or false"),
    ):
        with pytest.raises(ConfigError, match=message):
            read(**typed)
    monkeypatch.setenv("TAKTORA_ENDPOINT", "unix:here")
    assert read() == Endpoint(address="unix:here")
    for words, message in (
        (["--domain", "d"], "say where to listen"),
        (["--endpoint", "127.0.0.1:0"], "say which run"),
        (["--domain", "d", "--endpoint", "0.0.0.0:0"], "needs a token: give --endpoint-token-file FILE"),
        (["--domain", "d", "--endpoint", "127.0.0.1:0", "--endpoint-token-file", "/no/such"], "can't be read"),
    ):
        monkeypatch.delenv("TAKTORA_ENDPOINT", raising=False)
        with pytest.raises(ConfigError, match=message):
            parse(["endpoint", *words])()
