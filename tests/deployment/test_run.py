"""run(deployment) in a program of its own: `python greenhouse.py`, in both shapes."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from taktora_trio import Domain
from tests.command import MODES, Command, open_command
from tests.mosquitto import Mosquitto

PROGRAM = """
import sys
import trio
from taktora_trio import Deployment, Inbound, MqttConnector, MqttRouting, Outbound, run

THERE = Outbound("there", str, MqttRouting("test/program", qos=1))
BACK = Inbound("back", str, MqttRouting("test/program", qos=1))


async def app(host):
    async with host.open_reader(BACK) as back, host.open_writer(THERE) as there:
        await there.send("hello")
        print("got", (await back.receive()).value, flush=True)
    {then}


deployment = Deployment("program", app, [MqttConnector([THERE, BACK])])

if __name__ == "__main__":
    run(deployment, sys.argv[1], domain=sys.argv[2], settings={{"broker": sys.argv[3]}})
    print("the program goes on", flush=True)
"""

each_mode = pytest.mark.parametrize("mode", MODES)


def write(path: Path, then: str = "pass") -> str:
    path.write_text(PROGRAM.format(then=then))
    return str(path)


def lines(command: Command) -> list[str]:
    """What it has printed, without the name of a half."""
    return [line.rpartition("| ")[2] for line in command.output]


@each_mode
async def test_it_returns_when_the_app_has_ended(mode: str, tmp_path: Path, broker: Mosquitto, domain: Domain) -> None:
    program = write(tmp_path / "greenhouse.py")
    async with open_command(mode, domain.name, broker.url, program=[program], json_log=False) as command:
        assert await command.wait() == 0
    assert lines(command) == ["got hello", "the program goes on"]


@each_mode
async def test_it_returns_after_a_signal(mode: str, tmp_path: Path, broker: Mosquitto, domain: Domain) -> None:
    program = write(tmp_path / "greenhouse.py", "await trio.sleep_forever()")
    async with open_command(mode, domain.name, broker.url, program=[program], json_log=False) as command:
        await command.until_printed("got hello")
        assert len(command.tree()) == (3 if mode == "split" else 1)
        command.signal(signal.SIGTERM)
        assert await command.wait(10) == 0
    assert lines(command) == ["got hello", "the program goes on"]


async def test_the_program_ends_with_the_exit_code_of_the_app(
    tmp_path: Path, broker: Mosquitto, domain: Domain
) -> None:
    program = write(tmp_path / "greenhouse.py", "sys.exit(7)")
    async with open_command("split", domain.name, broker.url, program=[program], json_log=False) as command:
        assert await command.wait() == 7
    assert lines(command) == ["got hello"]
    assert "Traceback" not in "".join(command.stderr)


async def test_bad_input_is_one_line(tmp_path: Path, domain: Domain) -> None:
    program = write(tmp_path / "greenhouse.py")
    async with open_command("both", domain.name, "mqtt://127.0.0.1:1", program=[program], json_log=False) as command:
        assert await command.wait() == 2
    assert command.stderr == ["taktora-trio: mode is 'both'; use 'in-process' or 'split'"]


async def test_a_program_whose_name_stands_for_something_else(
    tmp_path: Path, broker: Mosquitto, domain: Domain
) -> None:
    """The children would import another module, which is there in the present folder."""
    program = write(tmp_path / "examples.py")
    async with open_command("split", domain.name, broker.url, program=[program], json_log=False) as command:
        assert await command.wait() == 2
    [line] = command.stderr
    assert f"is in {program}, which another process can't import as examples (that name stands for " in line
    assert '/examples/__init__.py): declare it in a module of its own, and give its name, as "greenhouse:dep' in line


async def test_a_program_that_has_a_loop_is_told_what_to_use() -> None:
    code = "import trio, taktora_trio; exec('async def main(): taktora_trio.run(None)'); trio.run(main)"
    async with open_command(program=["-c", code], json_log=False) as command:
        assert await command.wait() == 2
    told = "taktora-trio: there is a trio loop already: use `async with open_deployment(...) as host` in it"
    assert command.stderr[0] == told


async def test_a_program_that_is_no_file(domain: Domain) -> None:
    code = "from tests.deployment.opened import *; from taktora_trio import *; run(Deployment('x', None, []), 'split')"
    async with open_command(program=["-c", code.replace("[]", "deployment.connectors")], json_log=False) as command:
        assert await command.wait() == 2
    [line] = command.stderr
    assert line.startswith("taktora-trio: deployment 'x' is no attribute of a module, by which the other process could")
