"""The command itself: every kind of fault once, with a fixed seed; a broken promise; bad input; Ctrl-C."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import attrs
import pytest
import trio

from taktora_trio.chaos import faults, private_shm, runner
from taktora_trio.chaos.command import chaos
from taktora_trio.chaos.faults import FAULTS
from taktora_trio.chaos.options import PROTOCOLS, ChaosOptions
from taktora_trio.errors import ConfigError
from taktora_trio.testing.mqtt import mosquitto
from taktora_trio.transport.segments import SHM
from tests.command import open_command, run_command

pytestmark = pytest.mark.chaos


def test_without_rich_it_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich", None)
    with pytest.raises(ConfigError, match=r"chaos needs rich: pip install 'taktora-trio\[chaos\]'"):
        chaos()


# Each group is a run of its own, so that they can run at the same time.
GROUPS = {
    "processes": ("gateway-", "plugin-", "supervisor-"),
    "surroundings": ("broker-", "connection-", "queue-", "shm-"),
    "gateways that crash": ("crash-", "exit-", "out-of-", "leak-", "greedy"),
    "gateways that do not end": ("hang-", "stall-", "ignore-", "flood-"),
    "warm": ("zygote-",),
}


def kinds_of(group: str) -> list[str]:
    return [kind for kind in FAULTS if kind.startswith(GROUPS[group])]


def test_every_kind_is_in_one_group() -> None:
    assert sorted(kind for group in GROUPS for kind in kinds_of(group)) == sorted(FAULTS)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("group", GROUPS)
async def test_every_promise_holds(group: str, tmp_path: Path) -> None:
    kinds = kinds_of(group)
    written, table = tmp_path / "results.json", tmp_path / "table.md"
    warm = ["--warm"] if group == "warm" else []
    code, output, errors = await run_command(
        *("chaos", "--seed", "1", "--faults", str(len(kinds)), *warm, "--json", str(written)),
        *("--markdown", str(table), "--only", *kinds),
        seconds=230,
    )
    assert code == 0, output + errors
    assert "seed 1" in output
    results = json.loads(written.read_text())["results"]
    assert sorted(result["kind"] for result in results) == sorted(kinds)
    # Only what needs a /dev/shm of its own may be left out, and that says so.
    assert {result["kind"] for result in results if result["verdict"] == "skipped"} <= {"shm-full"}
    assert not any(result["violations"] for result in results)
    assert len(table.read_text().splitlines()) == 2 + len(kinds)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_every_promise_holds_in_process(protocol: str) -> None:
    kinds = [kind for kind, fault in FAULTS.items() if fault.in_process]
    options = ("--protocol", protocol, "--mode", "in-process", "--seed", "1", "--faults", str(len(kinds)))
    code, output, errors = await run_command("chaos", *options, seconds=110)
    assert code == 0, output + errors
    assert all(kind in output for kind in kinds)


# What a protocol has to do with: the rest is the same whatever the protocol is.
OF_A_PROTOCOL = (
    *("broker-restart", "broker-pause", "broker-refuses", "connection-cut", "connection-slow", "connection-half-open"),
    *(
        "queue-full",
        "gateway-kill",
        "gateway-hang",
        "gateway-term",
        "plugin-kill",
        "crash-in-publish",
        "supervisor-term",
    ),
)


@pytest.mark.timeout(150)
@pytest.mark.parametrize("protocol", PROTOCOLS[1:])
async def test_every_promise_of_another_protocol_holds(protocol: str) -> None:
    options = ("--protocol", protocol, "--seed", "1", "--faults", str(len(OF_A_PROTOCOL)), "--only", *OF_A_PROTOCOL)
    code, output, errors = await run_command("chaos", *options, seconds=140)
    assert code == 0, output + errors


@pytest.mark.timeout(120)
def test_a_broken_promise_is_told_with_how_to_see_it_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    never = attrs.evolve(FAULTS["gateway-kill"], events="Up Down Up ")
    monkeypatch.setattr(runner, "FAULTS", {**FAULTS, "gateway-kill": never})
    monkeypatch.setattr(runner, "_RECOVERY_TIMEOUT", 6.0)
    assert runner.run_chaos(ChaosOptions(seed=7, faults=5, only=("gateway-kill",)), []) == 1
    output = capsys.readouterr().out
    assert "should have seen Up Down Up" in output
    assert "taktora-trio chaos --seed 7 --faults 1 --only gateway-kill" in output
    assert "killed by SIGKILL" in output  # from the log
    assert "1 of 5 faults, 1 with a broken promise" in output


@pytest.mark.timeout(120)
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_ends_it_and_leaves_nothing(signum: signal.Signals) -> None:
    # It goes on, should the machine be so busy that the app misses its ticks: that is not what is tested here.
    async with open_command(
        *("chaos", "--seed", "3", "--faults", "100", "--only", "gateway-kill", "connection-half-open", "--keep-going"),
        json_log=False,
    ) as chaos:
        await chaos.until_printed("2/100", seconds=60)
        with trio.fail_after(30):
            while len(chaos.tree()) < 5:  # noqa: ASYNC110 - broker, supervisor, halves; one may just be killed
                await trio.sleep(0.01)
        chaos.signal(signum)
        assert await chaos.wait(30) == 128 + signum
        assert any("100 faults" in line for line in chaos.output)
        assert not any(SHM.glob(f"taktora-*/chaos-{chaos.pid}"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only", "earthquake"], "earthquake"),
        (["--faults", "0"], "at least 1"),
        (["--faults", "many"], "many"),
        (["--seed", "-1"], "--seed -1"),
        (["--json", "/nowhere/at/all.json"], "/nowhere/at/all.json"),
        (["--only", "zygote-kill"], "--warm"),
        (["--protocol", "telegraphy"], "--protocol telegraphy: there is chaos for mqtt and zenoh"),
        (["--mode", "in-process", "--only", "gateway-kill"], "a fault of --mode split"),
        (["--mode", "in-process", "--warm"], "--warm"),
        (["surplus"], "surplus"),
    ],
)
async def test_bad_input_is_one_line(arguments: list[str], said: str) -> None:
    code, output, errors = await run_command("chaos", *arguments)
    assert code == 2
    assert output == ""
    [line] = errors.splitlines()
    assert said in line


async def test_the_list_names_every_kind() -> None:
    code, output, errors = await run_command("chaos", "--list")
    assert (code, errors) == (0, "")
    assert [line.split()[0] for line in output.splitlines()] == list(FAULTS)


def test_without_a_broker_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mosquitto, "_SYSTEM_FOLDERS", "/nowhere")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigError, match="apt-get install mosquitto"):
        runner.run_chaos(ChaosOptions(), [])


def test_it_fills_no_shared_memory_but_its_own() -> None:
    if private_shm.is_private():
        pytest.skip("this one is ours")
    with pytest.raises(RuntimeError, match="not ours"), private_shm.fill():
        pass
    assert not (SHM / "chaos-ballast").exists()


def test_a_replay_says_all_that_the_schedule_depends_on() -> None:
    options = ChaosOptions(faults=9, only=("gateway-kill", "shm-full"), warm=True, keep_going=True)
    assert options.replay(5, 3) == "taktora-trio chaos --seed 5 --faults 3 --only gateway-kill shm-full --warm"
    options = ChaosOptions(protocol="another", mode="in-process")
    assert options.replay(5, 3) == "taktora-trio chaos --seed 5 --faults 3 --protocol another --mode in-process"


def test_faults_of_a_run_say_how_it_ends() -> None:
    for kind, fault in faults.FAULTS.items():
        assert (fault.exit_code is not None) == (fault.events == faults._ANYTHING), kind
