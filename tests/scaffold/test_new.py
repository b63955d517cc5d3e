"""`taktora-trio new`: what it writes runs in both shapes, its test passes, and it never writes over anything."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import trio

from taktora_trio.cli import parse
from taktora_trio.errors import ConfigError
from taktora_trio.scaffold.new import project_files
from taktora_trio.transport.domain import Domain
from tests.command import MODES, ROOT, open_command


@pytest.fixture
def project(tmp_path: Path, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> Path:
    folder = tmp_path / "boiler-room"
    more = getattr(request, "param", ())
    assert parse(["new", "boiler-room", "--to", str(folder), *more])() == 0
    assert "taktora-trio run boiler_room:deployment --mode split" in capsys.readouterr().out
    return folder


def test_what_is_written(project: Path) -> None:
    written = {str(file.relative_to(project)) for file in project.rglob("*") if file.is_file()}
    assert written == project_files("boiler-room").keys()
    assert tomllib.loads((project / "pyproject.toml").read_text())["project"]["name"] == "boiler-room"
    assert not [file for file in written if "$" in (project / file).read_text()]
    assert os.listdir(project.parent) == ["boiler-room"]


@pytest.mark.parametrize("mode", MODES)
async def test_it_runs_at_once(mode: str, project: Path, domain: Domain) -> None:
    arguments = ("run", "boiler_room:deployment", "--mode", mode, "--domain", domain.name)
    async with open_command(*arguments, cwd=project) as run:
        await run.until_event("health-up", "Connecting -> Up", connector="mqtt")
        run.signal(signal.SIGTERM)
        assert await run.wait(10) == 0
    assert "Traceback" not in "".join(run.stderr)


def test_its_test_passes_and_can_fail(project: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    passed = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert passed.returncode == 0, passed.stdout
    assert "2 passed" in passed.stdout
    app = project / "boiler_room.py"
    app.write_text(app.read_text().replace("self.celsius < self.setpoint", "False"))
    failed = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert "2 failed" in failed.stdout or "1 failed" in failed.stdout


@pytest.mark.zenoh
@pytest.mark.parametrize("project", [("--protocol", "zenoh")], indirect=True)
async def test_one_for_another_protocol_runs_at_once_and_its_test_passes(project: Path, domain: Domain) -> None:
    assert not [text for text in project_files("boiler-room", "zenoh").values() if "mqtt" in text.lower()]
    async with open_command(
        "run", "boiler_room:deployment", "--mode", "split", "--domain", domain.name, cwd=project
    ) as run:
        await run.until_event("health-up", "Connecting -> Up", connector="zenoh")
        run.signal(signal.SIGTERM)
        assert await run.wait() == 0
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    passed = await trio.run_process(command, cwd=project, capture_stdout=True, check=False)
    assert passed.returncode == 0, passed.stdout.decode()
    assert b"2 passed" in passed.stdout


def test_a_protocol_that_there_is_not(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'smoke' is no protocol that there is: mqtt, zenoh"):
        parse(["new", "boiler", "--to", str(tmp_path / "new"), "--protocol", "smoke"])()


def test_its_unit_is_that_of_the_supervisors_folder() -> None:
    """Of what they say, only the command, and where it finds a password, may differ."""

    def directives(text: str) -> set[str]:
        return {line for line in re.findall(r"^\w+=.*", text, re.MULTILINE) if not line.startswith(differ)}

    differ = ("ExecStart=", "LoadCredential=", "Description=")
    ours = (ROOT / "supervisors" / "systemd" / "greenhouse.service").read_text()
    assert directives(project_files("greenhouse")["greenhouse.service"]) == directives(ours)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Boiler", "'Boiler' can't be a project's name: use lower case letters, digits, - and _"),
        ("../x", "'../x' can't be a project's name"),
        ("", "'' can't be a project's name"),
        ("a\nb", r"'a\nb' can't be a project's name"),
        ("x" * 65, "use 1 to 64 letters"),
        ("class", "class is a word of Python's: choose another name"),
        ("json", "there is a module json already, which the project's would hide"),
        ("taktora-trio", "there is a module taktora_trio already"),
    ],
)
def test_a_name_that_can_be_none(name: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        parse(["new", name, "--to", str(tmp_path / "new")])()
    assert os.listdir(tmp_path) == []


def test_where_something_stands_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("kept")
    (tmp_path / "file").write_text("kept")
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("full", "file", "link"):
        with pytest.raises(ConfigError, match=f"{name} is there already: nothing was written"):
            parse(["new", "boiler", "--to", str(tmp_path / name)])()
    with pytest.raises(ConfigError, match=r"can't write a project to .*: Not a directory$"):
        parse(["new", "boiler", "--to", str(tmp_path / "file" / "below")])()
    assert {name: (tmp_path / name).read_text() for name in ("file", "full/mine")} == {
        "file": "kept",
        "full/mine": "kept",
    }
    assert sorted(os.listdir(tmp_path)) == ["file", "full", "link"]
    (tmp_path / "empty").mkdir()
    assert parse(["new", "boiler", "--to", str(tmp_path / "empty")])() == 0


def test_an_empty_folder_stays_the_one_that_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody is in it, or a disk is mounted there."""
    monkeypatch.chdir(tmp_path)
    assert parse(["new", "boiler", "--to", "."])() == 0
    assert "boiler.py" in os.listdir()  # the folder that we are in, and not another of its name
    assert not [name for name in os.listdir() if "unfinished" in name]


def test_a_disk_that_is_full_halfway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was written until then is gone, with the folders that were made for it."""

    def write(file: Path, text: str, encoding: str) -> None:
        if file.suffix == ".toml":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        file.touch()

    monkeypatch.setattr(Path, "write_text", write)
    with pytest.raises(ConfigError, match=r"can't write a project to .*: No space left on device$"):
        parse(["new", "boiler", "--to", str(tmp_path / "a" / "b")])()
    assert os.listdir(tmp_path) == []


def test_a_folder_is_spelled_as_it_is_typed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert parse(["new", "boiler", "--to", str(tmp_path / "my boiler")])() == 0
    assert f"cd '{tmp_path}/my boiler'\n" in capsys.readouterr().out
    odd = str(tmp_path / "a\nb")
    assert parse(["new", "boiler", "--to", odd])() == 0
    assert odd not in capsys.readouterr().out
    with pytest.raises(ConfigError, match=r"a\\nb' is there already"):
        parse(["new", "boiler", "--to", odd])()


def test_a_folder_without_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it comes of a variable that is not set: it is not the present folder."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="--to is empty: give a folder"):
        parse(["new", "boiler", "--to", ""])()
    with pytest.raises(ConfigError, match="--copy is empty: give a folder"):
        parse(["examples", "--copy", ""])()
    assert os.listdir(tmp_path) == []
