"""`taktora-trio channels` and `taktora-trio asyncapi`, and what they say to bad input."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from taktora_trio import ConfigError
from taktora_trio.declare import files
from tests.declare.rig import perform

KINDS = "tests.declare.kinds:deployment"
THERMOSTAT = "examples.thermostat:deployment"
Capture = pytest.CaptureFixture[str]


def refused(capsys: Capture, *arguments: str) -> str:
    """Return the one line that the command says."""
    code, output, errors = perform(capsys, *arguments)
    assert (code, output) == (2, "")
    [line] = errors.splitlines()
    return line


def test_the_table_of_channels(capsys: Capture) -> None:
    code, output, errors = perform(capsys, "channels", THERMOSTAT)
    assert (code, errors) == (0, "")
    assert output == (
        "channel    direction  connector  topic                type     QoS  retain  max payload  window\n"
        "-----------------------------------------------------------------------------------------------\n"
        "readings   out        mqtt       plant/hall/reading   Reading  1    yes           4,096      64\n"
        "schedule   out        mqtt       plant/hall/setpoint  float    1                  4,096      64\n"
        "setpoints  in         mqtt       plant/+/setpoint     float    1                  4,096      64\n"
    )


def test_the_channels_as_json(capsys: Capture) -> None:
    channels = json.loads(perform(capsys, "channels", KINDS, "--json")[1])
    [read] = [one for one in channels if one["name"] == "read"]
    assert read == {
        "name": "read",
        "direction": "in",
        "connector": "mqtt",
        "topic": "$share/workers/plant/{unit}/set/+",
        "type": "tests.declare.kinds.Reading",
        "codec": "json",
        "qos": 1,
        "retain": False,
        "max_payload": 100,
        "max_topic": 512,
        "max_metadata": 0,
        "window": 8,
        "acknowledge": "when-done",
    }
    table = perform(capsys, "channels", KINDS)[1].splitlines()
    assert len(table) == len(channels) + 2
    assert "Start | tests.declare.kinds.Stop" in perform(capsys, "channels", KINDS)[1]


def test_the_document_in_both_formats_is_the_same(capsys: Capture, tmp_path: Path) -> None:
    printed = perform(capsys, "asyncapi", KINDS)[1]
    assert perform(capsys, "asyncapi", KINDS, "--output", str(tmp_path / "a.yaml")) == (0, "", "")
    assert perform(capsys, "asyncapi", KINDS, "--output", str(tmp_path / "a.json")) == (0, "", "")
    assert perform(capsys, "asyncapi", KINDS, "--format", "json", "--output", str(tmp_path / "b")) == (0, "", "")
    document = yaml.safe_load(printed)
    assert document["info"] == {
        "title": "kinds",
        "version": "2.7.1",
        "description": "A plant with channels of every kind of topic and of message type.",
    }
    assert (tmp_path / "a.yaml").read_text() == printed
    assert json.loads((tmp_path / "a.json").read_text()) == document
    assert (tmp_path / "b").read_text() == (tmp_path / "a.json").read_text()
    assert "&" not in printed  # no anchors, which few people read


def test_a_version_and_servers_may_be_given(capsys: Capture) -> None:
    arguments = ("--app-version", "9", "--server", "mqtt=mqtts://user:secret@one", "--server", "raw=mqtt://two")
    printed = perform(capsys, "asyncapi", KINDS, *arguments)[1]
    document = yaml.safe_load(printed)
    assert document["info"]["version"] == "9"
    assert {name: one["host"] for name, one in document["servers"].items()} == {"mqtt": "one:8883", "raw": "two:1883"}
    assert "secret" not in printed


def changed(tmp_path: Path, capsys: Capture, old: str, new: str) -> Path:
    """Write the document of a plant of before, in which something was different; return its path."""
    path = tmp_path / "old.yaml"
    text = perform(capsys, "asyncapi", THERMOSTAT)[1]
    assert new in text
    path.write_text(text.replace(new, old))
    return path


def test_nothing_has_changed(capsys: Capture, tmp_path: Path) -> None:
    perform(capsys, "asyncapi", KINDS, "--output", str(path := tmp_path / "old.yaml"))
    assert perform(capsys, "asyncapi", KINDS, "--against", str(path), "--all-changes") == (0, "", "")


def test_a_breaking_change_is_one_line_and_exit_code_1_and_nothing_is_written(capsys: Capture, tmp_path: Path) -> None:
    old = changed(tmp_path, capsys, old="qos: 2\n        retain: true", new="qos: 1\n        retain: true")
    before = old.read_bytes()
    arguments = ("asyncapi", THERMOSTAT, "--against", str(old), "--output", str(old))
    assert perform(capsys, *arguments) == (1, "breaking: mqtt.readings: qos of mqtt was 2, is 1\n", "")
    assert old.read_bytes() == before
    assert [*tmp_path.iterdir()] == [old]


def test_a_compatible_change_is_said_if_asked_for_and_the_document_is_written(capsys: Capture, tmp_path: Path) -> None:
    old = changed(tmp_path, capsys, old="qos: 0\n        retain: true", new="qos: 1\n        retain: true")
    arguments = ("asyncapi", THERMOSTAT, "--against", str(old))
    assert perform(capsys, *arguments) == (0, "", "")
    said = "compatible: mqtt.readings: qos of mqtt was 0, is 1\n"
    assert perform(capsys, *arguments, "--all-changes") == (0, said, "")
    assert perform(capsys, *arguments, "--output", str(old)) == (0, "", "")
    assert old.read_text() == perform(capsys, "asyncapi", THERMOSTAT)[1]


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("old.yaml", None, ["can't read", "old.yaml", "No such file"]),
        ("old.yaml", b"a: [", ["is no YAML", "line 1"]),
        ("old.yaml", b"\xff\xfe\xfa", ["is no YAML"]),
        ("old.yaml", b"[" * 1500, ["is no YAML"]),
        ("old.yaml", b"!!python/object/apply:os.system ['false']", ["is no YAML"]),
        ("old.json", b"{", ["is no JSON"]),
        ("old.json", b"\xff", ["is no JSON"]),
        ("old.yaml", b"", ["no AsyncAPI document"]),
        ("old.yaml", b"just a text", ["no AsyncAPI document"]),
        ("old.yaml", b"openapi: 3.0.0", ["no AsyncAPI document"]),
        ("old.yaml", b"asyncapi: 2.6.0", ["AsyncAPI 2.6.0", "convert"]),
        ("old.yaml", b"asyncapi: 3.0", ["AsyncAPI 3.0", "convert"]),
        ("old.yaml", b"asyncapi: 3.0.0\noperations: {a: {$ref: '#/nothing'}}", ["leads to nothing"]),
        ("old.yaml", b"asyncapi: 3.0.0\noperations: {a: {$ref: 'other.yaml'}}", ["leads out of the document"]),
        ("old.yaml", b"asyncapi: 3.0.0\noperations: {a: {$ref: '#/operations/a'}}", ["leads to itself"]),
    ],
)
def test_a_bad_old_document(
    name: str, content: bytes | None, parts: list[str], capsys: Capture, tmp_path: Path
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    line = refused(capsys, "asyncapi", THERMOSTAT, "--against", str(path), "--output", str(tmp_path / "new.yaml"))
    for part in parts:
        assert part in line
    assert not (tmp_path / "new.yaml").exists()
    assert len(line) < 1000


@pytest.mark.parametrize(
    "content",
    [
        "operations: 5",
        "operations: {a: 5, b: {channel: 7}, c: {channel: {$ref: 3}}}\nchannels: [1]",
        "operations: {a: {action: send, channel: {$ref: '#/channels/mqtt.readings'}, messages: [1], bindings: 5}}\n"
        "channels: {mqtt.readings: {address: [], x-max-payload: much, messages: 7}}",
        "operations: {a: {action: send, channel: {$ref: '#/channels/mqtt.readings'}}}\n"
        "channels: {mqtt.readings: {address: null, messages: {m: {contentType: application/json, payload: {anyOf: 5,"
        " required: {}, properties: [], enum: 7, type: [8]}}}}}",
    ],
)
def test_an_old_document_that_is_nonsense_below_is_compared_as_it_is(
    content: str, capsys: Capture, tmp_path: Path
) -> None:
    (old := tmp_path / "old.yaml").write_text(f"asyncapi: 3.0.0\n{content}")
    code, _, errors = perform(capsys, "asyncapi", THERMOSTAT, "--against", str(old), "--all-changes")
    assert (code in (0, 1), errors) == (True, "")


def test_a_document_that_never_ends_is_refused(capsys: Capture, tmp_path: Path) -> None:
    """YAML can have lists that contain themselves."""
    (old := tmp_path / "old.yaml").write_text(
        "asyncapi: 3.0.0\n"
        "operations: {a: {action: send, channel: {$ref: '#/channels/mqtt.readings'}}}\n"
        "channels: {mqtt.readings: {messages: {m: {contentType: application/json, payload: &a {anyOf: [*a, *a]}}}}}\n"
    )
    assert "too large" in refused(capsys, "asyncapi", THERMOSTAT, "--against", str(old))


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["asyncapi", "nosuch:deployment"], ["no module 'nosuch'"]),
        (["channels", "nosuch:deployment"], ["no module 'nosuch'"]),
        (["channels", "examples.echo"], ["MODULE:DEPLOYMENT"]),
        (["asyncapi", THERMOSTAT, "--format", "xml"], ["xml"]),
        (["asyncapi", THERMOSTAT, "--all-changes"], ["--against FILE"]),
        (["asyncapi", THERMOSTAT, "--against", "x", "--format", "json"], ["--output FILE"]),
        (["asyncapi", THERMOSTAT, "--server", "cloud=mqtt://host"], ["'cloud'", "mqtt"]),
        (["asyncapi", THERMOSTAT, "--server", "host"], ["mqtt://"]),
        (["asyncapi", THERMOSTAT, "--server", "@/no/such/file"], ["--server"]),
        (["asyncapi", "examples.line_protocol:deployment", "--server", "mqtt://host"], ["no URLs"]),
        (["asyncapi", THERMOSTAT, "--output", "/no/such/folder/a.yaml"], ["can't write", "No such file"]),
        (["asyncapi", THERMOSTAT, "--output", "/tmp"], ["can't write", "directory"]),
    ],
)
def test_bad_input(arguments: list[str], parts: list[str], capsys: Capture) -> None:
    line = refused(capsys, *arguments)
    for part in parts:
        assert part in line


def test_without_yaml_its_extra_is_named_and_json_is_written(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path := tmp_path / "a.yaml").write_text("before")
    monkeypatch.setitem(sys.modules, "yaml", None)
    assert "taktora-trio[asyncapi]" in refused(capsys, "asyncapi", THERMOSTAT, "--output", str(path))
    assert "taktora-trio[asyncapi]" in refused(capsys, "asyncapi", THERMOSTAT, "--against", str(path))
    assert path.read_text() == "before"
    assert perform(capsys, "asyncapi", THERMOSTAT, "--output", str(tmp_path / "a.json")) == (0, "", "")


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path := tmp_path / "a.yaml").write_text("before")
    path.chmod(0o640)

    def fail(fd: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(ConfigError, match="No space left"):
            files.write_whole(path, b"after")
    assert [one.read_text() for one in tmp_path.iterdir()] == ["before"]
    (link := tmp_path / "link").symlink_to(path)
    files.write_whole(link, b"after")
    assert path.read_text() == "after"
    assert link.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_device_is_written_and_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(pipe := tmp_path / "pipe")
    fd = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        files.write_whole(pipe, b"after")
        assert os.read(fd, 100) == b"after"
    finally:
        os.close(fd)
    assert pipe.is_fifo()


def document_text(value: Any) -> str:
    return files.encoded(value, "yaml").decode()


def test_texts_of_several_lines_are_written_as_they_look() -> None:
    assert document_text({"a": "one\ntwo", "b": [1], "c": "ü: #"}) == "a: |-\n  one\n  two\nb:\n- 1\nc: 'ü: #'\n"


def test_a_pipe_and_a_device_are_written_to(capsys: Capture, tmp_path: Path) -> None:
    """`--output /dev/stdout | less`, and `>(program)`: what a link leads to there has no path."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as pipe:
        with os.fdopen(writing, "wb"):
            assert perform(capsys, "asyncapi", THERMOSTAT, "--output", f"/dev/fd/{writing}") == (0, "", "")
        assert pipe.read().startswith(b"asyncapi: 3.0.0\n")
    (tmp_path / "circle").symlink_to("circle")
    assert "links lead in a circle" in refused(capsys, "asyncapi", THERMOSTAT, "--output", str(tmp_path / "circle"))


def test_a_document_without_an_end(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_LARGEST", 1000)
    assert "more than 1000 bytes" in refused(capsys, "asyncapi", THERMOSTAT, "--against", "/dev/zero")


@pytest.mark.parametrize("command", ["channels --json", "asyncapi --format json", "config --json", "plan --json"])
def test_what_the_module_prints_is_no_part_of_the_result(
    command: str, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    name = f"talkative_{command.split()[0]}"
    (tmp_path / f"{name}.py").write_text("from examples.thermostat import deployment\nprint('hello')\n")
    first, *options = command.split()
    code, output, errors = perform(capsys, first, f"{name}:deployment", *options)
    assert (code, errors) == (0, "hello\n")
    json.loads(output)
