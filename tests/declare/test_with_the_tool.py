"""AsyncAPI's own parser takes every document of ours, and no wrong one. `make .venv/asyncapi` installs it."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from taktora_trio import Connector, Deployment, MqttConnector, MqttRouting, Outbound
from taktora_trio.declare.document import Info, make_document
from taktora_trio.declare.files import Format, encoded
from tests.command import ROOT
from tests.declare import kinds
from tests.declare.rig import document_of

TOOL = ROOT / ".venv" / "asyncapi"
pytestmark = pytest.mark.skipif(
    shutil.which("node") is None or not TOOL.exists(), reason="AsyncAPI's parser is not there: make .venv/asyncapi"
)
ERROR = 0

SMALL = MqttConnector([Outbound("told", kinds.Reading, MqttRouting("told", qos=1))])
Document = dict[str, Any]
WRONG: dict[str, Callable[[Document], object]] = {
    "no version": lambda document: document.pop("asyncapi"),
    "no title": lambda document: document["info"].pop("title"),
    "a QoS of three": lambda document: binding_of(document).update(qos=3),
    "a binding that is none": lambda document: binding_of(document).update(quality=1),
    "an action that is none": lambda document: document["operations"]["send.mqtt.told"].update(action="publish"),
    "a channel that is not there": lambda document: document["operations"]["send.mqtt.told"].update(
        channel={"$ref": "#/channels/nothing"}
    ),
    "a definition that is not there": lambda document: document["components"]["schemas"].pop("Reading"),
    "a schema that is none": lambda document: document["components"]["schemas"]["Reading"].update(type="float"),
}


def binding_of(document: Document) -> dict[str, Any]:
    binding: dict[str, Any] = document["operations"]["send.mqtt.told"]["bindings"]["mqtt"]
    return binding


def examples() -> dict[str, Deployment]:
    names = [path.stem for path in (ROOT / "examples").iterdir() if path.suffix == ".py" or path.is_dir()]
    modules = {name: import_module(f"examples.{name}") for name in sorted(names) if not name.startswith("_")}
    return {
        name: found
        for name, one in modules.items()
        if isinstance(found := getattr(one, "deployment", None), Deployment)
    }


def renamed(connector: Connector, name: str) -> Connector:
    """Return the same connector under another name."""
    other = copy.copy(connector)
    object.__setattr__(other, "name", name)
    return other


def errors_in(folder: Path, documents: dict[str, tuple[Document, Format]]) -> dict[str, list[str]]:
    """Return what the tool says is wrong with each document."""
    files = []
    for index, (document, form) in enumerate(documents.values()):
        files.append(folder / f"{index}.{form}")
        files[-1].write_bytes(encoded(document, form))
    command = ["node", str(ROOT / "tests" / "declare" / "validate.mjs"), str(TOOL), *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return {
        name: [f"{one['path']}: {one['message']}" for one in found if one["severity"] == ERROR]
        for name, found in zip(documents, json.loads(done.stdout), strict=True)
    }


def test_every_example_is_valid_and_the_tool_rejects_what_is_wrong(tmp_path: Path) -> None:
    """In one start of node, which takes seconds."""
    deployments = examples()
    assert len(deployments) >= 6
    # All in one, each under its own name: the tool takes a third of a second for a document, whatever is in it.
    connectors = [
        renamed(connector, f"{name}-{connector.name}")
        for name, deployment in deployments.items()
        for connector in deployment.connectors
    ]
    good: dict[str, tuple[Document, Format]] = {"the examples": (document_of(*connectors), "yaml")}
    channels = good["the examples"][0]["channels"]
    assert len(channels) == sum(len(connector.channels) for connector in connectors)
    with_server = {"mqtt": [SMALL.describe_server("wss://broker.example/path")]}
    info = Info("kinds", "2.7.1", "With a server.\n\nAnd a description of several lines.")
    good["kinds"] = (make_document(info, kinds.deployment.connectors, with_server), "json")
    bad: dict[str, tuple[Document, Format]] = {}
    for name, spoil in WRONG.items():
        spoil(document := document_of(SMALL))
        bad[name] = (document, "json")
    found = errors_in(tmp_path, {**good, **bad})
    assert {name: found[name] for name in good} == {name: [] for name in good}
    assert [name for name in bad if not found[name]] == []
