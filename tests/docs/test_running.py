"""What runs the blocks of a page finds each that is wrong."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from taktora_trio import ConfigError
from tests.docs.blocks import Block, Own, Stop, steps_of
from tests.docs.running import OpenPage, fits, open_page


async def run(page: str, folder: Path) -> OpenPage:
    async with open_page(folder) as opened:
        for step in steps_of(dedent(page)):
            await opened.take(step)
    return opened


def block(kind: str, code: str, before: str = "") -> str:
    return f"{before}\n```{kind}\n{code}\n```\n"


def test_steps_come_in_order_with_what_the_comments_ask_for() -> None:
    text = (
        "<!-- own greenhouse -->\n<!-- own 1884 -->\n"
        + block("python", "a = 1", "<!-- run virtually\nb = 2\nHERE\n-->")
        + block("sh", "true", "<!-- keep running -->")
        + block("text", "ok", "<!-- output -->")
        + "<!-- stop when done -->"
        + block("sh", "reboot", "*Not run by the tests: it is\nunkind.*\n")
        + block("sh", "true")
    )
    assert list(steps_of(text)) == [
        Own("greenhouse", "deployment"),
        Own("1884", "port"),
        Block("python", "a = 1\n", 7, "b = 2\nHERE", virtual=True),
        Block("sh", "true\n", 11, keeps_running=True),
        Block("text", "ok\n", 15, is_output=True),
        Stop("done"),
        Block("sh", "reboot\n", 21, why_not="it is unkind"),
        Block("sh", "true\n", 25),
    ]


def test_a_part_stands_in_its_context() -> None:
    part = Block("python", "a = 1\n\nb = 2\n", 1, "if True:\n    HERE\nc = 3")
    assert part.whole == "if True:\n    a = 1\n\n    b = 2\nc = 3\n"
    assert Block("python", "a = 1\n", 1, "b = 2").whole == "b = 2\n\na = 1\n"


async def test_blocks_share_their_names_and_may_await(tmp_path: Path) -> None:
    page = block("python", "# part.py\nx = 20") + block("python", "await trio.sleep(0)\ny = x + 1")
    assert (await run(page, tmp_path)).namespace["y"] == 21
    assert (tmp_path / "part.py").exists()


@pytest.mark.parametrize(
    ("page", "error"),
    [
        (block("python", "1 / 0"), ZeroDivisionError),
        (block("python", "MqttOptions(broker='nonsense')"), ConfigError),
        (block("sh", "exit 3"), AssertionError),
        (block("sh", "make nothing"), AssertionError),
        (block("sh", "pip install 'taktora-trio[nothing]'"), AssertionError),
        (block("sh", "taktora-trio plan x:y --nothing", "*Not run by the tests: why.*\n"), AssertionError),
        (block("ini", "[Service]\nExecStart=taktora-trio gateway x:y --domain"), AssertionError),
        (block("toml", "x = "), ValueError),
        (block("fortran", "stop"), AssertionError),
    ],
    ids=["exception", "setting", "exit code", "target", "extra", "option", "unit", "toml", "kind"],
)
async def test_what_is_wrong_fails_with_its_line(page: str, error: type[Exception], tmp_path: Path) -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(error, check=lambda exc: any("line " in note for note in exc.__notes__))):
        await run(page, tmp_path)


async def test_a_file_of_settings_configures_the_deployment_of_the_page(tmp_path: Path) -> None:
    declared = 'deployment = Deployment("page", None, [MqttConnector([Inbound("in", str, MqttRouting("in"))])])'
    page = block("python", declared) + block("toml", "# taktora.toml\n[connector.mqtt]\nkeepalive = 'long'")
    with pytest.RaisesGroup(pytest.RaisesExc(ConfigError, match="taktora.toml:3: connector.mqtt.keepalive")):
        await run(page, tmp_path)


def test_what_is_shown_was_written() -> None:
    written = ["one", "07:29:10.807 two, pid 4", "at 127.0.0.1:4711 for 0.1 s"]
    assert fits("07:29:11.000 two, pid 5\none", written)
    assert fits("at ... for 2.25 s", written)
    assert not fits("one\nthree", written)
    assert not fits("on", written)
