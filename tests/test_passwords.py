from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import attrs
import pytest

from taktora_trio import ConfigError
from taktora_trio.passwords import PASSWORD_VARIABLE, hide_password_in_arguments, password_file, read_password

ORIGINAL = ["python", "-m", "taktora_trio"]


def test_a_password_file_is_in_memory_and_can_be_read_again_and_again() -> None:
    fd, path = password_file("s3cret ü")
    try:
        assert not os.get_inheritable(fd)
        assert str(Path(path).readlink()).startswith("/memfd:")
        assert [read_password(Path(path)) for _ in range(2)] == ["s3cret ü", "s3cret ü"]
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"s3cret", "s3cret"), (b"s3cret\n", "s3cret"), (b"s3cret\n\n", "s3cret\n"), (b" s 3 \n", " s 3 "), (b"", "")],
)
def test_only_a_final_line_break_does_not_count(tmp_path: Path, content: bytes, expected: str) -> None:
    file = tmp_path / "password"
    file.write_bytes(content)
    assert read_password(file) == expected


def test_without_a_file_it_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PASSWORD_VARIABLE, raising=False)
    assert read_password(None) is None
    monkeypatch.setenv(PASSWORD_VARIABLE, "from-environment")
    assert read_password(None) == "from-environment"
    file = tmp_path / "password"
    file.write_text("from-file")
    assert read_password(file) == "from-file"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    binary = tmp_path / "binary"
    binary.write_bytes(b"s3cret\xff")
    for path in (tmp_path / "missing", tmp_path, binary):
        with pytest.raises(ConfigError) as caught:
            read_password(path)
        assert f"the password file {path} can't be read" in str(caught.value)
        assert "s3cret" not in str(caught.value)


@attrs.define
class Exec:
    """What would have been executed instead of this program."""

    program: str = ""
    arguments: list[str] = attrs.field(factory=list)

    def __call__(self, program: str, arguments: list[str]) -> None:
        self.program, self.arguments = program, arguments

    @property
    def password(self) -> str | None:
        return read_password(Path(self.arguments[-1]))


@pytest.fixture
def execv(monkeypatch: pytest.MonkeyPatch) -> Iterator[Exec]:
    recorded = Exec()
    monkeypatch.setattr(os, "execv", recorded)
    yield recorded
    if recorded.arguments:
        with suppress(ValueError):
            os.close(int(recorded.arguments[-1].rpartition("/")[2]))


@pytest.mark.parametrize(
    ("given", "shown", "password"),
    [
        (["--broker", "mqtt://me:s3cret@host:1883"], ["--broker", "mqtt://me@host:1883"], "s3cret"),
        (["--broker=mqtts://me:s3cret@host"], ["--broker=mqtts://me@host"], "s3cret"),
        (["--broker", "mqtt://me:s3cret@host"], ["--broker", "mqtt://me@host"], "s3cret"),
        (["--broker", "mqtt://me:p%40%2Fss@host"], ["--broker", "mqtt://me@host"], "p@/ss"),
        (["--broker", "mqtt://me:p@ss@host"], ["--broker", "mqtt://me@host"], "p@ss"),
        (["--broker", "mqtt://me:p:ss@[::1]:1"], ["--broker", "mqtt://me@[::1]:1"], "p:ss"),
    ],
)
def test_a_password_moves_from_the_command_line_to_an_inherited_file(
    execv: Exec, monkeypatch: pytest.MonkeyPatch, given: list[str], shown: list[str], password: str
) -> None:
    arguments = ["run", "app:d", *given, "--log", "json"]
    monkeypatch.setattr(sys, "orig_argv", [*ORIGINAL, *arguments])
    hide_password_in_arguments(arguments)
    assert execv.program == sys.executable
    *start, option, path = execv.arguments
    assert (start, option) == ([*ORIGINAL, "run", "app:d", *shown, "--log", "json"], "--broker-password-file")
    assert os.get_inheritable(int(path.rpartition("/")[2]))
    assert execv.password == password


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["run", "app:d"],
        ["run", "app:d", "--broker", "mqtt://host"],
        ["run", "app:d", "--broker", "mqtt://me@host"],
        ["run", "app:d", "--broker", "mqtt://me:@host"],
        ["run", "app:d", "--broker"],
        ["run", "app:d", "--broker", "mqtt://me:s3cret@[::1"],
        ["run", "mqtt://me:s3cret@host"],
    ],
)
def test_nothing_to_hide(execv: Exec, monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    monkeypatch.setattr(sys, "orig_argv", [*ORIGINAL, *arguments])
    hide_password_in_arguments(arguments)
    assert execv.arguments == []
