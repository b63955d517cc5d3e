"""The layers: one list in three places, no circle of imports, and generic code that names no protocol."""

from __future__ import annotations

import ast
import graphlib
import re
import shutil
import subprocess
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

import taktora_trio

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "taktora_trio"
LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")

PROTOCOL_WORD = re.compile(
    r"mqtt|paho|mosquitto|gmqtt|qos|zenoh|(conn|pub|sub|unsub)ack|pub(rec|rel|comp)|connack|websocket", re.IGNORECASE
)
# Where a protocol is at home.
PROTOCOLS_OWN = tuple(f"{layer}/{name}/" for layer in ("connectors", "chaos", "testing") for name in ("mqtt", "zenoh"))
# The lines elsewhere that may name one, and why.
MAY_NAME = {
    # names that are imported when they are first used, for `from taktora_trio import MqttConnector`
    "__init__.py": re.compile(
        r' +from taktora_trio\.connectors\.(mqtt|zenoh) import (\w+) as \2| +"connectors\.(mqtt|zenoh)": \(.*\),'
    ),
}
# Where the peer is one that tests or a demonstration bring along.
MAY_HAVE_A_BROKER = ("chaos/", "testing/", "scaffold/")
# How something names a broker that is for every protocol.
AMONG_OTHERS = re.compile(r"\((a )?brokers?, |such as (a|the) broker|brokers?, routers?|--await-broker")
# They stand in supervisors/, too, where a user copies them: so they know the package by its public names alone.
SCRIPTS = ("taktora_trio.runners.scripts.in_process", "taktora_trio.runners.scripts.split")


# One list


def in_the_docstring() -> list[str]:
    return listed(taktora_trio.__doc__ or "", "The layers.")


def in_the_docs() -> list[str]:
    return listed((ROOT / "docs" / "architecture.md").read_text(), "## Layers")


def listed(text: str, heading: str) -> list[str]:
    """Return the lines of the first block behind the heading: names with `|` between, two spaces, and a description."""
    block = re.search(r"^(    .*\n)+|^```text\n(.*\n)+?```", text[text.index(heading) :], re.MULTILINE)
    assert block is not None
    lines = [line.strip() for line in block.group().splitlines() if not line.startswith("```")]
    return [re.split(r"  +", line, maxsplit=1)[0] for line in lines]


def in_the_import_rules(pyproject: Path = ROOT / "pyproject.toml") -> list[str]:
    [rule] = (
        contract
        for contract in tomllib.loads(pyproject.read_text())["tool"]["importlinter"]["contracts"]
        if contract.get("containers") == ["taktora_trio"]
    )
    assert rule["exhaustive"]
    return list(rule["layers"])


def test_docs_docstring_and_import_rules_have_the_same_list() -> None:
    assert len(in_the_import_rules()) > 5
    assert in_the_docstring() == in_the_import_rules()
    assert in_the_docs() == in_the_import_rules()


def test_every_module_is_in_a_layer() -> None:
    named = {name for line in in_the_import_rules() for name in line.split(" | ")}
    assert {path.stem for path in PACKAGE.iterdir() if is_module(path)} - {"__init__"} == named


def is_module(path: Path) -> bool:
    return path.suffix == ".py" or (path / "__init__.py").exists()


@pytest.mark.skipif(not LINT_IMPORTS.exists(), reason="import-linter is not installed (`make check` does it)")
def test_a_module_in_no_layer_fails_the_check(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "taktora_trio", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "taktora_trio" / "stray.py").write_text("")
    done = subprocess.run(
        [sys.executable, "-P", LINT_IMPORTS, "--no-cache"],
        cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert "taktora_trio.stray" in re.sub(r"\s+", " ", done.stdout)


# No circle


@cache
def modules() -> Mapping[str, Path]:
    names = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


@cache
def imports() -> Mapping[str, frozenset[str]]:
    """Return the package's modules that each imports: at its top, in functions, and for type checkers alone."""
    return {name: frozenset(imported_by(path)) - {name} for name, path in modules().items()}


def imported_by(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text())
    # A runner script ends by calling the command, where it is run as a program and not imported.
    tree.body = [node for node in tree.body if not (isinstance(node, ast.If) and "__main__" in ast.unparse(node.test))]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules())
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports by dots"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                if full in modules():
                    yield full
                elif node.module == "taktora_trio" and alias.name in taktora_trio.__all__:
                    yield taktora_trio._MODULES[alias.name]
                elif node.module and node.module in modules():
                    yield node.module


def circle(graph: Mapping[str, Iterable[str]]) -> list[str]:
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as exc:
        names: list[str] = exc.args[1]
        return names[::-1]
    return []


def test_no_circle_of_modules() -> None:
    assert circle(imports()) == []


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_runner_scripts_use_public_names_alone(name: str) -> None:
    lines = modules()[name].read_text().splitlines()
    imported = {line.split()[1] for line in lines if "taktora_trio" in line and line.startswith(("import", "from"))}
    assert imported == {"taktora_trio"}


@pytest.mark.parametrize("package", sorted(name for name, path in modules().items() if path.name == "__init__.py"))
def test_no_circle_in_a_package(package: str) -> None:
    """Its modules and packages, each with all that is in it as one."""
    depth = package.count(".") + 2
    graph = defaultdict[str, set[str]](set)
    for name, imported in imports().items():
        for other in imported:
            if name.startswith(f"{package}.") and other.startswith(f"{package}."):
                one, two = (".".join(it.split(".")[:depth]) for it in (name, other))
                if one != two:
                    graph[one].add(two)
    assert circle(graph) == []


def test_a_circle_is_found() -> None:
    assert circle({"a": ["b"], "b": ["c"], "c": []}) == []
    assert sorted(set(circle({"a": ["b"], "b": ["c"], "c": ["b"]}))) == ["b", "c"]
    assert "taktora_trio.connectors.mqtt" in imports()["taktora_trio"], "imports for type checkers count"
    assert "taktora_trio.executor" in imports()["taktora_trio.connectors.gateway"], "imports in functions count"


# Generic code names no protocol


def naming_lines(name: str, text: str) -> list[str]:
    """Lines of a file that name a protocol: in code, strings, docstrings and comments alike."""
    if name.startswith(PROTOCOLS_OWN):
        return []
    may = MAY_NAME.get(name)
    return [
        f"{name}:{number}: {line.strip()}"
        for number, line in enumerate(text.splitlines(), 1)
        if PROTOCOL_WORD.search(line) and not (may is not None and may.fullmatch(line))
    ]


def test_generic_code_names_no_protocol() -> None:
    paths = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py")}
    assert [line for name, path in paths.items() for line in naming_lines(name, path.read_text())] == []


def broker_lines(name: str, text: str) -> list[str]:
    """Strings of a file that speak of *the* broker: where code is for every protocol, there may be none."""
    if name.startswith((*PROTOCOLS_OWN, *MAY_HAVE_A_BROKER)):
        return []
    strings = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant))
    return [
        f"{name}:{node.lineno}: {found.group()}"
        for node in strings
        if isinstance(node.value, str)
        for found in re.finditer(r".*\b(the|each|your|this|no) broker.*|.*\bbrokers\b.*", node.value)
        if not AMONG_OTHERS.search(found.group())
    ]


def test_what_operators_read_speaks_of_a_broker_only_as_one_of_several_kinds_of_peer() -> None:
    paths = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py")}
    assert [line for name, path in paths.items() for line in broker_lines(name, path.read_text())] == []
    pages = [*(PACKAGE / "operate").rglob("*.js"), *(PACKAGE / "operate").rglob("*.html")]
    pages += (ROOT / "supervisors" / "grafana").iterdir()
    assert len(pages) > 4
    found = [f"{page.name}: {line}" for page in pages for line in page.read_text().splitlines() if "broker" in line]
    assert [line for line in found if not AMONG_OTHERS.search(line)] == []


def test_a_broker_that_need_not_be_there_is_found() -> None:
    assert broker_lines("operate/x.py", 'X = "See why the broker does not take it."') != []
    assert broker_lines("operate/x.py", 'def f():\n    """Show all brokers."""') != []
    assert broker_lines("operate/x.py", 'X = "the other side (a broker, a router) refuses it"') == []
    assert broker_lines("connectors/mqtt/x.py", 'X = "the broker"') == []


def test_a_protocols_name_is_found() -> None:
    for text in ("MqttConnector", "mqtts://", "of_qos_2", "PUBACK", "pubcomp", "mosquitto", "import paho", "# Zenoh"):
        assert naming_lines("connectors/bridge.py", f"first\n{text}") == [f"connectors/bridge.py:2: {text}"]
        assert naming_lines("connectors/mqtt/client.py", text) == []
    for text in ("requests", "acknowledge", "publish", "a broker", "subscriber"):
        assert naming_lines("connectors/bridge.py", text) == []
    exported = "    from taktora_trio.connectors.mqtt import MqttOptions as MqttOptions"
    assert naming_lines("__init__.py", exported) == []
    assert naming_lines("__init__.py", exported.strip()) != [], "imported at once, not by a type checker alone"
    assert naming_lines("cli.py", exported) != []
