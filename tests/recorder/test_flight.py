"""The flight recorder: what went on before a half was killed is in a file, and nothing of it harms the app."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import msgspec
import pytest
import trio
import trio.testing
from mcap.reader import make_reader

from taktora_trio import ConnectorError, Degraded, Deployment, Down, Failure, JsonCodec, Up, open_deployment
from taktora_trio.health import HealthBoard
from taktora_trio.recorder import flight_file
from taktora_trio.recorder.flight_file import About, write_flight
from taktora_trio.runners.parts.flight import LOG_LINE, open_flight_recorder
from taktora_trio.runners.parts.flight_files import FlightFiles
from taktora_trio.supervision.supervisor import Exit
from taktora_trio.transport.domain import Domain
from taktora_trio.transport.flight import map_flight, read_flight
from tests.command import ROOT, open_run
from tests.mosquitto import Mosquitto
from tests.patience import PATIENCE
from tests.recorder.test_follower import connector_of

DEPLOYMENT = Deployment("greenhouse", None, [connector_of(JsonCodec(), int)], flight_recorder="on")


FAILURE = Failure(kind="signal", description="killed", incarnation=1, uptime=1, delay=1, attempts_left=1)


def read(path: Path) -> dict[str, list[Any]]:
    """Return the messages of a file, by topic."""
    found: dict[str, list[Any]] = {}
    with path.open("rb") as file:
        for _, channel, message in make_reader(file).iter_messages():
            found.setdefault(channel.topic, []).append(msgspec.json.decode(message.data))
    return found


async def test_a_gateway_that_is_killed_is_told_of_by_a_file_with_its_last_lines(
    broker: Mosquitto, domain: Domain, tmp_path: Path
) -> None:
    env = {"XDG_STATE_HOME": str(tmp_path)}
    settings = ("--flight-recorder", "messages")
    async with open_run("tests.deployment.apps:ticking", "split", broker, domain, *settings, env=env) as run:
        await run.until_event("health-up", "Connecting -> Up", connector="mqtt")
        gateway = run.half("gateway")
        run.signal(signal.SIGKILL, gateway)
        entry = await run.until_logged("flight recording of mqtt Down")
        run.signal(signal.SIGTERM)
        assert await run.wait(5) == 0
    [path] = (tmp_path / "taktora-trio" / "deployments" / domain.name / "flight").iterdir()
    assert str(path) in entry["message"]
    found = read(path)
    lines = [(line["name"].split()[0], line["event"], line["extra"].get("pid")) for line in found["taktora/log"]]
    assert ("gateway", "connected") in [line[:2] for line in lines], "what the killed one has logged"
    assert {"Up", "Down"} <= {change["state"] for change in found["taktora/health"]}
    assert found["taktora/vitals"][-1]["name"] == "all"
    ticks = [message["value"] for message in found["mqtt/out/ticks"]]
    assert ticks


async def test_a_run_that_ends_well_writes_no_file_and_one_whose_gateway_crashes_does(
    broker: Mosquitto, domain: Domain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    written: list[str] = []

    async def write(self: FlightFiles, why: str) -> None:
        written.append(why)

    monkeypatch.setattr(FlightFiles, "_write", write)
    with trio.fail_after(PATIENCE):
        async with open_deployment(DEPLOYMENT, domain=domain.name, settings={"broker": broker.url}) as host:
            await host.wait_for_health(Up)
        assert written == []
        async with open_deployment(DEPLOYMENT, domain=domain.name, settings={"broker": broker.url}) as host:
            await host.wait_for_health(Up)
            host._gateways.failed(FAILURE, None)
    assert len(written) == 1
    assert "mqtt Down" in written[0]


async def test_log_lines_are_kept_over_a_restart_of_their_half(domain: Domain) -> None:
    log = logging.getLogger("taktora_trio.test")
    with domain.hold("owner"):
        for number in (1, 2):
            async with open_flight_recorder(DEPLOYMENT, domain, "gateway"):
                log.warning("line %d", number, extra={"event": "tested", "size": 7})
            log.warning("a line that nobody keeps", extra={"event": "tested"})
        records = read_flight(domain.present().path / "flight.gateway")
        lines = [msgspec.json.decode(record.content) for record in records if record.kind == LOG_LINE]
    assert [(line["message"], line["event"], line["size"]) for line in lines] == [
        ("line 1", "tested", 7),
        ("line 2", "tested", 7),
    ]


async def test_what_can_not_be_shown_or_is_too_long_ends_nothing(domain: Domain) -> None:
    log = logging.getLogger("taktora_trio.test")
    log.propagate, before = True, logging.raiseExceptions
    logging.raiseExceptions = False  # pytest has a handler of its own
    try:
        with domain.hold("owner"):
            async with open_flight_recorder(DEPLOYMENT, domain, "plugin"):
                log.warning("%d", "no number", extra={"event": "tested"})
                log.warning("x" * 10_000, extra={"event": "tested"})
                log.warning("short", extra={"event": "tested"})
            records = read_flight(domain.present().path / "flight.plugin")
    finally:
        logging.raiseExceptions = before
    lines = [msgspec.json.decode(record.content)["message"] for record in records if record.kind == LOG_LINE]
    assert lines == ["short"]


class Written(FlightFiles):
    """It only says what it would write, and at what time."""

    def __init__(self) -> None:
        super().__init__(DEPLOYMENT, Domain("none"))
        self.said: list[tuple[str, float]] = []

    async def _write(self, why: str) -> None:
        self.said.append((why, trio.current_time() - self.start))
        self._skipped = 0

    start = 0.0


async def test_one_file_a_minute_is_written_a_second_after_what_it_is_for(autojump_clock: Any) -> None:
    files = Written()
    files.start = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(files.serve)
        files.write("first")
        files.write("while the first is waited for")
        await trio.sleep(30)
        files.write("too soon")
        await trio.sleep(40)
        files.plugin_failed(FAILURE, Exit("signal", "killed", failed=True))
        await trio.sleep(0.5)
        files.stop()
    assert files.said == [("first", 1.0), ("plugin failed: killed", 70.5)]


async def test_a_file_is_written_for_each_down_and_for_nothing_else(autojump_clock: Any) -> None:
    files = Written()
    files.start = trio.current_time()
    board = HealthBoard(["mqtt", "other"])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(files.serve)
        nursery.start_soon(files.follow, board.events())
        await trio.testing.wait_all_tasks_blocked()
        board.report("mqtt", Up())
        board.report("mqtt", Degraded("full"))
        board.report("mqtt", Down("an operator wants it", failure=attrs.evolve(FAILURE, kind="stopped")))
        files.plugin_failed(attrs.evolve(FAILURE, kind="stopped"), Exit("exit", "it was told to end", failed=False))
        await trio.sleep(5)
        assert files.said == []
        board.report("other", Down("refused"))
        await trio.sleep(5)
        assert files.said == [("other Down: refused", 6.0)]
        files.stop()
        board.close()


async def test_none_is_written_for_a_gateway_that_an_operator_stops(
    domain: Domain, autojump_clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, board = Written(), HealthBoard(["mqtt"])
    files.start = trio.current_time()
    monkeypatch.setattr(files, "_domain", domain)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(files.serve)
        nursery.start_soon(files.follow, board.events())
        await trio.testing.wait_all_tasks_blocked()
        with domain.hold("owner"):
            domain.set_at_rest("gateway", True)
            board.report("mqtt", Down("the gateway was stopped"))  # as it says itself, before its supervisor does
            await trio.sleep(5)
            domain.set_at_rest("gateway", False)
            board.report("mqtt", Down("refused"))
            await trio.sleep(5)
        files.stop()
        board.close()
    assert files.said == [("mqtt Down: refused", 6.0)]


async def test_a_file_that_cant_be_written_is_one_line_in_the_log(
    domain: Domain, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder is a file, so its process fails; the app is not bothered."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    deployments = tmp_path / "taktora-trio" / "deployments"
    deployments.mkdir(parents=True)
    (deployments / domain.name).write_text("no folder")
    files = FlightFiles(DEPLOYMENT, domain)
    files.write("a test")
    files.stop()
    await files.serve()
    [record] = [record for record in caplog.records if getattr(record, "event", "") == "flight-not-written"]
    assert "no flight recording of a test: cannot use" in record.getMessage()
    assert "Not a directory" in record.getMessage() or "File exists" in record.getMessage()


def about(domain: Domain, folder: Path, why: str = "mqtt Down: killed") -> About:
    return About(domain=domain.name, folder=str(folder), why=why)


def test_there_are_never_more_than_so_many_files_and_bytes(
    domain: Domain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flight_file, "_FILES", 3)
    (tmp_path / "somebody's.mcap").write_text("left alone")
    with domain.hold("owner"):
        paths = [write_flight(about(domain, tmp_path)) for _ in range(5)]
        assert sorted(tmp_path.glob("2*")) == paths[2:]
        monkeypatch.setattr(flight_file, "_BYTES", 1.5 * paths[-1].stat().st_size)
        last = write_flight(about(domain, tmp_path, why="../../etc: a/b\n"))
        assert [*tmp_path.glob("2*")] == [last]
        assert last.parent == tmp_path
    assert (tmp_path / "somebody's.mcap").exists()
    assert last.stat().st_mode & 0o777 == 0o600


def test_the_last_bytes_of_a_disk_are_left_to_others(
    domain: Domain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flight_file, "_FREE", 2**62)
    with domain.hold("owner"), pytest.raises(ConnectorError, match="bytes are free in"):
        write_flight(about(domain, tmp_path))
    assert [*tmp_path.iterdir()] == []


async def test_a_ring_that_is_damaged_costs_its_own_lines_alone(domain: Domain, tmp_path: Path) -> None:
    with domain.hold("owner"):
        async with open_flight_recorder(DEPLOYMENT, domain, "plugin"):
            logging.getLogger("taktora_trio").warning("a line", extra={"event": "tested"})
        (domain.present().path / "flight.gateway").write_bytes(b"nothing")
        found = read(write_flight(about(domain, tmp_path)))
    assert [line["message"] for line in found["taktora/log"]] == ["a line"]


def test_what_a_killed_run_has_left_is_in_the_first_file_of_the_next_one(domain: Domain, tmp_path: Path) -> None:
    program = (
        "import sys, os, trio, logging\n"
        "from tests.recorder.test_flight import DEPLOYMENT\n"
        "from taktora_trio.runners.parts.flight import open_flight_recorder\n"
        "from taktora_trio.transport.domain import Domain\n"
        "async def main(domain):\n"
        "    with domain.hold('owner', 'plugin'):\n"
        "        async with open_flight_recorder(DEPLOYMENT, domain, 'plugin'):\n"
        "            logging.getLogger('taktora_trio').warning('the last line', extra={'event': 'tested'})\n"
        "            os.kill(os.getpid(), 9)\n"
        "trio.run(main, Domain(sys.argv[1]))\n"
    )
    subprocess.run([sys.executable, "-c", program, domain.name], cwd=ROOT, check=False, stderr=subprocess.DEVNULL)
    with domain.hold("owner"):
        assert [path.name for path in domain.present().path.glob("flight*")] == ["flight.before.plugin"]
        assert trio.run(ask, domain) == "the run before was killed"
        found = read(write_flight(about(domain, tmp_path)))
        assert "the last line" in [line["message"] for line in found["taktora/log"]]
        assert not [*domain.present().path.glob("flight.before*")]


def test_a_plugin_that_fails_while_its_gateway_stays_is_told_of_by_the_next_one(domain: Domain) -> None:
    """As under systemd: the domain stays, and so does the ring."""
    with domain.hold("owner"):
        assert trio.run(ask, domain) == "", "nothing was there before"
        assert trio.run(ask, domain) == "", "it has ended by itself"
        ring = map_flight(domain.present().path / "flight.plugin")
        ring.write(LOG_LINE, b"{}")
        ring.close()
        assert trio.run(ask, domain) == "the plugin before has failed or was killed"
        assert trio.run(ask, domain) == ""
        with pytest.raises(ExceptionGroup):
            trio.run(ask, domain, True)
        assert trio.run(ask, domain) == "the plugin before has failed or was killed"


async def ask(domain: Domain, fails: bool = False) -> str:
    """Open the recorder of the next run, and return why it wants to write a file."""
    async with open_flight_recorder(DEPLOYMENT, domain, "plugin") as files:
        why = files._why
        files._asked = trio.Event()  # it is not written here
        logging.getLogger("taktora_trio").warning("it runs", extra={"event": "tested"})
        if fails:
            raise ValueError("the app's")
    return why


async def test_without_the_option_nothing_is_kept(domain: Domain) -> None:
    off = attrs.evolve(DEPLOYMENT, flight_recorder="off")
    before = logging.getLogger().handlers.copy()
    with domain.hold("owner"):
        async with open_flight_recorder(off, domain, "plugin") as files:
            files.write("a test")
            assert not files._asked.is_set()
            assert logging.getLogger().handlers == before
            assert not (domain.present().path / "flight.plugin").exists()


async def test_memory_that_is_full_leaves_the_app_without_a_recorder(
    domain: Domain, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int, at: int, size: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with domain.hold("owner"):
        async with open_flight_recorder(DEPLOYMENT, domain, "plugin"):
            pass
    assert "no flight recorder: no room for" in caplog.text
