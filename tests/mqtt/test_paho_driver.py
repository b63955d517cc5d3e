"""What the aiomqtt session uses of its libraries: public names, and one fact that is checked."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import aiomqtt
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from taktora_trio.connectors.mqtt.sessions import paho_driver
from taktora_trio.connectors.mqtt.sessions.paho_driver import PacketLog, PahoDriver
from taktora_trio.errors import ConfigError

SESSIONS = Path(inspect.getfile(paho_driver)).parent
LIBRARIES = ("aiomqtt", "paho")


def is_private(name: str) -> bool:
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__"))


def private_names(source: str) -> list[str]:
    """Every private name that is another's: an attribute of anything but `self`, an import, a string, an override."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            if not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")):
                found.append(node.attr)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in LIBRARIES:
            found += [
                name for name in [*(node.module or "").split("."), *(a.name for a in node.names)] if is_private(name)
            ]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
            found += [node.value] if is_private(node.value) else []
        elif isinstance(node, ast.ClassDef):
            bases = {name.id for base in node.bases for name in ast.walk(base) if isinstance(name, ast.Name)}
            found += [f"{node.name} is a subclass"] if bases & {*LIBRARIES, "Client"} else []
    return found


def test_no_private_name_of_aiomqtt_or_paho_is_used() -> None:
    using = [path for path in SESSIONS.glob("*.py") if any(f"import {name}" in path.read_text() for name in LIBRARIES)]
    using += [path for path in SESSIONS.glob("*.py") if any(f"from {name}" in path.read_text() for name in LIBRARIES)]
    assert {path.name for path in using} == {"aiomqtt.py", "paho_driver.py", "paho_properties.py"}
    assert {path.name: private_names(path.read_text()) for path in using} == {path.name: [] for path in using}


@pytest.mark.parametrize(
    "line",
    [
        "client._client.ack(1, 1)",
        "getattr(client, '_client')",
        "from paho.mqtt.client import _WebsocketWrapper",
        "class Client(aiomqtt.Client): ...",
        "len(self.paho._out_packet)",
    ],
)
def test_what_would_be_a_private_name_is_found(line: str) -> None:
    assert private_names(line)


async def test_an_aiomqtt_that_keeps_its_paho_client_another_way_is_refused() -> None:
    def ignore(*args: object) -> None: ...

    trio_asyncio = pytest.importorskip("trio_asyncio", reason="it can't run with Python 3.14")
    async with trio_asyncio.open_loop():
        client, packet_log = aiomqtt.Client("broker.example"), PacketLog()
        assert isinstance(PahoDriver(client, packet_log, ignore, ignore).paho, paho.Client)
        client.another = paho.Client(CallbackAPIVersion.VERSION2)  # type: ignore[attr-defined]
        with pytest.raises(ConfigError, match=r"does not work with aiomqtt .*, which has 2 paho clients"):
            PahoDriver(client, packet_log, ignore, ignore)
