"""`echo` shows the messages of a run, and `hz` how often they come; the run has no part in it."""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from typing import Any

import pytest
import trio

from taktora_trio import Domain, JsonCodec, RawCodec
from taktora_trio.cli import parse
from taktora_trio.errors import ConfigError, NoSuchDomain
from taktora_trio.operate.monitoring.echo import as_json, as_line, show_messages
from taktora_trio.operate.monitoring.hz import Seen, watch_rates
from taktora_trio.recorder.follower import open_follower
from taktora_trio.runners.command.the_run import the_run
from taktora_trio.transport.segments import SHM
from tests.host.rig import open_channel
from tests.vitals.pages import open_run


async def test_messages_are_shown_in_lines(domain: Domain, capsys: pytest.CaptureFixture[str]) -> None:
    async with open_channel(domain, dict[str, Any], JsonCodec(), max_payload=1000) as (writer, _):
        with open_follower(domain) as follower:
            for value in ({"text": "südß\x1b[2J"}, {"n": 2}, {"n": 3}):
                await writer.send(value)
            await show_messages(follower, 2, as_line)
            first, second = capsys.readouterr().out.splitlines()
            assert first[12:] == '  c  {"text":"südß\\u001b[2J"}'
            assert second[12:] == '  c  {"n":2}'


async def test_all_of_a_message_as_json(domain: Domain, capsys: pytest.CaptureFixture[str]) -> None:
    async with open_channel(domain, bytes, RawCodec(), max_payload=1000) as (writer, _):
        with open_follower(domain) as follower:
            await writer.send(b"\xff\n")
            await writer.send(b"plain\x1b")
            [binary, text] = follower.take()
    found = json.loads(as_json(binary))
    assert (found["channel"], found["direction"], found["number"], found["payload"]) == ("c", "out", 1, "/wo=")
    assert found["time"].endswith("+00:00")
    assert "\n" not in as_json(binary)
    assert as_line(binary).endswith("  0xff0a")
    assert as_line(text).endswith("  plain\\x1b")


async def test_what_is_not_seen_is_counted(domain: Domain, capsys: pytest.CaptureFixture[str]) -> None:
    async with open_channel(domain, bytes, RawCodec(), window=4) as (writer, reader):
        with open_follower(domain) as follower:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_drain, reader)
                for _ in range(20):
                    await writer.send(b"x")
                await show_messages(follower, 1, as_line)
                nursery.cancel_scope.cancel()
    assert "messages were not seen" in capsys.readouterr().err


async def _drain(reader: Any) -> None:
    async for _ in reader:
        pass


async def test_rates(domain: Domain, capsys: pytest.CaptureFixture[str]) -> None:
    """By their times in shared memory, whenever they are looked at."""
    async with open_channel(domain, bytes, RawCodec(), window=64) as (writer, _):
        with open_follower(domain) as follower:
            seen = Seen(follower.channels, json=True)
            assert not seen.has_any
            for _ in range(10):
                await writer.send(b"x")
            seen.tell(2.0)
            await writer.send(b"x")
            seen.tell(2.0)
            seen.conclude()
            assert seen.has_any
            first, second, every = map(json.loads, capsys.readouterr().out.splitlines())
            assert (first["messages"], first["rate"], first["all"]) == (10, 5.0, False)
            assert 0 <= first["min"] <= first["mean"] <= first["max"] < 60
            assert (second["messages"], second["rate"], second["jitter"]) == (1, 0.5, None)
            assert second["mean"] > 0  # since the last one of the interval before
            assert (every["messages"], every["seconds"], every["all"]) == (11, 4.0, True)
            table = Seen(follower.channels, json=False)
            table.tell(1.0)
            assert capsys.readouterr().out.splitlines() == [
                "channel                 msg/s     mean      min      max   jitter messages",
                "c                           0        -        -        -        -        0",
            ]


async def test_the_end_of_the_run_ends_both(domain: Domain, capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.ExitStack() as stack:
        async with trio.open_nursery() as nursery, open_channel(domain, bytes, RawCodec()) as (writer, _):
            for_echo, for_hz = (stack.enter_context(open_follower(domain)) for _ in range(2))
            nursery.start_soon(show_messages, for_echo, None, as_line)
            nursery.start_soon(watch_rates, for_hz, Seen(for_hz.channels, json=True), 60.0)
            await writer.send(b"last")
    said = capsys.readouterr()
    assert "last" in said.out
    assert json.loads(said.out.splitlines()[-1])["messages"] == 1
    assert "the run has ended" in said.err


def test_the_only_run_is_meant_where_none_is_named(monkeypatch: pytest.MonkeyPatch, domain: Domain) -> None:
    monkeypatch.setattr("taktora_trio.vitals.reading.domains", lambda: [domain.name, "a~b", "left-by-a-kill"])
    with pytest.raises(NoSuchDomain, match="nothing runs"):
        the_run(None, None, None)
    with open_run(domain):
        assert the_run(None, None, None) == domain
        other = Domain(f"other-{uuid.uuid4().hex[:6]}")
        monkeypatch.setattr("taktora_trio.vitals.reading.domains", lambda: [domain.name, other.name])
        with open_run(other), pytest.raises(ConfigError, match=f"say which run.*{other.name}"):
            the_run(None, None, None)


@pytest.mark.parametrize("command", ["top", "hz", "echo"])
def test_where_there_is_no_run(command: str) -> None:
    with pytest.raises(NoSuchDomain, match="no run in domain 'nothing-here'"):
        parse([command, "--domain", "nothing-here"])()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["top", "--every", "0"], "--every 0: give 0.1 to 3600 seconds"),
        (["top", "--frames", "0"], "--frames 0"),
        (["hz", "--for", "-1"], "--for -1"),
        (["echo", "--count", "0"], "--count 0"),
        (["echo", "a:b", "c:d"], "name one deployment"),
    ],
)
def test_bad_input(arguments: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse(arguments)()
    with pytest.raises(ConfigError):
        parse([arguments[0], "--domain", "no name"])()


def test_frames_go_through_a_pipe(domain: Domain, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    with open_run(domain):
        assert parse(["top", "--domain", domain.name, "--frames", "2", "--every", "0.1"])() == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith(domain.name[:8]) for line in lines) == 2
    assert all(len(line) <= 60 and "\x1b" not in line for line in lines)
    assert "q quits" not in "".join(lines)


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a folder of another user")
def test_another_users_run_is_hinted_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """What another user runs can't be seen, but that somebody does."""
    monkeypatch.setattr("taktora_trio.vitals.reading.domains", list)
    theirs = SHM / "taktora-54321"
    theirs.mkdir(mode=0o700)
    try:
        os.chown(theirs, 54_321, 54_321)
        for arguments in (["status"], ["status", "--domain", "nothing-here"], ["echo"]):
            with pytest.raises(NoSuchDomain, match=r"as this user \(uid 0\); other users have or had .* 54321"):
                parse(arguments)()
    finally:
        theirs.rmdir()
