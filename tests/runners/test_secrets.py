from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taktora_trio import ConfigError
from taktora_trio.cli import app, parse
from taktora_trio.connectors.mqtt.address import BrokerAddress
from taktora_trio.escaping import escaped
from taktora_trio.runners.secrets import (
    COMMANDS_WITH_PASSWORD,
    hide_secrets,
    memory_file,
    read_secret,
    read_url,
    variable_of,
)

PASSWORD_VARIABLE = "TAKTORA_BROKER_PASSWORD"
ORIGINAL = ["python", "-m", "taktora_trio"]
RUN = ["run", "app:d", "--log", "json"]


def test_a_password_file_is_in_memory_and_can_be_read_again_and_again() -> None:
    fd, path = memory_file("s3cret ü".encode(), "password")
    try:
        assert not os.get_inheritable(fd)
        assert str(Path(path).readlink()).startswith("/memfd:")
        assert [read_secret(Path(path)) for _ in range(2)] == ["s3cret ü".encode()] * 2
    finally:
        os.close(fd)


def test_once_it_was_read_no_child_inherits_it() -> None:
    fd, path = memory_file(b"s3cret", "password")
    try:
        os.set_inheritable(fd, True)
        read_secret(Path(path))
        assert not os.get_inheritable(fd)
    finally:
        os.close(fd)


@given(
    st.binary()
    | st.builds(lambda *parts: b"".join(parts), *[st.sampled_from([b"", b"\xef\xbb\xbf", b"\r", b"\n"])] * 4)
)
def test_whatever_bytes_it_has_they_come_out_as_they_went_in(password: bytes) -> None:
    fd, path = memory_file(password, "password")
    try:
        assert read_secret(Path(path)) == password
    finally:
        os.close(fd)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_url_too(text: str) -> None:
    fd, path = memory_file(text.encode(), "url")
    try:
        assert read_url(f"@{path}", "the file") == text
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"s3cret", b"s3cret"),
        (b"s3cret\n", b"s3cret"),
        (b"s3cret\r\n", b"s3cret"),
        (b"s3cret\n\n", b"s3cret\n"),
        (b"\xef\xbb\xbfs3cret\r\n", b"s3cret"),
        (b" s 3 \n", b" s 3 "),
        (b"s3cret\xff", b"s3cret\xff"),
        (b"", b""),
    ],
)
def test_only_a_final_line_break_and_a_mark_do_not_count(tmp_path: Path, content: bytes, expected: bytes) -> None:
    file = tmp_path / "password"
    file.write_bytes(content)
    assert read_secret(file) == expected


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path, Path("a\0b")):
        with pytest.raises(ConfigError, match="can't be read") as caught:
            read_secret(path)
        assert f"the password file {escaped(str(path))} " in str(caught.value)


def test_a_file_that_is_too_large_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(b"s" * 65_536)
    for path in (large, Path("/dev/zero")):
        with pytest.raises(ConfigError, match=f"the password file {path} has more than"):
            read_secret(path)


@attrs.define
class Exec:
    """The program that would have been executed instead of this one."""

    program: str = ""
    arguments: list[str] = attrs.field(factory=list)

    def __call__(self, program: str, arguments: list[str]) -> None:
        self.program, self.arguments = program, arguments

    def hide(self, *arguments: str, first: Sequence[str] = ()) -> list[str]:
        """The arguments of the program that goes on, if another one does."""
        sys.orig_argv = [*ORIGINAL, *arguments]
        hide_secrets(first, arguments)
        if self.arguments:
            assert (self.program, self.arguments[:3]) == (sys.executable, [sys.executable, *ORIGINAL[1:]])
        return self.arguments[3:]


def memory_files() -> set[int]:
    links = [Path(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
    return {int(link.name) for link in links if link.is_symlink() and str(link.readlink()).startswith("/memfd:")}


@pytest.fixture
def execv(monkeypatch: pytest.MonkeyPatch) -> Iterator[Exec]:
    recorded = Exec()
    monkeypatch.setattr(os, "execv", recorded)
    monkeypatch.setattr(sys, "orig_argv", [])
    monkeypatch.delenv(PASSWORD_VARIABLE, raising=False)
    before = memory_files()
    yield recorded
    for fd in memory_files() - before:
        os.close(fd)


@pytest.mark.parametrize(
    ("url", "password"),
    [
        ("mqtt://me:s3cret@host:1883", b"s3cret"),
        ("MQTT://me:s3cret@host:1883", b"s3cret"),
        ("mqtt://me:p%40%2Fss@host", b"p@/ss"),
        ("mqtt://me:p@ss@host", b"p@ss"),
        ("mqtt://me:p:ss@[::1]:1", b"p:ss"),
        ("mqtt://:s3cret@host", b"s3cret"),
        ("mqtt://m%40e:s3cret@host", b"s3cret"),
        ("mqtt://me:%FF\udcff@host", b"\xff\xff"),  # the second one came as a byte
        ("ws://me:s3cret@host/path", b"s3cret"),
        ("wss://host/path?token=s3cret", None),
        ("unix://me:s3cret@/path@x", b"s3cret"),
    ],
)
@pytest.mark.parametrize("form", [("--broker", "{}"), ("--broker={}",), ("{}",), ("--brokr={}",)])
def test_a_url_with_a_secret_moves_into_memory_in_each_form(
    execv: Exec, url: str, password: bytes | None, form: tuple[str, ...]
) -> None:
    *before, argument = (part.format(url) for part in form)
    *start, shown = execv.hide(*RUN, *before, argument)
    assert start == [*RUN, *before]
    option, _, value = shown.rpartition("@")
    assert option == argument.removesuffix(url)
    assert os.get_inheritable(int(value.rpartition("/")[2]))
    assert read_url(f"@{value}", "the file") == url
    assert BrokerAddress.parse(read_url(f"@{value}", "the file")).password == password


@pytest.mark.parametrize(
    "urls", ["mqtt://a,mqtt://me:s3cret@b", "mqtt://me:s3cret@a,mqtt://b", "mqtt://me@a,ws://b/?t=s3cret,mqtt://c"]
)
def test_a_list_with_a_secret_in_it_moves_as_a_whole(execv: Exec, urls: str) -> None:
    *_, shown = execv.hide(*RUN, f"--broker=plant={urls}")
    assert shown.startswith("--broker=plant=@")
    assert read_url(shown.removeprefix("--broker=plant="), "the file") == urls


@pytest.mark.parametrize("url", ["mqtt://me:s3cret@[::1", "ws://me:pass/s3cret@host", "mqtt://me:s3cret#@host"])
def test_a_url_that_is_wrong_does_too(execv: Exec, url: str) -> None:
    assert "s3cret" not in "".join(execv.hide(*RUN, "--broker", url))


def test_the_variable_moves_into_memory(execv: Exec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environb, PASSWORD_VARIABLE.encode(), b"s3cret\xff\n")
    command, option, path, *rest = execv.hide(*RUN)
    assert [command, *rest] == RUN
    assert option == "--broker-password-file"
    assert PASSWORD_VARIABLE not in os.environ
    assert os.get_inheritable(int(path.rpartition("/")[2]))
    assert variable_of(Path(path)) == PASSWORD_VARIABLE
    assert read_secret(Path(path)) == b"s3cret\xff\n"


def test_so_does_one_of_any_protocol(execv: Exec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAKTORA_BASE_STATION_PASSWORD", "of another")
    monkeypatch.setenv("TAKTORA__PASSWORD", "of none")
    monkeypatch.setenv(PASSWORD_VARIABLE, "s3cret")
    command, *options = execv.hide(*RUN)
    passwords = {options[0]: options[1], options[2]: options[3]}
    assert passwords.keys() == {"--base-station-password-file", "--broker-password-file"}
    assert read_secret(Path(passwords["--base-station-password-file"])) == b"of another"
    assert [command, *options[4:]] == RUN
    assert "TAKTORA__PASSWORD" in os.environ


@pytest.mark.parametrize("form", [["--broker-password-file", "a=file"], ["--broker-password-file=a=file"]])
def test_the_variable_goes_along_with_a_file_for_one_connector(
    execv: Exec, monkeypatch: pytest.MonkeyPatch, form: list[str]
) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, "s3cret")
    command, option, path, *rest = execv.hide(*RUN, *form)
    assert (option, [command, *rest]) == ("--broker-password-file", [*RUN, *form])
    assert variable_of(Path(path)) == PASSWORD_VARIABLE


@pytest.mark.parametrize("form", [["--broker", "a-1=mqtt://me:s3cret@host"], ["--broker=a-1=mqtt://me:s3cret@host"]])
def test_of_a_url_for_one_connector_its_name_stays(execv: Exec, form: list[str]) -> None:
    *_, shown = execv.hide(*RUN, *form)
    before, _, path = shown.rpartition("@")
    assert before == form[-1].partition("mqtt:")[0]
    assert read_url(f"@{path}", "the file") == "mqtt://me:s3cret@host"


def test_no_command_that_logs_in_goes_without_it() -> None:
    """`plugin` alone has the options of a broker and does not log in."""
    takes = {name for name in app if not name.startswith("-") and takes_settings(name)}
    assert takes - {"plugin"} == set(COMMANDS_WITH_PASSWORD)


def takes_settings(command: str) -> bool:
    """Return true if connectors' settings, such as `--broker-password-file`, are options of it."""
    try:
        parse([command, "app:d", *(["--mode", "split"] if command == "run" else []), "--broker-password-file", "f"])
    except ConfigError:
        return False
    return True


def test_it_comes_behind_the_words_of_a_script(execv: Exec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, "s3cret")
    option, path, *rest = execv.hide("app:d", first=["run", "--mode", "split"])
    assert (option, rest) == ("--broker-password-file", ["app:d"])
    assert read_secret(Path(path)) == b"s3cret"


@pytest.mark.parametrize(
    "arguments",
    [
        ["plugin", "app:d"],
        ["plan", "app:d"],
        ["chaos"],
        [],
        [*RUN, "--broker-password-file", "file"],
        [*RUN, "--broker-password-file=file"],
    ],
)
def test_the_variable_is_dropped_where_nobody_wants_it(
    execv: Exec, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, "s3cret")
    assert execv.hide(*arguments) == arguments
    assert execv.program, "it has to start again: the first environment stays where it was"
    assert PASSWORD_VARIABLE not in os.environ


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        RUN,
        [*RUN, "--broker", "mqtt://host"],
        [*RUN, "--broker", "mqtt://me@host"],
        [*RUN, "--broker", "mqtt://me:@host"],
        [*RUN, "--broker", "ws://host/path"],
        [*RUN, "--broker", "@file"],
        [*RUN, "--broker"],
    ],
)
def test_nothing_to_hide(execv: Exec, arguments: list[str]) -> None:
    execv.hide(*arguments)
    assert not execv.program


def test_a_program_that_was_started_otherwise_goes_on_with_what_is_hidden(
    execv: Exec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, "s3cret")
    monkeypatch.setattr(sys, "orig_argv", ["python", "of_its_own.py"])
    command, _, path, *_, url = hide_secrets([], [*RUN, "--broker", "mqtt://me:pw@host"])
    assert not execv.program
    assert command == "run"
    assert read_secret(Path(path)) == b"s3cret"
    assert read_url(url, "the file") == "mqtt://me:pw@host"
    assert PASSWORD_VARIABLE not in os.environ
