"""What `top` shows fits the terminal, whatever the run is like."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from taktora_trio.operate.monitoring.dashboard import Board, Frame, frame_of
from taktora_trio.operate.monitoring.tracking import Tracker
from taktora_trio.vitals import ChannelVitals, ConnectorVitals, DomainVitals, HalfVitals, HealthChange
from tests.vitals.pages import NOW, change, channel, down, up

WELL = HalfVitals(name="plugin", state="runs", pid=71, restarts=0, uptime=90.0, memory=40 << 20, loop_lag=0.0003)
HANGS = HalfVitals(
    name="gateway", state="hangs", pid=72, restarts=3, problem="process 72 has not turned its loop for 4.2 s"
)


def reading(**more: object) -> DomainVitals:
    values: dict[str, object] = {
        "domain": "greenhouse",
        "app": "greenhouse",
        "mode": "split",
        "read_at": 100.0,
        "owner": 70,
        "halves": {"plugin": WELL, "gateway": HANGS},
        "connectors": {"mqtt": up(), "cloud": down("cloud", "the broker refused the login: Not authorized")},
        "channels": [channel("north", in_use=64, discarded=3, age=4.0), channel("all", "in", messages=None)],
        "history": [change("Down", reason="connection refused\x1b[2J"), change("Up", "Down", reason="not shown")],
        **more,
    }
    return DomainVitals(**values)  # type: ignore[arg-type]


def frame(shown: DomainVitals, width: int = 80, height: int | None = 24, **more: object) -> Frame:
    board = Board(reading=shown, tracker=Tracker(), now=NOW + 3661, **more)  # type: ignore[arg-type]
    return frame_of(board, width, height)


def texts(shown: Frame) -> list[str]:
    return [line.plain.rstrip() for line in shown.lines]


def test_all_of_a_run_at_80_columns() -> None:
    assert texts(frame(reading())) == [
        "greenhouse  split                                                   13:01:01 UTC",
        "plugin    runs       pid 71  up 1m30s  memory 40.0 MiB  lag 300us",
        "gateway   hangs      pid 72  restarts 3",
        "          process 72 has not turned its loop for 4.2 s",
        "mqtt      Up         since 1h01m  mqtt://broker:1883",
        "cloud     Down       since 1h01m",
        "          the broker refused the login: Not authorized",
        "  channel        msg/s bytes/s  window   waits    lost     age latency      rate",
        "▸ north              -       -   64/64       0       3    4.0s       -",
        "◂ all                -       -    0/64       0       0       -       -",
        "12:00:00 mqtt Up → Down  connection refused\\x1b[2J",
        "12:00:00 mqtt Down → Up",
        "q quits  ↑ ↓ scroll",
    ]


def test_60_columns_leave_out_what_matters_least() -> None:
    lines = texts(frame(reading(), 60))
    assert "  channel        msg/s  window   waits    lost          rate" in lines
    assert "▸ north              -   64/64       0       3" in lines


def test_where_a_connector_says_no_reason_its_cause_is_shown() -> None:
    lost = up(health="Connecting", cause="the broker closed the connection", next_attempt=NOW + 3663)
    lines = texts(frame(reading(connectors={"mqtt": lost}, history=[change("Connecting", cause="it was closed")])))
    assert lines[4:6] == [
        "mqtt      Connecting since 1h01m  next attempt in 2.0s  mqtt://broker:1883",
        "          the broker closed the connection",
    ]
    assert "12:00:00 mqtt Up → Connecting  it was closed" in lines


def test_figures_that_do_not_fit_are_left_out_whole() -> None:
    half = HalfVitals(name="plugin", state="runs", pid=1234567, restarts=12, uptime=9e5, memory=2**40, loop_lag=0.1)
    for width in range(25, 90):
        [line] = [line for line in texts(frame(reading(halves={"plugin": half}), width)) if line.startswith("plugin")]
        assert not line.endswith("…") or width < 33


def test_names_are_whole_where_there_is_room() -> None:
    halves = {"plugin": WELL, "gateway:cloud": HANGS}
    lines = texts(frame(reading(halves=halves)))
    assert lines[2:4] == [
        "gateway:cloud hangs      pid 72  restarts 3",
        "              process 72 has not turned its loop for 4.2 s",
    ]


def test_a_half_that_is_not_there() -> None:
    lines = texts(frame(reading(halves={"plugin": WELL, "gateway": None}), note="this run has ended"))
    assert lines[1] == "this run has ended"
    assert lines[3] == "gateway   is not there"


def test_channels_scroll_and_end_where_they_end() -> None:
    many = reading(channels=[channel(f"c{number:03}") for number in range(100)])
    top = frame(many)
    shown = [line for line in texts(top) if line.startswith("▸")]
    assert shown[0].startswith("▸ c000")
    assert 3 <= len(shown) == 100 - top.last_first
    end = texts(frame(many, first=top.last_first))
    assert texts(frame(many, first=10_000)) == end
    assert [line for line in end if line.startswith("▸")][-1].startswith("▸ c099")
    assert end[-1] == f"q quits  ↑ ↓ scroll  channels {top.last_first + 1}-100 of 100"
    assert len([line for line in texts(frame(many, height=None)) if line.startswith("▸")]) == 100


TEXT = st.text(max_size=90)
NUMBER = st.none() | st.integers(0, 2**63)
TIME = st.none() | st.floats(0, 1e12)
HEALTH = st.sampled_from(["Up", "Connecting", "Degraded", "Down"])
AT = st.floats(0, 4e9)
CHANNELS = st.builds(
    ChannelVitals,
    connector=TEXT,
    name=TEXT,
    direction=st.sampled_from(["in", "out"]),
    address=TEXT,
    window=st.integers(1, 2**31),
    messages=NUMBER,
    in_use=NUMBER,
    backlog=NUMBER,
    discarded=NUMBER,
    age=TIME,
    latency=TIME,
)
HALVES = st.builds(
    HalfVitals,
    name=TEXT,
    state=st.sampled_from(["runs", "starts", "waits", "hangs", "stopped", "gone", "unreadable"]),
    problem=TEXT,
    pid=NUMBER,
    restarts=NUMBER,
    uptime=TIME,
    memory=NUMBER,
    loop_lag=TIME,
)
READINGS = st.builds(
    reading,
    domain=TEXT,
    halves=st.dictionaries(TEXT, st.none() | HALVES, max_size=4),
    connectors=st.dictionaries(
        TEXT, st.builds(ConnectorVitals, name=TEXT, health=HEALTH, since=AT, reason=TEXT, peer=TEXT), max_size=4
    ),
    channels=st.lists(CHANNELS, max_size=20),
    history=st.lists(
        st.builds(HealthChange, at=AT, connector=TEXT, before=HEALTH, after=HEALTH, reason=TEXT), max_size=9
    ),
)


@settings(max_examples=60)
@given(READINGS, st.integers(20, 200), st.none() | st.integers(1, 60), st.integers(0, 30))
def test_whatever_it_is_it_fits(shown: DomainVitals, width: int, height: int | None, first: int) -> None:
    lines = frame(shown, width, height, first=first).lines
    assert all(cell_len(line.plain) <= width and line.plain.isprintable() for line in lines)
    assert height is None or len(lines) <= height


@pytest.mark.parametrize("width", [0, 1, 5, 19])
def test_no_width_is_too_small_to_go_on(width: int) -> None:
    frame(reading(), width, 3)
