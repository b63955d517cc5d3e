"""The docs are true of the tree: what a page names exists, and what it shows can be called as it is shown."""

from __future__ import annotations

import ast
import functools
import inspect
import re
import textwrap
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import pytest
from cyclopts import App

import taktora_trio
from taktora_trio import cli, executor
from taktora_trio.connectors.mqtt import MqttConnector
from taktora_trio.connectors.zenoh import ZenohConnector
from taktora_trio.runners.options import OWN_OPTIONS
from taktora_trio.testing import rig
from tests.command import ROOT

PAGES = {
    str(page.relative_to(ROOT)): page.read_text()
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "supervisors").rglob("*.md")]
}
LONGEST = 125  # characters of a line, outside tables and blocks

DOCS = ROOT / "docs"
# Where public names are, besides the package itself.
PUBLIC_MODULES = (
    "executor",
    "executor.observers.opentelemetry",
    "executor.observers.prometheus",
    "executor.observers.structlog",
    "testing",
    "testing.conformance",
    "testing.rig",
    "testing.strategies",
    "vitals",
)

BLOCK = re.compile(r"^ *```(\w*|\{\w+\})\n(.*?)^ *```$\n?", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
# A file with a suffix of ours, or a folder with a slash behind it; no part of a URL, of a topic, or of a system's path.
FILE = re.compile(
    r"(?<![\w/~$.{*:+-])((?:[\w.-]+/)*[\w-]+\.(?:py|md|yaml|service|toml|json|png|svg)\b|(?:[\w-]+/)+)(?![\w/*#+{$.])"
)
FOLDERS = ("", "taktora_trio")
# An app's own, or made while something runs.
NOT_IN_THE_TREE = re.compile(r"^(?:test_)?(?:asyncapi|greenhouse|hothouse|taktora)\b|^(queue|types)\.py$|^dist/$|HASH")
# The class of a variable of that name, wherever a page has one.
VARIABLES = {
    "host": "ConnectorHost",
    "reader": "ChannelReader",
    "writer": "ChannelWriter",
    "received": "Received",
    "executor": "Executor",
    "ctx": "Context",
    "failure": "Failure",
    "rig": "ConnectorRig",
}
OF_OTHER_PROGRAMS = {"--shm-size", "--init", "--ipc", "--pid", "--user", "--mount-proc"}  # docker's, unshare's


@pytest.mark.parametrize("page", PAGES)
def test_a_page(page: str) -> None:
    assert list(wrong(page)) == []


def wrong(page: str) -> Iterator[str]:
    """Yield all of one page that is not true, or can't be followed."""
    text = without_old_names(PAGES[page])
    prose, blocks = BLOCK.sub("", text), BLOCK.findall(text)
    spans = [span.replace("\n", " ") for span in SPAN.findall(prose)]
    shell = [line for kind, block in blocks if kind == "sh" for line in block.replace("\\\n", "").splitlines()]
    for line in prose.splitlines():
        if len(line) > LONGEST and not line.lstrip().startswith("|"):
            yield f"{len(line)} characters: {line}"
    for target in LINK.findall(prose):
        if not leads_somewhere(target, page):
            yield f"link: {target}"
    for span in spans:
        yield from (f"file: {file}" for file in FILE.findall(span) if not is_there(file, page))
        yield from (f"name: {name}" for name in names_in(span) if not exists(name))
        yield from (
            f"test: {name}" for name in re.findall(r"\btest_\w+\b(?!\.py)", span) if name not in names_of_tests()
        )
        yield from wrong_calls(parsed(span))
    for line in [*spans, *shell]:
        yield from wrong_command(line)
    for kind, block in blocks:
        if kind == "python":
            tree = ast.parse(textwrap.dedent(block))
            yield from wrong_imports(tree)
            yield from wrong_calls(tree)


def without_old_names(text: str) -> str:
    """Leave out the first column of a table of names that are gone."""
    return re.sub(
        r"<!-- old names: begin -->.*?<!-- old names: end -->",
        lambda table: re.sub(r"^ *\|[^|]*\|", "|", table[0], flags=re.MULTILINE),
        text,
        flags=re.DOTALL,
    )


def fields_of(cls: type) -> set[str]:
    return {field.alias for field in attrs.fields(cls)}


# Links and files


def leads_somewhere(target: str, page: str) -> bool:
    if "://" in target:
        return True
    file, _, anchor = target.partition("#")
    path = (ROOT / page).parent / file if file else ROOT / page
    if not path.exists():
        return False
    return not anchor or anchor in anchors(PAGES[str(path.resolve().relative_to(ROOT))])


def anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", BLOCK.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def is_there(file: str, page: str) -> bool:
    if NOT_IN_THE_TREE.search(file):
        return True
    if any((folder / file).exists() for folder in ((ROOT / page).parent, *(ROOT / folder for folder in FOLDERS))):
        return True
    return "/" not in file and file in file_names()  # a file without its folder: whichever is called so


@functools.cache
def file_names() -> set[str]:
    folders = (ROOT / folder for folder in ("taktora_trio", "tests", "examples", "supervisors"))
    return {path.name for folder in folders for path in folder.rglob("*.*")}


@functools.cache
def names_of_tests() -> set[str]:
    sources = [path.read_text() for path in (ROOT / "tests").rglob("*.py")]
    sources += [(ROOT / "taktora_trio" / "testing" / "conformance.py").read_text()]
    files = {path.stem for path in (ROOT / "tests").rglob("*.py")}
    return files | {name for source in sources for name in re.findall(r"^ *(?:async )?def (test_\w+)", source, re.M)}


# Names


@functools.cache
def public_names() -> dict[str, Any]:
    return {name: getattr(of, name) for of in (rig, executor, taktora_trio) for name in of.__all__}


def names_in(span: str) -> list[str]:
    """Return the names that begin with the package's, a public class's or a variable's that we know."""
    return [
        name
        for name in re.findall(r"(?<![\w./@-])[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+(?![\w/])", span)
        if (first := name.partition(".")[0]) == "taktora_trio" or first in VARIABLES or first in public_names()
        if not FILE.fullmatch(name)
    ]


def exists(name: str) -> bool:
    first, *rest = name.split(".")
    value: Any = taktora_trio if first == "taktora_trio" else public_names()[VARIABLES.get(first, first)]
    for part in rest:
        if hasattr(value, part):
            value = getattr(value, part)
        elif isinstance(value, ModuleType) and find_spec(f"{value.__name__}.{part}"):
            value = import_module(f"{value.__name__}.{part}")
        else:
            return False
        if not isinstance(value, (ModuleType, type)):
            return True  # what it is made of is only known when it is there
    return True


def wrong_imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("taktora_trio", "examples"):
            module = import_module(node.module or "")
            yield from (f"import: {alias.name}" for alias in node.names if not hasattr(module, alias.name))


def parsed(span: str) -> ast.AST:
    try:
        return ast.parse(span)
    except SyntaxError:
        return ast.Module([], [])  # it is no Python


def wrong_calls(tree: ast.AST) -> Iterator[str]:
    """Calls of public names with an argument that is not theirs."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called: Any = None
        if isinstance(node.func, ast.Name):
            called = public_names().get(node.func.id)
        elif isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name):
            called = getattr(public_names().get(VARIABLES.get(node.func.value.id, "")), node.func.attr, None)
        if not callable(called) or (isinstance(called, type) and issubclass(called, Exception)):
            continue
        known = inspect.signature(called).parameters
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
            continue
        yield from (f"argument: {ast.unparse(node)}: {k.arg}" for k in node.keywords if k.arg and k.arg not in known)


# Commands


def wrong_command(line: str) -> Iterator[str]:
    """Commands, modules, targets and options that are not there."""
    for command in re.findall(r"(?:^|\s)taktora-trio ([a-z][a-z-]*)", line):
        if command not in commands():
            yield f"command: {command}"
    for module in re.findall(r"python -m ((?:taktora_trio|examples|benchmarks|tests)[\w.]*)", line):
        if find_spec(module) is None:
            yield f"module: {module}"
    for target in re.findall(r"^make ([a-z]+)", line):
        if not re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE):
            yield f"target: {target}"


@functools.cache
def commands() -> dict[str, set[str]]:
    """Return the options of each command, but for `chaos`, whose module takes long to import."""
    found: dict[str, set[str]] = {"chaos": set()}
    for name in cli.app:
        if not name.startswith("-") and name not in ("chaos", "dead-letters"):
            found[name] = options_of(cli.app[name])
    letters = cli.app["dead-letters"]
    found["dead-letters"] = set().union(*(options_of(letters[name]) for name in letters if not name.startswith("-")))
    return found


def options_of(command: App) -> set[str]:
    arguments = command.assemble_argument_collection()
    return {option for argument in arguments if argument.parse for option in argument.names if option.startswith("--")}


def test_the_operators_page_has_each_option_of_each_command_and_no_other() -> None:
    text = PAGES["docs/operating.md"]
    documented: dict[str, set[str]] = {name: set() for name in commands()}
    for options, of in re.findall(r"^\| (`--[^|]*(?:\\\|[^|]*)*) \| (`[^|]*) \|", text, re.MULTILINE):
        for command in re.findall(r"`([a-z-]+)[ `]", of):
            documented[command] |= set(re.findall(r"--[a-z-]+", options))
    assert documented == commands()
    listed = [*MqttConnector.settings, *ZenohConnector.settings]
    settings = {f"--{setting.name}" for setting in listed}
    fields = {f"--{name.replace('_', '-')}" for name in fields_of(taktora_trio.ZenohOptions)}
    said = (
        set(re.findall(r"(?<![\w-])--[a-z][a-z-]*[a-z]", text))
        - OF_OTHER_PROGRAMS
        - {"--help", "--version", "--x-password-file", "--faults"}
    )
    assert said <= settings | fields | set().union(*commands().values())
    assert settings <= said


def test_what_the_command_takes_for_its_own_are_its_options() -> None:
    assert {name: commands()[name] for name in OWN_OPTIONS} == {name: set(own) for name, own in OWN_OPTIONS.items()}


def test_the_page_about_connectors_shows_the_example_as_it_is() -> None:
    files = [
        *(ROOT / "examples" / "line_protocol").glob("*.py"),
        ROOT / "tests" / "conformance" / "test_line_protocol.py",
    ]
    shown = [block.strip() for kind, block in BLOCK.findall(PAGES["docs/connectors.md"]) if kind == "python"]
    assert len(shown) > 5
    sources = [path.read_text() for path in files]
    assert [block for block in shown if not any(block in source for source in sources)] == []


@pytest.mark.parametrize(
    ("page", "heading", "fields"),
    [
        ("docs/operating.md", "## The MQTT session", fields_of(taktora_trio.MqttOptions)),
        ("docs/operating.md", "## The Zenoh node", fields_of(taktora_trio.ZenohOptions)),
        ("docs/supervision.md", "## The policy", fields_of(taktora_trio.RestartPolicy)),
        ("docs/health.md", "A `Failure` has:", {*fields_of(taktora_trio.Failure), "next_attempt"}),
    ],
    ids=["MqttOptions", "ZenohOptions", "RestartPolicy", "Failure"],
)
def test_a_table_has_each_field(page: str, heading: str, fields: set[str]) -> None:
    text = PAGES[page]
    table = re.match(r"(?:(?!\|).*\n)*((?:\|.*\n)+)", text[text.index(heading) :])
    assert table is not None
    first_cells = re.findall(r"^\| (`[^|]*) \|", table[1], re.MULTILINE)
    assert {name for cell in first_cells for name in re.findall(r"`(\w+)`", cell)} >= fields


# The site


def test_every_public_name_is_in_the_reference_and_once() -> None:
    public = [f"taktora_trio.{name}" for name in taktora_trio.__all__]
    for module in PUBLIC_MODULES:
        public += [f"taktora_trio.{module}.{name}" for name in import_module(f"taktora_trio.{module}").__all__]
    listed = [name for page in (DOCS / "reference").glob("*.rst") for name in names_on(page)]
    assert sorted(listed) == sorted(public)


def names_on(page: Path) -> Iterator[str]:
    module = ""
    for directive, name in re.findall(r"^\.\. (auto\w+|currentmodule):: ([\w.]+)$", page.read_text(), re.MULTILINE):
        if directive == "currentmodule":
            module = name
        else:
            yield name if name.startswith("taktora_trio.") else f"{module}.{name}"


def test_the_navigation_leads_to_every_page() -> None:
    reached = set(reached_from(DOCS / "index.md"))
    pages = {ROOT / page for page in PAGES if page.startswith("docs/")} | {*(DOCS / "reference").glob("*.rst")}
    assert sorted(pages - reached) == []
    assert sorted(reached - pages) == []


def reached_from(page: Path) -> Iterator[Path]:
    yield page
    text = page.read_text()
    trees = re.findall(r"^```\{toctree\}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    trees += re.findall(r"^\.\. toctree::\n((?:[ \t].*\n|\n)*)", text, re.MULTILINE)
    for entry in (line.strip() for tree in trees for line in tree.splitlines()):
        if not entry or entry.startswith(":"):
            continue
        found = sorted(path for suffix in (".md", ".rst") for path in page.parent.glob(entry + suffix))
        assert found, f"{page.name} leads to {entry}, which is not there"
        for each in found:
            yield from reached_from(each)
