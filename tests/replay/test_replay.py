"""An app is given what was recorded, at its times, and what it sends otherwise is shown."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from taktora_trio import Envelope, Header, JsonCodec
from taktora_trio.cli import parse
from taktora_trio.recorder.layout import recorded, topic_of
from taktora_trio.recorder.writing import open_recording
from taktora_trio.replay.comparing import Comparison, compare
from taktora_trio.replay.plan import Expected
from taktora_trio.runners.this_process.outcome import call
from tests.mosquitto import Mosquitto

APPS = "tests.replay.apps"
Line = tuple[float, str, str, str, Any]


def write(path: Path, lines: Sequence[Line]) -> Path:
    """Write a recording: of each message the time in seconds, `in` or `out`, the channel, the topic and the value."""
    with open_recording(path, {"domain": "test"}) as recording:
        for direction, name in dict.fromkeys((line[1], line[2]) for line in lines):
            about = {"connector": "mqtt", "channel": name, "direction": direction, "codec": "json"}
            recording.add_channel(topic_of("mqtt", direction, name), b"{}", about)
        for number, (at, direction, name, topic, value) in enumerate(lines, 1):
            header = Header(number, 10**18 + int(at * 1e9), 10**12 + int(at * 1e9))
            envelope = Envelope(msgspec.json.encode(value), header, topic)
            content = recorded(envelope, "json", value)
            recording.write(topic_of("mqtt", direction, name), header.timestamp_ns, content, number)
    return path


def reading(at: float, celsius: float) -> Line:
    return at, "in", "readings", "greenhouse/north/reading", {"celsius": celsius}


def heater(at: float, on: bool) -> Line:
    return at, "out", "heater", "", {"on": on, "at": at}


HOUR = [
    reading(0, 5),
    heater(0.5, True),
    reading(1800, 15),
    heater(1800.5, False),
    reading(3600, 4),
    heater(3600.5, True),
]


def replay(path: Path, *more: str, app: str = "deployment") -> int:
    return call(parse(["replay", str(path), f"{APPS}:{app}", *more]))


def test_an_hour_is_replayed_in_no_time_and_nothing_differs(tmp_path: Path, capsys: Any) -> None:
    begin = time.monotonic()
    assert replay(write(tmp_path / "r.mcap", HOUR), "--ignore", "at") == 0
    assert time.monotonic() - begin < 60
    out = capsys.readouterr().out.splitlines()
    assert out == ["given to the app: 3 of 3 messages, in 3600.5 s", "mqtt.heater: 3 of 3 as recorded"]


def test_what_the_app_sends_otherwise_is_shown(tmp_path: Path, capsys: Any) -> None:
    path = write(tmp_path / "r.mcap", HOUR)
    assert replay(path, "--ignore", "at", "--setting", "app.low=4.5") == 1
    out = capsys.readouterr().out
    assert "mqtt.heater: 2 of 3 as recorded, 1 other\n" in out
    assert out.splitlines()[2:] == [
        '  at 0.500 s: recorded {"at":0.5,"on":true}',
        '              sent     {"at":0.5,"on":false}',
    ]


def test_what_is_missing_is_shown_and_what_comes_behind_the_end_is_not_held_against_it(
    tmp_path: Path, capsys: Any
) -> None:
    beats = [(float(number), "out", "beat", "", number) for number in (0, 1, 2, 2, 3)]
    assert replay(write(tmp_path / "r.mcap", beats), app="beating") == 1
    out = capsys.readouterr().out
    assert "mqtt.beat: 4 of 5 as recorded, 1 missing (and 1 behind the end of the recording)" in out
    assert "at 2.000 s: not sent 2" in out


def test_the_comparison_is_there_as_json(tmp_path: Path, capsys: Any) -> None:
    path = write(tmp_path / "r.mcap", [*HOUR[:3], heater(1800.5, True)])
    assert replay(path, "--ignore", "at", "--json") == 1
    [channel] = msgspec.json.decode(capsys.readouterr().out)["channels"]
    [difference] = channel["differences"]
    assert (channel["channel"], channel["same"], difference["kind"]) == ("mqtt.heater", 1, "other")
    assert (difference["recorded"]["on"], difference["sent"]["on"]) == (True, False)


def test_a_message_that_was_for_two_channels_is_published_once(tmp_path: Path, capsys: Any) -> None:
    both = [line for one in HOUR[::2] for line in (one, (one[0], "in", "same", *one[3:]))]
    path = write(tmp_path / "r.mcap", sorted([*both, *HOUR[1::2]], key=lambda line: line[0]))
    assert replay(path, "--ignore", "at") == 0
    assert "3 of 3 messages" in capsys.readouterr().out


def test_what_the_app_had_sent_itself_comes_back_by_itself(tmp_path: Path, capsys: Any) -> None:
    lines: list[Line] = []
    for number in (0, 1, 2):
        lines += [(number, "out", "beat", "", number), (number + 0.01, "in", "own", "", number)]
    assert replay(write(tmp_path / "r.mcap", lines), app="beating") == 0
    assert "given to the app: 0 of 0 messages, in 2.0 s; 3 more it had sent itself" in capsys.readouterr().out


def test_channels_that_are_named_alone_count(tmp_path: Path, capsys: Any) -> None:
    path = write(tmp_path / "r.mcap", [*HOUR, (0.2, "out", "gone", "", 1)])
    assert replay(path, "--ignore", "at", "readings", "heater") == 0


def test_an_app_that_fails_is_told_in_one_line(tmp_path: Path, capsys: Any) -> None:
    assert replay(write(tmp_path / "r.mcap", [reading(0, 5), reading(9, 5)]), app="failing") == 1
    [line] = capsys.readouterr().err.splitlines()
    assert "the app has failed after 1 messages: ValueError: the app's own fault" in line


def test_an_app_that_returns_early_is_told(tmp_path: Path, capsys: Any) -> None:
    assert replay(write(tmp_path / "r.mcap", [reading(0, 5), reading(9, 5)]), app="leaving") == 0
    out = capsys.readouterr().out
    assert "given to the app: 1 of 2 messages" in out
    assert "the app has returned before the end" in out
    assert "there is nothing to compare" in out


def test_in_real_time_it_takes_as_long_as_it_took(tmp_path: Path, capsys: Any) -> None:
    path = write(tmp_path / "r.mcap", [reading(0, 5), heater(0.5, True)])
    begin = time.monotonic()
    assert replay(path, "--ignore", "at", "--real-time") == 0
    assert time.monotonic() - begin >= 0.5


@pytest.mark.parametrize(
    ("lines", "more", "app", "told"),
    [
        ([], (), "deployment", "has no messages of these channels"),
        (
            [(0, "in", "others", "t", 1)],
            (),
            "deployment",
            "inbound channel mqtt.others, which deployment 'greenhouse' has not",
        ),
        (HOUR, ("nothing",), "deployment", "has no channel 'nothing': it has heater, readings"),
        (HOUR, ("--setting", "low"), "deployment", "write NAME=VALUE"),
        (HOUR, ("--setting", "app.lo=3"), "deployment", "lo"),
        (HOUR, ("--broker", "mqtt://x"), "deployment", "in memory there is none"),
        ([reading(0, 5)], (), "without_app", "has no app"),
        (None, (), "deployment", "No such file"),
    ],
)
def test_bad_input_is_told_in_one_line(
    tmp_path: Path, capsys: Any, lines: Sequence[Line] | None, more: Sequence[str], app: str, told: str
) -> None:
    path = tmp_path / "r.mcap"
    if lines is not None:
        write(path, lines)
    assert replay(path, *more, app=app) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert told in line


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path, capsys: Any) -> None:
    os.mkfifo(tmp_path / "r.mcap")
    assert replay(tmp_path / "r.mcap") == 2
    assert "no regular file" in capsys.readouterr().err


@pytest.mark.parametrize("shape", ["in-process", "split"])
async def test_a_real_run_is_given_a_recording_and_what_it_sends_is_compared(
    shape: str, broker: Mosquitto, tmp_path: Path, capsys: Any
) -> None:
    path = write(tmp_path / "r.mcap", [reading(0, 5), reading(0.1, 15), heater(0.5, True), heater(0.6, True)])
    more = ("--ignore", "at", "--shape", shape, "--broker", broker.url)
    assert await trio.to_thread.run_sync(lambda: replay(path, *more)) == 1
    given, compared, was, now = capsys.readouterr().out.splitlines()
    assert given == "given to the app: 2 of 2 messages, in 0.6 s"
    assert compared == "mqtt.heater: 1 of 2 as recorded, 1 other"
    assert was.endswith('recorded {"at":0.6,"on":true}')
    assert now.endswith('"on":false}')


def compared(was: Sequence[Any], now: Sequence[Any]) -> Comparison:
    decode = JsonCodec().decoder(Any)
    there, here = [
        [Expected(at=float(at), topic="t", payload=msgspec.json.encode(value)) for at, value in enumerate(side)]
        for side in (was, now)
    ]
    return compare("c", there, here, decode, ["time"])


@pytest.mark.parametrize(
    ("was", "now", "kinds", "same", "more"),
    [
        ([1, 2, 3], [1, 2, 3], [], 3, 0),
        ([], [1], [], 0, 1),
        ([1], [], ["missing"], 0, 0),
        ([1, 2, 3], [1, 3], ["missing"], 2, 0),
        ([1, 3], [1, 2, 3], ["more"], 2, 0),
        ([1, 2, 3], [1, 9, 3, 4], ["other"], 2, 1),
        ([1, 2], [7, 8, 9], ["other", "other"], 0, 1),
        ([{"a": 1, "time": 1}], [{"time": 2, "a": 1}], [], 1, 0),
        ([{"a": [{"time": 1}]}], [{"a": [{"time": 3}]}], [], 1, 0),
        ([1.0], [1], ["other"], 0, 0),
        (list(range(9000)), [*range(4000), *range(4001, 9000)], ["missing"], 8999, 0),
    ],
)
def test_messages_are_aligned(was: list[Any], now: list[Any], kinds: list[str], same: int, more: int) -> None:
    found = compared(was, now)
    assert [difference.kind for difference in found.differences] == kinds
    assert (found.same, found.more_at_end) == (same, more)
