"""`taktora-trio examples` lists, prints and copies what comes with the package; `completion` is for shells."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from taktora_trio.cli import parse
from taktora_trio.errors import ConfigError
from taktora_trio.scaffold.shipped import shipped_folders
from tests.command import ROOT


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert not parse(arguments)()
    return capsys.readouterr().out


def test_each_example_is_listed_with_its_purpose(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, "examples").splitlines()
    listed = {line.split(maxsplit=1)[0] for line in lines if line.split(maxsplit=1)[1]}
    assert {f"examples/{file.name}" for file in (ROOT / "examples").glob("[a-z]*.py")} <= listed
    assert {"examples/line_protocol/__init__.py", "supervisors/split.py"} <= listed
    assert {f"supervisors/{unit.parent.name}/{unit.name}" for unit in units()} <= listed


def units() -> list[Path]:
    return [file for file in (ROOT / "supervisors").glob("*/*") if file.suffix in (".service", ".yaml", "")]


@pytest.mark.parametrize("name", ["thermostat", "thermostat.py", "examples/thermostat.py"])
def test_an_example_is_printed_as_it_is(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "examples", name) == (ROOT / "examples" / "thermostat.py").read_text()


def test_an_example_that_is_a_folder_begins_with_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "examples", "tested_app") == (ROOT / "examples" / "tested_app" / "__init__.py").read_text()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("termostat", "there is no example 'termostat': did you mean examples/thermostat.py?"),
        ("xyz", "there is no example 'xyz': `taktora-trio examples` lists them"),
        ("greenhouse", "several are called 'greenhouse': supervisors/kubernetes/greenhouse.yaml, supervisors/systemd/"),
    ],
)
def test_a_name_that_is_none(name: str, said: str) -> None:
    with pytest.raises(ConfigError) as info:
        parse(["examples", name])()
    assert str(info.value).startswith(said)


def test_all_are_copied_and_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "taktora-trio run examples.echo:deployment" in printed(capsys, "examples", "--copy", str(tmp_path))
    for name, folder in shipped_folders().items():
        for file in folder.rglob("*.*"):
            if file.is_file() and "__pycache__" not in file.parts:
                copy = tmp_path / name / file.relative_to(folder)
                assert copy.read_bytes() == file.read_bytes()
                assert not copy.is_symlink()
    shutil.rmtree(tmp_path / "examples")
    (tmp_path / "supervisors" / "mine").write_text("kept")
    with pytest.raises(ConfigError, match="supervisors is there already: nothing was written"):
        parse(["examples", "--copy", str(tmp_path)])()
    assert (tmp_path / "supervisors" / "mine").read_text() == "kept"
    assert not (tmp_path / "examples").exists()


def test_a_copy_that_cant_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"can't copy the examples to .*: .*Not a directory"):
        parse(["examples", "--copy", str(tmp_path / "file")])()
    with pytest.raises(ConfigError, match="give either a name or --copy"):
        parse(["examples", "echo", "--copy", str(tmp_path)])()


def test_a_disk_that_is_full_halfway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def copy(shipped: Path, to: Path, **_: object) -> None:
        if to.name == "supervisors":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        to.mkdir()

    monkeypatch.setattr(shutil, "copytree", copy)
    (tmp_path / "mine").touch()
    with pytest.raises(ConfigError, match=r"can't copy the examples to .*: No space left on device$"):
        parse(["examples", "--copy", str(tmp_path)])()
    assert os.listdir(tmp_path) == ["mine"]
    said = "[Errno 28] No space left on device: 'examples/a' -> 'b'"
    monkeypatch.setattr(shutil, "copytree", lambda *_, **__: (_ for _ in ()).throw(shutil.Error([("a", "b", said)])))
    with pytest.raises(ConfigError, match=r"can't copy the examples to .*: No space left on device$"):
        parse(["examples", "--copy", str(tmp_path)])()
    with pytest.raises(ConfigError, match=r"can't copy the examples to x+\.\.\.: File name too long$"):
        parse(["examples", "--copy", "x" * 500])()


def test_they_are_utf_8_whatever_the_terminal_has() -> None:
    command = [sys.executable, "-m", "taktora_trio", "examples"]
    plain = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for name in ("thermostat", None):
        shown = subprocess.run([*command, *filter(None, [name])], env=plain, capture_output=True, check=True)
        assert not shown.stderr


def test_bash_completes_commands_and_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In a real shell: with the words so far, its completion function gives what may come next."""
    script = tmp_path / "completion"
    script.write_text(printed(capsys, "completion", "bash"))

    def completed(*words: str) -> list[str]:
        spelled = " ".join(f"'{word}'" for word in words)
        function = f"COMP_WORDS=(taktora-trio {spelled}); COMP_CWORD={len(words)}; _taktora_trio"
        shown = subprocess.run(
            ["bash", "--norc", "-c", f'. {script}; {function}; printf "%s\\n" "${{COMPREPLY[@]}}"'],
            capture_output=True,
            text=True,
            check=True,
        )
        assert not shown.stderr
        return shown.stdout.split()

    assert "run" in completed("r")
    assert "dead-letters" in completed("dead")
    assert "--mode" in completed("run", "--mo")
    assert completed("run", "--mode", "sp") == ["split"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "explain-policy" in printed(capsys, "completion", shell)


def test_a_shell_that_is_not_known() -> None:
    with pytest.raises(ConfigError, match="tcsh"):
        parse(["completion", "tcsh"])()
