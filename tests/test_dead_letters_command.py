"""`taktora-trio dead-letters`: on the file of a deployment that does not run. With one that runs: tests/deployment/."""

from __future__ import annotations

import base64
import contextlib
import json
import sqlite3
import stat
from pathlib import Path
from typing import Any

import pytest

from taktora_trio import ConfigError, Metadata
from taktora_trio.cli import parse
from taktora_trio.connectors.dead_letters.file import DeadLetterFile
from taktora_trio.connectors.dead_letters.letter import DEAD_LETTERS, DeadLetter
from tests.command import run_command

DOMAIN = "no-such-run"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DeadLetterFile:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    return DeadLetterFile(tmp_path / "state" / "deployments" / DOMAIN / DEAD_LETTERS)


def put(file: DeadLetterFile, payload: bytes = b"", channel: str = "in", **more: Any) -> None:
    given: dict[str, Any] = {"connector": "line", "topic": "t/1", "reason": "it kills", "deliveries": 5, "at": 0.0}
    letter = DeadLetter(payload=payload, channel=channel, **{**given, **more})
    file.put([letter], max_messages=99, max_bytes=2**20)


def lines(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    """Return the lines that a command prints; it must end well."""
    capsys.readouterr()
    assert parse(["dead-letters", *arguments, "--domain", DOMAIN])() == 0
    output, errors = capsys.readouterr()
    assert errors == ""
    return output.splitlines()


def test_the_list_is_a_table(file: DeadLetterFile, capsys: pytest.CaptureFixture[str]) -> None:
    assert lines(capsys, "list") == [f"no dead letters in {file.path}"]
    put(file, bytes(1000), reason="it kills\x1b[2J")
    put(file, b"x", topic="t/\n", channel="other", deliveries=12)
    assert lines(capsys, "list") == [
        "number  time (UTC)           channel  topic  bytes  deliveries  reason",
        "     1  1970-01-01 00:00:00  in       t/1     1000           5  it kills\\x1b[2J",
        "     2  1970-01-01 00:00:00  other    t/\\n       1          12  it kills",
    ]
    assert len(lines(capsys, "list", "--channel", "other")) == len(lines(capsys, "list", "2-9")) == 2
    file.put(
        [DeadLetter(connector="line", channel="in", topic="", payload=b"", reason="", deliveries=1)],
        max_messages=1,
        max_bytes=2**20,
    )
    assert lines(capsys, "list")[-1] == "2 older ones were discarded, since there was no more room"


def test_one_is_shown_with_all_that_is_known_of_it(file: DeadLetterFile, capsys: pytest.CaptureFixture[str]) -> None:
    put(
        file,
        'ä {\n\t"a": 1}'.encode(),
        metadata=Metadata(content_type="text/\x07"),
        correlation_id=b"\xff",
        retained=True,
    )
    put(file, b"\x00\x1b[2Jtext and bytes")
    put(file, b"\xc3\xa4" * 10_000)
    assert lines(capsys, "show", "1") == [
        "number          1",
        "time            1970-01-01 00:00:00 UTC",
        "connector       line",
        "channel         in",
        "topic           t/1",
        "deliveries      5",
        "reason          it kills",
        "retained        yes",
        "correlation id  0xff",
        "metadata        Metadata(content_type='text/\\x07', response_topic='', message_expiry=None,"
        " user_properties=())",
        "payload         13 bytes",
        "    ä {",
        '    \\t"a": 1}',
    ]
    assert lines(capsys, "show", "2")[-2:] == [
        "    000000  00 1b 5b 32 4a 74 65 78 74 20 61 6e 64 20 62 79  ..[2Jtext and by",
        "    000010  74 65 73                                         tes",
    ]
    cut = lines(capsys, "show", "3")
    assert cut[-2:] == [
        "    " + "ä" * 8192,
        "    ... and 3616 bytes more: `taktora-trio dead-letters export` has them",
    ]
    assert [line[-1] for line in lines(capsys, "show", "--all") if line.startswith("number ")] == ["1", "2", "3"]


def test_they_are_exported_as_they_came(
    file: DeadLetterFile, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    put(file, b"\0\xff", metadata=Metadata(user_properties=(("a", "b"),)), correlation_id=b"id")
    put(file, b"x", channel="other")
    exported = [json.loads(line) for line in lines(capsys, "export")]
    assert base64.b64decode(exported[0].pop("payload")) == b"\0\xff"
    assert base64.b64decode(exported[0].pop("correlation_id")) == b"id"
    assert exported[0].pop("metadata")[-1] == [["a", "b"]]
    assert exported[0] == {
        "number": 1, "connector": "line", "channel": "in", "topic": "t/1", "reason": "it kills", "deliveries": 5,
        "retained": False, "at": "1970-01-01T00:00:00+00:00", "send_asked": None,
    }  # fmt: skip
    to = tmp_path / "exported"
    assert lines(capsys, "export", "--channel", "other", "--to", str(to)) == [f"1 dead letter in {to}"]
    assert [json.loads(line)["number"] for line in to.read_text().splitlines()] == [2]
    assert stat.S_IMODE(to.stat().st_mode) == 0o600
    with pytest.raises(ConfigError, match=f"can't write {to}: File exists"):
        lines(capsys, "export", "--to", str(to))
    assert len(file.all()) == 2


def test_they_are_marked_for_the_next_gateway_where_none_runs(
    file: DeadLetterFile, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(5):
        put(file, channel=f"in{number % 2}")
    said = [f"2 dead letters marked; the next gateway of domain {DOMAIN} sends them to the app"]
    assert lines(capsys, "send", "2", "5") == said
    assert [letter.number for letter in file.to_send("line", ["in0", "in1"], 99)] == [2, 5]
    assert "to be sent again; it kills" in lines(capsys, "list")[2]
    lines(capsys, "send", "--channel", "in0")
    assert [letter.number for letter in file.to_send("line", ["in0", "in1"], 99)] == [1, 2, 3, 5]


def test_they_are_discarded(file: DeadLetterFile, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(5):
        put(file, channel=f"in{number % 2}")
    assert lines(capsys, "discard", "1-2", "4") == ["3 dead letters discarded"]
    assert lines(capsys, "discard", "--all") == ["2 dead letters discarded"]
    assert lines(capsys, "discard", "--all") == ["0 dead letters discarded"]


def test_a_deployment_names_its_domain(file: DeadLetterFile, capsys: pytest.CaptureFixture[str]) -> None:
    assert parse(["dead-letters", "list", "examples.echo:deployment"])() == 0
    echo = file.path.parent.parent / "echo" / DEAD_LETTERS
    assert capsys.readouterr().out == f"no dead letters in {echo}\n"


def test_a_run_that_was_given_a_store_has_them_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAKTORA_STORE", str(tmp_path / "by variable"))
    assert lines(capsys, "list") == [f"no dead letters in {tmp_path / 'by variable' / DEAD_LETTERS}"]
    there = f"no dead letters in {tmp_path / DEAD_LETTERS}"
    assert lines(capsys, "list", "--store", str(tmp_path)) == [there]
    assert lines(capsys, "list", "examples.echo:deployment", "--store", str(tmp_path)) == [there]


def test_a_file_of_a_newer_version_is_refused_before_anything_starts(file: DeadLetterFile) -> None:
    put(file)
    with contextlib.closing(sqlite3.connect(file.path)) as database:
        database.execute("PRAGMA user_version = 2")
    for command in (["dead-letters", "list"], ["run", "examples.echo:deployment", "--mode", "in-process"]):
        with pytest.raises(ConfigError, match="was made by a newer version of taktora-trio"):
            parse([*command, "--domain", DOMAIN])()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["list"], "say which deployment: MODULE:DEPLOYMENT, or --domain NAME"),
        (["list", "examples.echo:nothing"], "no Deployment named 'nothing'"),
        (["list", "--domain", "../x"], "domain '../x': use 1 to 64 letters"),
        (["discard", "--domain", DOMAIN], "say which dead letters: their numbers, --channel NAME, or --all"),
        (["send", "--domain", DOMAIN], "say which dead letters"),
        (["send", "--domain", DOMAIN, "--all", "3"], "--all is all that there are"),
        (["send", "--domain", DOMAIN, "9"], "there is no dead letter 9 in"),
        (["send", "--domain", DOMAIN, "7-9"], "there is no dead letter 7-9 in"),
        (["send", "--domain", DOMAIN, "9-7"], "there is nothing in 9-7: write 7-9"),
        (["send", "a:b", "1x"], "'1x' is no number of a letter: write 7 or 7-12"),
        (["resend", "1"], 'Unknown command "resend"'),
        (["send", "--number", "1"], "--number"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(file: DeadLetterFile, arguments: list[str], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(["dead-letters", *arguments])()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_the_command_itself(file: DeadLetterFile) -> None:
    code, output, _ = await run_command("dead-letters", "--help")
    assert code == 0
    assert "taktora-trio dead-letters send greenhouse:deployment 7-12 15" in output
    file.path.parent.mkdir(parents=True)
    file.path.write_bytes(b"no database" * 100)
    code, output, errors = await run_command("dead-letters", "list", "--domain", DOMAIN)
    assert (code, output) == (1, "")
    assert errors == f"taktora-trio: {file.path} is damaged: file is not a database"
