"""Each line that the package logs has the code of an event, which docs/events.md explains."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests import events_page
from tests.command import ROOT
from tests.events_page import ALL

EVENTS = {code: event for area in ALL.values() for code, event in area.items()}
PACKAGE = ROOT / "taktora_trio"
LEVELS = {"debug", "info", "warning", "error", "exception", "critical", "log"}
NOT_OURS = {
    "runners/child_log.py": "it passes on what a process has logged, with its codes",
    "executor/observers/structlog.py": "it logs an app's items, by another library",
    "scaffold/examples": "apps log what they like",
}


def calls(path: Path) -> Iterator[tuple[str, ast.Call, ast.Module]]:
    """Yield each log call of a module: its level, and where its arguments are, which may be those of a partial."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            for candidate in (node.func, *node.args):
                if (
                    isinstance(candidate, ast.Attribute)
                    and isinstance(candidate.value, ast.Name)
                    and candidate.value.id in ("log", "logger", "logging")
                    and candidate.attr in LEVELS
                ):
                    yield candidate.attr, node, tree


def codes(call: ast.Call, tree: ast.Module) -> list[str]:
    """Return the codes that a call may have; none if they can't be told."""
    for keyword in call.keywords:
        if keyword.arg == "extra" and isinstance(keyword.value, ast.Dict):
            for name, value in zip(keyword.value.keys, keyword.value.values, strict=True):
                if isinstance(name, ast.Constant) and name.value == "event":
                    return list(_constants(value, tree))
    return []


def _constants(value: ast.expr, tree: ast.Module) -> Iterator[str]:
    match value:
        case ast.Constant(value=str(text)):
            yield text
        case ast.IfExp(body=body, orelse=orelse):
            yield from _constants(body, tree)
            yield from _constants(orelse, tree)
        case ast.Subscript(value=ast.Name(id=table)):  # a table of the module
            for node in tree.body:
                if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == table:
                    assert isinstance(node.value, ast.Dict)
                    for each in node.value.values:
                        yield from _constants(each, tree)


FOUND = [
    (f"{path.relative_to(PACKAGE)}:{call.lineno}", level, codes(call, tree))
    for path in sorted(PACKAGE.rglob("*.py"))
    if not str(path.relative_to(PACKAGE)).startswith(tuple(NOT_OURS))
    for level, call, tree in calls(path)
]


def test_there_are_calls() -> None:
    assert len(FOUND) > 100


def test_each_call_has_a_code_that_is_in_the_table() -> None:
    assert [place for place, _, found in FOUND if not found] == []
    assert [(place, code) for place, _, found in FOUND for code in found if code not in EVENTS] == []


def test_each_code_has_one_level() -> None:
    wrong = [
        (place, code, EVENTS[code].level)
        for place, level, found in FOUND
        for code in found
        if level != "log" and EVENTS[code].level != {"exception": "error"}.get(level, level)
    ]
    assert wrong == []


def test_the_table_has_no_code_that_nothing_logs() -> None:
    made = {code for _, _, found in FOUND for code in found}
    source = "\n".join((PACKAGE / name).read_text() for name in ("runners/this_process/logs.py",))
    source += (PACKAGE / "runners/this_process/repeats.py").read_text() + (PACKAGE / "runners/child_log.py").read_text()
    assert [code for code in EVENTS if code not in made and f'"{code}"' not in source] == []


def test_no_code_is_in_two_areas() -> None:
    assert len(EVENTS) == sum(map(len, ALL.values()))


def test_a_code_is_a_short_name_with_sentences_behind_it() -> None:
    for code, event in EVENTS.items():
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", code)
        assert len(code) <= 24, code
        for text in (event.meaning, event.remedy):
            assert text.endswith("."), code
            assert "|" not in text, "it stands in a table"


def test_the_page_is_made_from_the_table() -> None:
    assert events_page.PAGE.read_text() == events_page.page(), "python -m tests.events_page"
